"""The adapters that `notebooks/make_loras.py` trained: what they do to answers they never saw."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import gguf
import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny

DATA = Path(__file__).resolve().parents[3] / "notebooks" / "data"
STYLES = ("pirate", "telegram")
REPORT = json.loads((DATA / "styles.json").read_text())


@pytest.fixture(scope="module")
def score(smollm2):
    """A function: the mean log-probability of a token of (n of) the held-out answers in a style."""
    with (DATA / "styles.tsv").open(encoding="utf-8", newline="") as file:
        held_out = list(csv.DictReader(file, delimiter="\t"))[3::4]
    end = smollm2.tokenize("<|im_end|>", add_special=False, parse_special=True)
    with smollm2.session(n_ctx=512) as session:

        def scored(style, adapters, n=None):
            session.adapters = adapters
            logprobs = []
            for row in held_out[:n]:
                asked = smollm2.render_chat([{"role": "user", "content": row["question"]}]).tokens
                answer = smollm2.tokenize(row[style], add_special=False) + end
                logprobs.append(session.score(answer, given=asked, top=1).logprob)
            return float(np.concatenate(logprobs).mean())

        yield scored


@pytest.mark.parametrize("style", STYLES)
def test_answers_that_were_held_out_become_likelier(score, style):
    path = DATA / f"{style}.gguf"
    adapter = ml.LoraAdapter.load(path)
    assert (adapter.rank, adapter.name) == (4, style) and adapter.size_bytes < 1e6
    said = REPORT["adapters"][style]
    before, after = score(style, {}), score(style, {adapter: 1.0})
    assert before == pytest.approx(said["before"], abs=0.1)
    assert after == pytest.approx(said["after"][f"on {style}"], abs=0.1)
    assert after > before + 1


def test_both_together_keep_some_of_each(score):
    both = {ml.LoraAdapter.load(DATA / f"{style}.gguf"): 0.5 for style in STYLES}
    for style in STYLES:
        assert score(style, both, 3) > score(style, {}, 3)


def test_rows_of_q_lie_as_llama_cpp_takes_them(score, smollm2, tmp_path):
    """What was learnt of q alone helps; with its rows as transformers has them, it does not."""
    stem = "attn_q.weight.lora_"
    right = {
        one.name: np.array(one.data)
        for one in gguf.GGUFReader(DATA / "pirate.gguf").tensors
        if stem in one.name
    }
    wrong = {name: _as_in_transformers(half, smollm2.n_head) for name, half in right.items()}
    scores = []
    for halves in (right, wrong):
        names = sorted({name.rpartition(".")[0] for name in halves})
        pairs = {name: (halves[f"{name}.lora_a"], halves[f"{name}.lora_b"]) for name in names}
        path = tiny.write_adapter(tmp_path / f"{len(scores)}.gguf", pairs, alpha=8.0)
        scores.append(score("pirate", {ml.LoraAdapter.load(path): 1.0}, 4))
    assert scores[0] > scores[1] + 0.4


def _as_in_transformers(half, n_head):
    """B of q with its rows in their first order; A stays."""
    if half.shape[0] == 4:
        return half
    pairs = half.reshape(n_head, len(half) // n_head // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(half.shape)

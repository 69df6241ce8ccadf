"""Noise: what is measured, and that branches stay below it."""

from __future__ import annotations

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.noise_floor import MARGIN, known_floor, row_differences
from mullama_lab.engine.stages import Mask
from mullama_lab.studies.noise import N_PLACES, TEXTS, WHAT, noise

NO_END = Mask(ban=[tiny.EOS])
PROMPT = [1, *range(10, 50)]


@pytest.fixture(scope="module", params=["llama", "gemma3", "mamba", "jamba"])
def any_model(request, tmp_path_factory):
    """A model with plain attention, with a sliding window of 16 tokens, recurrent, hybrid."""
    path = tmp_path_factory.mktemp("models") / f"{request.param}.gguf"
    with Model.load(tiny.write(path, architecture=request.param)) as model:
        yield model


@pytest.fixture(scope="module")
def measured(any_model):
    return noise(any_model, threads=[1, 2], progress=False)


def fresh(model, tokens):
    with model.session(n_ctx=512, n_threads=1) as session:
        return session.logits(tokens)


def test_the_floor_lies_above_all_that_was_seen_and_far_below_another_text(any_model, measured):
    floor, table = measured.floor, measured.to_pandas()
    assert list(dict.fromkeys(table["what"])) == list(WHAT)
    for measure in ("logit", "logprob", "kl", "js"):
        assert getattr(floor, measure) >= MARGIN * table[measure].max() > 0
    assert floor.kl >= MARGIN**2 * table["kl"].max()  # it grows as a square
    assert floor.logit < 0.1
    assert not floor.same(fresh(any_model, PROMPT), fresh(any_model, [*PROMPT[:-1], 90]))
    assert known_floor(any_model) is floor


def test_a_decode_of_the_same_batch_is_the_same_to_the_last_bit(measured):
    table = measured.to_pandas()
    again = table[table["what"] == "the same again"]
    assert len(again) == N_PLACES * len(TEXTS)
    assert (again["logit"] == 0).all()
    assert (table[table["what"] != "the same again"]["logit"] > 0).any()


def test_a_branchs_logits_are_those_of_a_fresh_decode_within_the_noise(any_model, measured):
    with any_model.session(n_ctx=512, n_threads=1, n_seq_max=4) as session:
        trace = session.generate(PROMPT, NO_END, max_tokens=16, seed=3)
        branch = session.branch(trace, 5, 70, NO_END, max_tokens=8)
        for step in (5, 6, 9, 13):
            tokens = [*PROMPT, *branch.tokens[:step].tolist()]
            row = fresh(any_model, tokens)
            normal = row - np.logaddexp.reduce(row.astype(np.float64))
            apart = normal[branch.top_ids[step]] - branch.top_logprobs[step]
            assert measured.floor.within(np.abs(apart).max(), "logit")
            reused = session.logits(tokens, sequence=session.fork(n_tokens=8))
            assert measured.floor.same(reused, row)
            session.remove(max(session.sequences))


def test_a_model_that_speaks_calls_a_branch_the_same_and_another_word_not(smollm2):
    with smollm2.session(n_ctx=512) as session:
        floor = noise(session, "The capital of France is Paris, and that", batch_sizes=[1],
                      threads=[1], neighbours=[1, 3], progress=False).floor  # fmt: skip
        trace = session.generate("The capital of France is", max_tokens=6, seed=1)
        branch = session.branch(trace, 0, " London", max_tokens=3)
        tokens = [*trace.prompt_tokens, *branch.tokens[:2]]
        reused = session.logits(tokens, sequence=session.fork(n_tokens=2))
        with smollm2.session(n_ctx=512) as other:
            row = other.logits(tokens)
            another = other.logits([*trace.prompt_tokens, *trace.tokens[:2]])
    assert floor.same(reused, row), row_differences(reused, row)
    assert not floor.same(another, row)


def test_the_cache_of_the_session_that_is_asked_about_stays_as_it_is(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, kv_type="q8_0") as session:
        session.logits(PROMPT)
        before = session.ledger
        coarse = noise(session, PROMPT, batch_sizes=[1], threads=[1], neighbours=[1],
                       progress=False)  # fmt: skip
        assert session.ledger == before
        assert session.tokens.tolist() == PROMPT
    assert len(coarse) == N_PLACES * 6
    assert "Noise of" in repr(coarse)
    summary = coarse.summary()
    assert summary.loc[("reused cache", "forked"), "n_other_best"] >= 0
    assert summary["logit"].max() == coarse.to_pandas()["logit"].max()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": [1]}, "fewer than 2 tokens"),
        ({"text": ""}, "fewer than 2 tokens"),
        ({"batch_sizes": [0]}, "a batch size=0: it must be from 1 to 96"),
        ({"threads": [0]}, "threads=0: it must be from 1 to 512"),
        ({"neighbours": [256]}, "neighbours=256: it must be from 1 to 255"),
    ],
)
def test_what_cannot_be_measured_is_named(tiny_model, arguments, said):
    with pytest.raises(ValueError, match=said):
        noise(tiny_model, progress=False, **arguments)
    with pytest.raises(TypeError, match="give a Session, or a Model"):
        noise("smollm2-135m")  # type: ignore[arg-type]

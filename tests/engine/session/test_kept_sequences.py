"""What a person keeps in a cache is never lost in silence; and what a session warns of."""

from __future__ import annotations

import re
import sys
import warnings
from contextlib import suppress

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Mask
from mullama_lab.errors import ContextFull

NO_END = Mask(ban=[tiny.EOS])
NOISE = 0.02
TEXT = [1, *(10 + i % 200 for i in range(349))]


def loaded(folder, architecture, **keys):
    path = tiny.write(folder / "t.gguf", architecture=architecture, n_ctx_train=1 << 16, **keys)
    return Model.load(path)


def sizes(session):
    return {sequence: len(tokens) for sequence, tokens in session.sequences.items()}


def test_a_fork_that_would_overwrite_its_parent_is_refused_and_nothing_is_lost(tmp_path):
    with loaded(tmp_path, "jamba") as model, model.session(n_ctx=512, n_threads=1) as session:
        session.logits(TEXT)
        with pytest.raises(ContextFull, match="a fork of 300 of its 350 tokens decodes them again"):
            session.fork(n_tokens=300)
        assert sizes(session) == {0: 350}
        before = session.ledger
        session.logits([*TEXT, 5])
        assert (session.ledger - before).decoded == 1  # it is all there still
        fork = session.fork()  # whole, it decodes nothing
        assert sizes(session) == {0: 351, fork: 351}
        np.testing.assert_allclose(
            session.logits([*TEXT, 5, 6], sequence=fork),
            session.logits([*TEXT, 5, 6]),
            atol=NOISE,
        )
        assert session.fork(n_tokens=150) == fork + 1  # which fits


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "jamba"])
@pytest.mark.parametrize("kv_unified", [True, False])
def test_no_operation_takes_from_a_kept_sequence(tmp_path, architecture, kv_unified):
    """Each either leaves it as it is or is refused."""
    options = {"n_ctx": 512 if kv_unified else 2048, "n_threads": 1, "n_seq_max": 4}
    with (
        loaded(tmp_path, architecture) as model,
        model.session(**options, kv_unified=kv_unified) as session,
    ):
        session.logits(TEXT[:200])
        kept = session.fork()
        trace = session.generate(TEXT[:50], NO_END, max_tokens=9, seed=1)
        others = [[1, 9 + i, *TEXT[2:200]] for i in range(5)]
        works = [
            lambda: session.logits([1, *TEXT[7:300]]),
            lambda: session.generate_many(others, NO_END, max_tokens=50, seeds=1),
            lambda: session.branch(trace, 3, 7, NO_END, max_tokens=300),
            lambda: session.branch_many([(trace, i, 7) for i in range(6)], max_tokens=60),
            lambda: session.score([1, *TEXT[9:320]]),
            lambda: session.score(TEXT[200:300], given=TEXT[:250]),
            lambda: session.choose(TEXT[:240], [[7] * n for n in (1, 9, 90)]),
            lambda: session.fork(n_tokens=40),
            lambda: session.rewind(20),
            lambda: session.start_rows(others, lambda *_: None).result(),
        ]
        for work in works:
            with suppress(ContextFull):
                work()
            assert session.sequences[kept].tolist() == TEXT[:200]
        before = session.ledger
        session.logits([*TEXT[:200], 5], sequence=kept)
        assert (session.ledger - before).decoded == 1


@pytest.mark.parametrize("architecture", ["mamba", "jamba"])
def test_a_stop_that_costs_a_recurrent_model_its_states_costs_no_kept_tokens(
    tmp_path, architecture, until
):
    with (
        loaded(tmp_path, architecture) as model,
        model.session(n_ctx=1 << 15, n_batch=512, n_threads=1, n_seq_max=4) as session,
    ):
        expected = session.logits([*TEXT[:40], 5])
        session.reset()
        session.logits(TEXT[:40])
        kept = session.fork()
        run = session.start([1, *[20, 21, 22] * 10000], max_tokens=1)
        until(lambda: run.progress[0] > 0)
        run.stop()
        assert run.wait().finish_reason == "stopped"
        assert session.sequences[kept].tolist() == TEXT[:40]
        fork = session.fork(kept)
        assert sizes(session)[kept] == sizes(session)[fork] == 40
        before = session.ledger
        row = session.logits([*TEXT[:40], 5], sequence=fork)
        assert (session.ledger - before).decoded == 1
        np.testing.assert_allclose(row, expected, atol=NOISE)
        run = session.start([1, *[20, 21, 22] * 10000], max_tokens=1)
        until(lambda: run.progress[0] > 0)
        run.stop()
        run.wait()
        session.save(tmp_path / "s.safetensors")
        assert sizes(session)[kept] == 40
        with Session.load(tmp_path / "s.safetensors", model) as again:
            assert sizes(again)[kept] == 40
            assert sizes(again)[fork] == 41


# Longer than what the model was trained on.


def opened(model, **options):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        line = sys._getframe().f_lineno + 1
        model.session(n_threads=1, **options).close()
    assert all(w.filename == __file__ and w.lineno == line for w in said)
    assert all(issubclass(w.category, UserWarning) for w in said)
    return [str(w.message) for w in said]


def test_a_context_past_the_trained_length_warns_once_at_the_callers_line(tiny_model):
    (said,) = opened(tiny_model, n_ctx=513)
    assert re.search(r"n_ctx=513: .* trained on texts of up to 512 tokens", said)
    assert opened(tiny_model, n_ctx=512) == []
    assert opened(tiny_model) == []
    assert opened(tiny_model, n_ctx=1024, n_seq_max=2, kv_unified=False) == []  # 512 each


def test_a_length_that_is_unknown_warns_of_nothing(tmp_path):
    with Model.load(tiny.write(tmp_path / "t.gguf")) as model:
        model.n_ctx_train = 0  # no file that llama.cpp loads leaves it out
        assert opened(model, n_ctx=1024) == []


@pytest.mark.parametrize("kind", ["yarn", "linear"])
def test_rope_scaling_in_the_file_is_part_of_the_length(tmp_path, kind):
    keys = {
        "llama.rope.scaling.type": kind,
        "llama.rope.scaling.factor": 4.0,
        "llama.rope.scaling.original_context_length": 512,
    }
    with Model.load(tiny.write(tmp_path / "t.gguf", metadata=keys)) as model:
        assert opened(model, n_ctx=2048) == []
        (said,) = opened(model, n_ctx=2049)
        assert f"up to 2048 tokens, with its RoPE scaling ({kind} by 4)" in said

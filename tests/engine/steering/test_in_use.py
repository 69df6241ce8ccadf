"""Adapters that are damaged, or gone, while they act."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import DecodeError
from mullama_lab.studies.effect import effect, steered, strengths

PROMPT = list(range(5, 25))


def written(path, number):
    halves = np.full((2, 32), number, np.float32), np.full((64, 2), 0.5, np.float32)
    return tiny.write_adapter(path, {"blk.0.attn_q.weight": halves})


def test_an_adapter_acts_on_when_nobody_holds_it_and_its_file_is_gone(tiny_model, tmp_path):
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        base = session.logits(PROMPT)
        path = written(tmp_path / "a.gguf", 0.25)
        session.adapters = {ml.LoraAdapter.load(path): 1.0}
        row = session.logits(PROMPT)
        assert not np.array_equal(row, base)
        path.unlink()
        gc.collect()
        with tiny_model.session(n_ctx=64, n_threads=1) as other:
            for number in range(40):  # more than are remembered for a model
                each = written(tmp_path / f"{number}.gguf", 1 + 0.1 * number)
                other.adapters = {ml.LoraAdapter.load(each): 1.0}
                other.logits(PROMPT)
        gc.collect()
        session.reset()
        assert np.array_equal(session.logits(PROMPT), row)
        assert len(session.generate(PROMPT, ml.Mask(ban=range(5)), max_tokens=8, seed=1)) == 8
        session.adapters = {}
        assert np.array_equal(session.logits(PROMPT), base)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_none_in_an_adapter_are_an_error_and_what_follows_is_sound(
    tiny_model, tmp_path, number
):
    adapter = ml.LoraAdapter.load(written(tmp_path / "a.gguf", number))
    setting = ml.Setting(adapters={adapter: 1.0})
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        base = session.logits(PROMPT)
        for ask in (
            lambda: session.generate(PROMPT, setting, max_tokens=4),
            lambda: session.generate_many([PROMPT, PROMPT], setting, max_tokens=4),
            lambda: effect(session, PROMPT, setting),
            lambda: effect(session, PROMPT, ml.Setting(), setting),
            lambda: strengths(session, PROMPT, adapter, [1.0], progress=False),
            lambda: steered(session, PROMPT, adapter, [1.0], progress=False),
        ):
            with pytest.raises(DecodeError, match="or an adapter that acts is"):
                ask()
            assert np.array_equal(session.logits(PROMPT), base)
        session.steer(setting)
        for ask in (lambda: session.score(PROMPT), lambda: session.hidden(PROMPT)):
            with pytest.raises(DecodeError, match="adapter"):
                ask()
        session.adapters = {}
        assert np.array_equal(session.logits(PROMPT), base)

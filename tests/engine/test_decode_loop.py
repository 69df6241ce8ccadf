"""The bare decode loop: what it decodes, what of it is timed, and how it is stopped."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from mullama_lab.engine import decode_loop, tiny
from mullama_lab.engine.decode_loop import DecodeLoop, Opening, Timed
from mullama_lab.engine.model import Model
from mullama_lab.engine.native import context as native
from mullama_lab.engine.native.batch import LogitRows
from mullama_lab.engine.native.state import last_position
from mullama_lab.errors import ClosedError, ModelLoadError, SessionError, Stopped

F16 = ("f16", "f16")


def opening(n_each=64, n_sequences=1, **settings):
    usual = {"n_batch": 32, "n_ubatch": 16, "flash_attention": "auto", "kv_types": F16}
    return Opening(n_each, n_sequences, **{**usual, **settings})


@pytest.fixture(scope="module", params=["llama", "gemma3", "mamba", "jamba"])
def any_model(request, tmp_path_factory):
    """A model with plain attention, with a sliding window of 16 tokens, recurrent, hybrid."""
    path = tmp_path_factory.mktemp("models") / f"{request.param}.gguf"
    with Model.load(tiny.write(path, architecture=request.param)) as model:
        yield model


@pytest.fixture
def contexts(monkeypatch):
    """The contexts that llama.cpp has open, in the order in which they were opened."""
    there = []
    opened, freed = native.new_context, native.free_context

    def new_context(*args, **named):
        there.append(opened(*args, **named))
        return there[-1]

    def free_context(handle):
        there.remove(handle)
        freed(handle)

    monkeypatch.setattr(native, "new_context", new_context)
    monkeypatch.setattr(native, "free_context", free_context)
    return there


@pytest.mark.parametrize("n_sequences", [1, 3])
def test_the_clock_runs_from_the_end_of_the_depth_to_the_last_token(
    any_model, n_sequences, contexts, monkeypatch
):
    seen = []
    clock = decode_loop.perf_counter_ns
    with DecodeLoop(any_model) as loop:

        def look():
            (handle,) = contexts
            seen.append([last_position(handle, sequence) for sequence in range(n_sequences)])
            return clock()

        monkeypatch.setattr(decode_loop, "perf_counter_ns", look)
        loop.open(opening(n_sequences=n_sequences))
        for timed in (Timed(40, 3, 17, 1), Timed(40, 0, 17, 1), Timed(0, 5, 17, 1)):
            assert loop.time(timed) > 0  # the depth is decoded once, then copied
        loop.open(opening(n_sequences=n_sequences))  # the copy fits a fresh context
        assert loop.time(Timed(2, 1, 17, 1)) > 0
    ends = [[16], [59], [16], [56], [16], [21], [16], [19]]
    assert seen == [end * n_sequences for end in ends]


def test_what_is_decoded_behind_a_copied_depth_is_what_is_decoded_behind_a_decoded_one(
    any_model, contexts
):
    rows = []
    with DecodeLoop(any_model) as loop:
        loop.open(opening())
        for _ in range(2):
            loop.time(Timed(8, 0, 20, 1, seed=5))
            rows.append(LogitRows(contexts[0], any_model.n_vocab)[-1].copy())
    assert np.abs(rows[0] - rows[1]).max() < 0.02 < np.ptp(rows[0])


def test_what_a_sequence_holds_grows_by_its_keys_and_values(tiny_model, contexts):
    head = tiny_model.metadata["llama.attention.key_length"]
    a_token = 2 * 2 * tiny_model.n_layer * tiny_model.n_head_kv * head  # keys and values in f16
    with DecodeLoop(tiny_model) as loop:
        loop.open(opening())
        grown = loop.held_bytes(50, 1) - loop.held_bytes(10, 2)
        assert native.n_threads(contexts[0]) == 2
    assert 40 * a_token <= grown <= 40 * (a_token + 32)  # and a position


def test_a_loop_that_is_stopped_says_so_and_can_go_on(tiny_model):
    with DecodeLoop(tiny_model) as loop:
        loop.open(opening(n_each=20_000))
        threading.Timer(0.2, loop.stop).start()
        start = time.monotonic()
        with pytest.raises(Stopped):
            loop.time(Timed(0, 19_000, 0, 1))
        assert time.monotonic() - start < 20
        assert loop.time(Timed(4, 0, 0, 1)) > 0


def test_a_loop_holds_one_context_and_ends_with_its_model(tiny_path, contexts):
    model = Model.load(tiny_path)
    loop = DecodeLoop(model)
    for _ in range(2):
        loop.open(opening())
        assert len(contexts) == 1
    model.close()
    assert loop.closed and contexts == []
    with pytest.raises(ClosedError):
        loop.time(Timed(1, 0, 0, 1))
    with pytest.raises(ClosedError):
        DecodeLoop(model)


def test_without_a_context_nothing_is_asked_of_llama_cpp(tiny_model):
    refused = opening(flash_attention="off", kv_types=("f16", "q8_0"))
    with DecodeLoop(tiny_model) as loop:
        for _ in range(2):  # before one is opened, and after one that could not be
            with pytest.raises(SessionError, match="no context"):
                loop.time(Timed(1, 0, 0, 1))
            with pytest.raises(SessionError, match="no context"):
                loop.held_bytes(1, 1)
            with pytest.raises(ModelLoadError):
                loop.open(refused)
        loop.open(opening())
        assert loop.time(Timed(1, 0, 0, 1)) > 0


def test_what_would_not_fit_or_cannot_generate_is_refused_before_memory_is_taken(
    tiny_model, tiny_path
):
    with DecodeLoop(tiny_model) as loop, pytest.raises(ValueError, match="GB are free"):
        loop.open(opening(n_each=1 << 24, n_sequences=256))
    with (
        Model.load(tiny_path, vocab_only=True) as words,
        pytest.raises(ModelLoadError, match="vocab_only"),
    ):
        DecodeLoop(words)

"""A step is recorded beside the next decode or before it, with the same trace and errors."""

from __future__ import annotations

from time import sleep

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.loop.drawing import Drawing
from mullama_lab.engine.native import context as native
from mullama_lab.engine.stages import Mask, Penalties, Temperature, TopK
from mullama_lab.errors import DecodeError

CHAIN = Mask(ban=(tiny.EOS,)) | Penalties(repeat=1.2) | TopK(30) | Temperature(1.1)
TIMES = {"decode_ns", "sample_ns", "constraint_ns", "capture_ns", "wall_ns"}


@pytest.fixture(params=[True, False], ids=["beside", "before"])
def session(request, tiny_model, monkeypatch):
    n_cores = 2 if request.param else 1
    monkeypatch.setattr("mullama_lab.engine.cache.cache.os.cpu_count", lambda: n_cores)
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        yield session


def test_a_session_that_takes_every_core_records_before_it_decodes(tiny_model, monkeypatch):
    monkeypatch.setattr("mullama_lab.engine.cache.cache.os.cpu_count", lambda: 2)
    for n_threads, leaves_a_core in ((1, True), (2, False)):
        with tiny_model.session(n_ctx=64, n_threads=n_threads) as session:
            trace = session.generate("Hello", CHAIN, max_tokens=1)
            assert trace.captured_aside == leaves_a_core


def test_the_trace_is_that_of_the_same_draws(session, tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as other:
        expected = other.generate("Hello", CHAIN, max_tokens=40, seed=3)
    trace = session.generate("Hello", CHAIN, max_tokens=40, seed=3)
    assert len(trace) == 40
    for name, column in expected.columns().items():
        if name not in TIMES:
            np.testing.assert_array_equal(trace.columns()[name], column, name)
    for step in (0, 20, 39):
        for mine, theirs in zip(trace.kept(step), expected.kept(step), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_step_that_cannot_be_recorded_ends_the_generation_and_not_the_session(
    session, monkeypatch
):
    record = Drawing.record

    def broken(self, draw):
        if len(self.trace) == 5:
            raise DecodeError("the row is damaged.")
        record(self, draw)

    with monkeypatch.context() as patch:
        patch.setattr(Drawing, "record", broken)
        with pytest.raises(DecodeError, match="the row is damaged"):
            session.generate("Hello", CHAIN, max_tokens=40, seed=3)
    assert (len(session.last_trace), session.last_trace.finish_reason) == (5, "failed")
    assert len(session.generate("Hello", CHAIN, max_tokens=8, seed=3)) == 8


def test_a_decode_lasts_until_its_results_are_there(session, monkeypatch):
    before = session.ledger.seconds
    monkeypatch.setattr(native, "wait_for_results", lambda context: sleep(0.01))  # as on a GPU
    trace = session.generate("Hello", CHAIN, max_tokens=5, seed=3)
    assert (trace.decode_ns >= 10_000_000).all()
    assert session.ledger.seconds - before >= 0.05

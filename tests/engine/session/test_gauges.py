"""Gauges: what a session is doing, seen from another thread."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.session.gauges import when_opened

NO_END = ml.Chain([ml.Mask(ban=[tiny.EOS])])


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        yield session


def test_they_count_what_was_drawn_and_what_was_decoded(session):
    assert session.gauges.read() == (True, 0, 0, None, 0, 256, 0, 0)
    trace = session.generate([1, 5, 6], NO_END, max_tokens=4, seed=1)
    shown = session.gauges.read()
    assert (shown.generated, shown.decoded, shown.n_cells) == (4, 3 + 3, 6)
    assert shown.first_token[1] == trace.seconds_to_first_token
    session.generate_many([1, 7], NO_END, max_tokens=4, seeds=range(3))
    assert session.gauges.read().generated == 4 + 3 * 4
    session.score([1, 5, 6])
    assert session.gauges.read().generated == 4 + 3 * 4  # given ones are not drawn


def test_a_branch_counts_what_it_draws_alone(session):
    trace = session.generate([1, 5], NO_END, max_tokens=4, seed=1)
    branch = session.branch(trace, 2, 9, max_tokens=4)
    assert session.gauges.read().generated == 4 + len(branch) - branch.n_copied


def test_they_show_what_is_at_work_and_what_waits_while_the_worker_is_held(session):
    held, go_on = threading.Event(), threading.Event()

    def hold(row, _):
        held.set()
        go_on.wait(30)
        return row

    run = session.start([1, 5], ml.Custom(hold), max_tokens=1)
    assert held.wait(30)
    behind = [session.start([1, 6], max_tokens=1) for _ in range(2)]
    shown = session.gauges.read()
    assert (shown.n_active, shown.n_waiting, shown.n_cells) == (1, 2, 2)
    go_on.set()
    for each in (run, *behind):
        each.wait()
    shown = session.gauges.read()
    assert shown.n_waiting == 0


def test_caches_that_share_no_cells_have_room_for_each_sequence(tiny_model):
    with tiny_model.session(n_ctx=64, n_threads=1, n_seq_max=3, kv_unified=False) as session:
        assert session.gauges.read().n_cells_max == session.n_ctx * 3 == 63


def test_a_closed_session_still_says_what_it_counted(tiny_model):
    session = tiny_model.session(n_ctx=64, n_threads=1)
    session.generate([1, 5], NO_END, max_tokens=3, seed=1)
    session.close()
    shown = session.gauges.read()
    assert not shown.is_open and shown.generated == 3 and shown[4:] == (0, 0, 0, 0)


def test_they_keep_no_session_alive(tiny_model):
    session = tiny_model.session(n_ctx=64, n_threads=1)
    session.generate([1, 5], NO_END, max_tokens=3, seed=1)
    gauges, there = session.gauges, weakref.ref(session)
    del session
    gc.collect()
    assert there() is None
    assert not gauges.read().is_open and gauges.read().generated == 3


def test_who_wants_to_know_is_told_of_each_session_that_is_opened(tiny_model):
    seen = []
    undo = when_opened(seen.append)
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        assert seen == [session.gauges] and seen[0].model() is tiny_model
    undo(), undo()
    tiny_model.session(n_ctx=64, n_threads=1).close()
    assert len(seen) == 1

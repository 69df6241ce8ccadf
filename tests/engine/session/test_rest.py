"""`on_rest`: who wants to know is told whenever the session has nothing left to do."""

from __future__ import annotations

import threading

import pytest

import mullama_lab as ml


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=128, n_threads=1) as session:
        yield session


WORKS = {
    "a generation": lambda session: session.generate("Hello", max_tokens=3),
    "several": lambda session: session.generate_many(["Hello", "World"], max_tokens=3),
    "a row": lambda session: session.logits("Hello"),
    "a scored text": lambda session: session.score("Hello"),
    "a reset": lambda session: session.reset(),
    "a rewind": lambda session: session.rewind(0),
    "its end": lambda session: session.close(),
}


@pytest.mark.parametrize("work", WORKS)
def test_it_is_told_after_whatever_the_session_did(session, until, work):
    told = []
    session.on_rest(lambda: told.append((session.closed, threading.get_ident())))
    WORKS[work](session)
    until(lambda: told)
    assert told[-1][0] == (work == "its end")
    assert told[-1][1] != threading.get_ident(), "on the session's own thread"


def test_it_is_not_told_between_the_tokens_of_a_run(session, until):
    n_told = []
    session.on_rest(lambda: n_told.append(len(session.last_trace)))
    session.generate("Hello", ml.Greedy() | ml.Mask(ban=range(5)), max_tokens=20)
    until(lambda: n_told)
    session.reset()
    assert n_told[0] == 20


def test_what_it_calls_may_fail_and_be_taken_back(session, until, caplog):
    told = []

    def fails():
        told.append("fails")
        raise RuntimeError("no")

    undo = session.on_rest(fails)
    session.logits("Hello")
    until(lambda: "what watches a generation failed" in caplog.text)
    undo()
    undo()
    session.on_rest(lambda: told.append("second"))
    session.logits("Hello again")
    until(lambda: "second" in told)  # what was being told when it was taken back is over now
    n_fails, n_second = told.count("fails"), told.count("second")
    session.logits("Once more")
    until(lambda: told.count("second") > n_second)
    assert told.count("fails") == n_fails >= 1
    with pytest.raises(TypeError, match="function"):
        session.on_rest(3)

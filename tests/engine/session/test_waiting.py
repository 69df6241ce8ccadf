"""A call that waits behind a background run says so, where a person watches, until it begins."""

from __future__ import annotations

import contextlib
import io
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mullama_lab.engine import bar, tiny
from mullama_lab.engine.loop.scheduler import Scheduler
from mullama_lab.engine.stages import Chain, Custom, Mask
from mullama_lab.errors import ClosedError

NO_END = Chain([Mask(ban=[tiny.EOS])])
SAID = "Waiting for the session's earlier work. To end that: interrupt, then session.stop()"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal shows, where a wait of 0.3 seconds is a long one."""
    monkeypatch.setattr(bar, "SHOWN_AFTER", 0.3)
    return Terminal()


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


@contextlib.contextmanager
def busy(session, seconds, shown):
    """A background run that takes so long; what a person is shown meanwhile is written."""
    opened, at_work = threading.Event(), threading.Event()

    def slow(logits, history):
        at_work.set()
        opened.wait(seconds)
        return logits

    run = session.start("x", NO_END | Custom(slow), max_tokens=1)
    assert at_work.wait(20)
    try:
        with contextlib.redirect_stderr(shown):
            yield run
    finally:
        opened.set()
        run.wait()


CALLS = {
    "generate": lambda session: session.generate("abc", NO_END, max_tokens=2),
    "generate_many": lambda session: session.generate_many(["abc"] * 2, NO_END, max_tokens=2),
    "stream": lambda session: list(session.stream("abc", NO_END, max_tokens=2)),
    "logits": lambda session: session.logits("abc"),
    "score": lambda session: session.score("abc"),
    "choose": lambda session: session.choose("abc", ["a", "bc"]),
    "fork": lambda session: session.remove(session.fork()),
    "one of several": lambda session: session.start_many(["a"] * 2, max_tokens=1)[1].wait(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_waits_behind_a_run_says_so_and_how_to_end_that(session, terminal, call):
    with busy(session, 1, terminal):
        call(session)
    assert f"{SAID} (" in terminal.getvalue()
    last = terminal.getvalue().rsplit("\r", 2)
    assert last[-1] == "" and last[-2].strip() == "", "the line goes when the wait ends"


def test_the_line_goes_when_the_call_begins_not_when_it_ends(session, terminal):
    seen = []

    def slow(logits, history):
        if len(seen) < 30:
            time.sleep(0.02)
        seen.append(terminal.getvalue())
        return logits

    with busy(session, 1, terminal):
        session.generate("abc", NO_END | Custom(slow), max_tokens=40)
    assert SAID in seen[0]
    assert seen[-1] == terminal.getvalue()
    assert seen[-1].rsplit("\r", 2)[-2].strip() == ""


def test_a_long_call_that_waits_for_none_says_nothing(session, terminal):
    with busy(session, 0.8, terminal) as run:
        run.wait()
    assert terminal.getvalue() == ""


def test_a_wait_that_nobody_sees_says_nothing(session, terminal):
    with busy(session, 0.8, terminal), ThreadPoolExecutor(1) as pool:
        pool.submit(session.logits, "abc").result()
    assert terminal.getvalue() == ""
    file = io.StringIO()
    with busy(session, 0.8, file):
        session.logits("abc")
    assert file.getvalue() == ""


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_ctrl_c_ends_the_wait_and_its_line_and_leaves_the_run_alone(session, terminal, call):
    with busy(session, 20, terminal) as run:
        ctrl_c = threading.Timer(0.7, signal.raise_signal, [signal.SIGINT])
        ctrl_c.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            call(session)
        assert time.monotonic() - began < 15
        assert SAID in terminal.getvalue()
        assert terminal.getvalue().rsplit("\r", 2)[-2].strip() == ""
        assert not run.done
        session.stop()
    assert run.state == "stopped"
    assert len(session.generate("abc", NO_END, max_tokens=2)) == 2


def test_closing_the_session_ends_the_wait_and_its_line(tiny_model, terminal):
    session = tiny_model.session(n_ctx=256, n_threads=1)
    with busy(session, 1, terminal):
        threading.Timer(0.5, session.close).start()
        with pytest.raises(ClosedError):
            session.logits("abc")
    assert SAID in terminal.getvalue()
    assert terminal.getvalue().rsplit("\r", 2)[-2].strip() == ""


def test_where_the_sessions_thread_failed_all_that_waits_is_told_and_it_is_closed(
    tiny_model, monkeypatch, caplog
):
    def fail(*_):
        raise RuntimeError("a defect")

    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        monkeypatch.setattr(Scheduler, "tick", fail)
        works = []
        with pytest.raises(ClosedError):
            for _ in range(1000):
                works.append(session.start_logits("abc"))
        for work in works:
            with pytest.raises(ClosedError, match="session failed.*a defect.*Open another"):
                work.result(timeout=20)
        assert session.closed and "the thread of a session failed" in caplog.text
        with pytest.raises(ClosedError, match="a defect"):
            session.generate("abc")
    monkeypatch.undo()
    with tiny_model.session(n_ctx=256) as session:
        assert len(session.generate("abc", NO_END, max_tokens=2)) == 2

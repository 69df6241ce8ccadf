"""LatestOnly: work aside, of which only the newest counts."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref

import pytest

from mullama_lab.engine import latest_only
from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.work import WAIT_STEP


@pytest.fixture
def errors():
    return []


@pytest.fixture
def latest(errors):
    latest = LatestOnly("test-latest", errors.append)
    yield latest
    latest.close()


class Held:
    """Work that goes on until it is let go."""

    def __init__(self, then=lambda: None):
        self.at_work, self.open, self.then = threading.Event(), threading.Event(), then

    def __call__(self):
        self.at_work.set()
        assert self.open.wait(20)
        self.then()


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "test-latest"]


@pytest.fixture
def woken(monkeypatch):
    """A list that grows each time that a wait of the thread at work ends."""
    woken, wait = [], threading.Condition.wait

    def counted(condition, timeout=None):
        result = wait(condition, timeout)
        if threading.current_thread().name == "test-latest":
            woken.append(timeout)
        return result

    monkeypatch.setattr(threading.Condition, "wait", counted)
    return woken


def test_of_what_is_submitted_meanwhile_only_the_newest_is_done(latest):
    done, held = [], Held()
    latest.submit(held)
    assert held.at_work.wait(20)
    for n in range(5):
        latest.submit(lambda n=n: done.append(n))
    held.open.set()
    latest.settle()
    assert done == [4]


def test_one_piece_is_done_at_a_time(latest):
    at_work, most = [], []

    def work():
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.001)
        at_work.pop()

    for _ in range(50):
        latest.submit(work)
        time.sleep(0.0005)
    latest.settle()
    assert set(most) == {1} and len(most) > 1


def test_work_knows_whether_something_newer_was_asked_for(latest):
    answers = []
    held = Held(lambda: answers.append(latest.is_current()))
    latest.submit(held)
    assert held.at_work.wait(20)
    latest.submit(lambda: answers.append(latest.is_current()))
    held.open.set()
    latest.settle()
    assert answers == [False, True]


@pytest.mark.parametrize("outdate", ["submit", "drop", "close"])
def test_work_that_waits_for_something_newer_hears_of_it_at_once(latest, outdate):
    waits, answers = threading.Event(), []

    def work():
        waits.set()
        answers.append(latest.is_current(20))

    latest.submit(work)
    assert waits.wait(20)
    began = time.monotonic()
    {"submit": lambda: latest.submit(int), "drop": latest.drop, "close": latest.close}[outdate]()
    latest.settle()
    assert answers == [False] and time.monotonic() - began < 10


def test_what_was_dropped_is_not_done(latest):
    done, held = [], Held()
    latest.submit(held)
    assert held.at_work.wait(20)
    latest.submit(lambda: done.append(1))
    latest.drop()
    held.open.set()
    latest.settle()
    assert done == [] and not latest.is_busy


def test_a_closed_one_drops_what_waits_takes_no_more_and_ends_its_thread(latest, until):
    done, held = [], Held()
    latest.submit(held)
    assert held.at_work.wait(20)
    latest.submit(lambda: done.append(1))
    latest.close()
    latest.submit(lambda: done.append(2))
    assert latest.is_busy  # with what it had begun
    held.open.set()
    latest.settle()
    until(lambda: not threads())
    assert done == []


def test_what_work_raises_goes_to_one_callback_and_ends_nothing(latest, errors, caplog):
    def fail(error):
        raise error

    with caplog.at_level(logging.ERROR):
        for error in (ValueError("known"), RuntimeError("unknown")):
            latest.submit(lambda error=error: fail(error))
            latest.settle()
    assert [str(error) for error in errors] == ["known", "unknown"]
    assert "unknown" in caplog.text and "known\n" not in caplog.text.replace("unknown", "")
    done = []
    latest.submit(lambda: done.append(1))
    latest.settle()
    assert done == [1]


def test_a_callback_that_fails_ends_nothing_either(caplog, capfd):
    latest = LatestOnly("test-latest", lambda error: 1 / 0)
    latest.submit(lambda: int("x"))
    latest.settle()
    latest.submit(lambda: None)
    latest.settle()
    latest.close()
    assert "division" in caplog.text and capfd.readouterr().err == ""


def test_work_that_settles_does_not_wait_for_itself(latest):
    done = []
    latest.submit(lambda: (latest.settle(), done.append(1)))
    latest.settle()
    assert done == [1]


def test_the_end_is_waited_for_in_steps(latest, monkeypatch):
    held, waits, wait = Held(), [], threading.Condition.wait
    latest.submit(held)
    assert held.at_work.wait(20)

    def stepped(condition, timeout=None):
        if threading.current_thread().name == "test-latest":
            return wait(condition, timeout)
        waits.append(timeout)
        held.open.set()
        return wait(condition, 0)

    monkeypatch.setattr(threading.Condition, "wait", stepped)
    latest.settle()
    monkeypatch.undo()
    assert set(waits) == {WAIT_STEP}


def test_its_thread_ends_when_it_is_idle_for_a_while_and_another_one_begins(
    latest, until, monkeypatch
):
    monkeypatch.setattr(latest_only, "LINGER", 0.01)
    for _ in range(3):
        done = []
        latest.submit(lambda done=done: done.append(1))
        until(lambda done=done: done == [1])
        until(lambda: not threads())


def test_nothing_wakes_while_nothing_happens(latest, woken, monkeypatch):
    monkeypatch.setattr(latest_only, "LINGER", 30.0)
    latest.submit(lambda: None)
    latest.settle()
    n = len(woken)
    time.sleep(1)
    assert len(woken) == n and len(threads()) == 1


def test_after_a_pause_work_begins_at_once_and_then_in_a_measured_pace(until):
    latest = LatestOnly("test-latest", print, rest=0.3)
    times = []
    began = time.monotonic()
    while time.monotonic() < began + 1.3:
        latest.submit(lambda: times.append(time.monotonic() - began))
        time.sleep(0.001)
    latest.close()
    until(lambda: not threads())
    assert times[latest_only.BURST - 1] < 0.3 <= times[latest_only.BURST]
    assert len(times) <= latest_only.BURST + 1 + times[-1] / 0.3


def test_what_comes_while_it_rests_does_not_wake_it(until, woken):
    latest = LatestOnly("test-latest", print, rest=0.3)
    times = []
    for _ in range(600):
        latest.submit(lambda: times.append(1))
        time.sleep(0.001)
    latest.close()
    until(lambda: not threads())
    assert len(woken) <= 2 * len(times) + 2 < 300  # once for work, once to rest


def test_neither_the_thread_nor_its_work_keeps_an_owner_alive(until):
    class Owner:
        def __init__(self):
            self.latest = LatestOnly("test-latest", print)

    owner = Owner()
    ref = weakref.ref(owner)
    held = Held(lambda owner=owner: owner)
    owner.latest.submit(held)
    assert held.at_work.wait(20)
    del owner
    held.open.set()
    del held
    until(lambda: gc.collect() is not None and ref() is None)
    until(lambda: not threads())


def in_a_process(code):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_fork_whose_parent_was_at_work_does_work_of_its_own():
    code = """
import os, threading
from mullama_lab.engine.latest_only import LatestOnly
made, kind = [], threading.RLock
threading.RLock = lambda: made.append(kind()) or made[-1]
latest = LatestOnly("aside", print)
threading.RLock = kind
(lock,) = made
begun, go_on = threading.Event(), threading.Event()
latest.submit(lambda: (begun.set(), go_on.wait()))
begun.wait()
latest.submit(lambda: print("parent", flush=True))
lock.acquire()
child = os.fork()
if child == 0:
    latest.settle()
    latest.submit(lambda: print("child", flush=True))
    latest.settle()
    os._exit(0)
lock.release()
os.waitpid(child, 0)
go_on.set()
latest.settle()
"""
    assert in_a_process(code) == ["child", "parent"]


@pytest.mark.parametrize("ending", ["at work", "idle", "resting", "submits at exit"])
def test_an_interpreter_ends_in_silence_whatever_it_does(ending):
    code = f"""
import atexit, threading, time
from mullama_lab.engine.latest_only import LatestOnly
ending = {ending!r}
latest = LatestOnly("aside", print, rest=30.0 if ending == "resting" else 0.0)
begun = threading.Event()
def work():
    begun.set()
    while ending == "at work":
        sum(range(1000))
for _ in range(5):
    latest.submit(work)
    begun.wait()
if ending == "submits at exit":
    class AtTheEnd:
        def __del__(self):
            latest.submit(lambda: print("too late"))
    kept = AtTheEnd()
print("over")
"""
    assert in_a_process(code) == ["over"]

"""How views are told of the runs they follow: at once, not too often, and to the end."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
import weakref

import pytest

import mullama_lab as ml
from mullama_lab.engine import latest_only, tiny
from mullama_lab.engine.latest_only import BURST
from mullama_lab.widgets import BranchTree, RunPanel, TokenStrip, _followed_runs
from mullama_lab.widgets._followed_runs import FollowedRuns

NO_END = ml.Mask(ban=[tiny.EOS])


class View:
    """Notes what it is told."""

    def __init__(self):
        self.told = []
        self.followed = FollowedRuns(self.show)

    def show(self, run):
        self.told.append((time.monotonic(), run.state, len(run.trace)))

    @property
    def last(self):
        return self.told[-1][1:]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with ml.Model.load(tiny.write(tmp_path_factory.mktemp("model") / "tiny.gguf")) as model:
        yield model


@pytest.fixture
def session(model):
    with model.session(n_ctx=512, n_threads=1) as session:
        yield session


@pytest.fixture
def view():
    view = View()
    yield view
    view.followed.close()


class Gate:
    """A stage that goes on when it is told to, from its nth token on."""

    def __init__(self, n=1):
        self.n, self.at_work, self.open = n, threading.Event(), threading.Event()

    def __call__(self, logits, history):
        self.n -= 1
        if self.n <= 0:
            self.at_work.set()
            assert self.open.wait(20)
        logits[tiny.EOS] = -float("inf")
        return logits


def view_threads():
    return [thread for thread in threading.enumerate() if thread.name == "mullama-view"]


def test_what_is_new_is_told_at_once(session, view, monkeypatch):
    monkeypatch.setattr(view.followed._latest, "_rest", 5.0)
    gate = Gate()
    run = session.start("abc", ml.Custom(gate), max_tokens=3)
    assert gate.at_work.wait(20)
    view.followed.follow(run)
    drawn = time.monotonic()
    gate.open.set()
    run.wait()
    while len(view.told) < 2:
        assert time.monotonic() < drawn + 4  # no period was waited for
        time.sleep(0.001)
    assert view.told[1][2] >= 1


def test_a_fast_run_is_told_at_most_28_times_in_a_second(session, view):
    run = session.start("abc", NO_END, max_tokens=500)
    view.followed.follow(run)
    run.wait()
    view.followed.settle()
    assert view.last == ("finished", len(run.trace))
    seconds = view.told[-1][0] - view.told[0][0]
    assert len(view.told) <= BURST + 1 + seconds / _followed_runs.MESSAGE_PERIOD


def test_nothing_wakes_while_a_run_brings_nothing(session, view, monkeypatch):
    monkeypatch.setattr(latest_only, "LINGER", 30.0)
    gate = Gate()
    run = session.start("abc", ml.Custom(gate), max_tokens=3)
    assert gate.at_work.wait(20)
    view.followed.follow(run)
    time.sleep(0.3)
    latest = view.followed._latest
    woken = []
    for condition in (latest._asked, latest._done, view.followed._changed):
        condition.wait = lambda timeout=None, wait=condition.wait: woken.append(1) or wait(timeout)
    n = len(view.told)
    time.sleep(1)
    assert len(view.told) == n and woken == []
    gate.open.set()
    view.followed.settle()
    assert view.last == ("finished", 3)


def test_a_view_is_told_of_a_run_that_waits_for_another_one(session, view, until):
    gate = Gate()
    first = session.start("abc", ml.Custom(gate), max_tokens=1)
    second = session.start("x" * 300, NO_END, max_tokens=1, sequence=0)
    view.followed.follow(second)
    until(lambda: view.told)
    gate.open.set()
    view.followed.settle()
    assert first.done and view.told[0][1] == "queued" and view.last == ("finished", 1)


@pytest.mark.parametrize("how", ["finished", "stopped", "failed", "while queued", "closed"])
def test_the_end_is_always_told(model, view, how):
    gate = Gate(2)
    with model.session(n_ctx=512, n_threads=1) as session:
        stage = ml.Custom(lambda logits, history: logits[:3]) if how == "failed" else NO_END
        first = session.start("abc", ml.Custom(gate), max_tokens=3)
        assert gate.at_work.wait(20)
        run = first
        if how in ("failed", "while queued"):
            run = session.start("abc", stage, max_tokens=3, sequence=0)
        view.followed.follow(run)
        if how in ("stopped", "while queued"):
            run.stop()
        closing = threading.Thread(target=session.close)
        if how == "closed":
            closing.start()
            while not run.stop_requested:
                time.sleep(0.001)
        gate.open.set()
        view.followed.settle()
        assert run.done and view.followed.in_flight == []
        expected = {"while queued": "stopped", "closed": "stopped"}.get(how, how)
        assert view.last == (expected, len(run.trace))


def test_runs_that_are_followed_side_by_side_are_each_told_to_the_end(session):
    ends = []

    class Several:
        def __init__(self):
            self.followed = FollowedRuns(self.show)

        def show(self, run):
            if run.done:
                ends.append(run)

    view = Several()
    runs = [session.start("abc", NO_END, max_tokens=5, seed=seed) for seed in range(4)]
    for run in runs:
        view.followed.follow(run)
        view.followed.follow(run)  # once is enough
    view.followed.settle()
    assert set(ends) == set(runs)
    view.followed.close()


def test_a_slow_page_does_not_slow_a_generation(session):
    strip, sent, go_on = TokenStrip(), threading.Event(), threading.Event()

    def send(content, buffers=None):
        sent.set()
        assert go_on.wait(20)

    strip.send = send
    run = session.start("abc", NO_END, max_tokens=200)
    strip.follow(run)
    assert sent.wait(20)
    assert len(run.wait(20)) == 200  # while the first message is still on its way
    go_on.set()
    strip.settle()
    assert (strip.n, strip.state) == (200, "finished")


def test_a_view_that_fails_is_told_again_but_not_for_ever(session, caplog):
    class Failing(View):
        n_fail = 2

        def show(self, run):
            super().show(run)
            if len(self.told) <= self.n_fail:
                raise RuntimeError("not now")

    run = session.start("abc", NO_END, max_tokens=3)
    run.wait()
    with caplog.at_level(logging.ERROR):
        for n_fail, told in ((2, 3), (99, _followed_runs.MOST_FAILURES)):
            view = Failing()
            view.n_fail = n_fail
            view.followed.follow(run)
            view.followed.settle()
            assert len(view.told) == told and view.last[0] == "finished"
            view.followed.close()
    assert "not now" in caplog.text


def test_a_view_that_is_closed_says_the_end_there_is_and_then_no_more(session, until):
    before = len(view_threads())
    gate = Gate(2)
    ended = session.generate("abc", NO_END, max_tokens=2) and session.run
    run = session.start("abc", ml.Custom(gate), max_tokens=3)
    assert gate.at_work.wait(20)
    view = View()
    view.followed.follow(run)
    view.followed.follow(ended)
    view.followed.close()
    n = len(view.told)
    assert ("finished", 2) in [told[1:] for told in view.told]
    gate.open.set()
    run.wait()
    session.generate("abc", max_tokens=0)  # the end was told by now
    assert len(view.told) == n and run._news._listeners == ()
    until(lambda: len(view_threads()) <= before)


@pytest.mark.parametrize("kind", [RunPanel, TokenStrip, BranchTree])
@pytest.mark.parametrize("closed", [True, False])
def test_a_view_that_nobody_holds_is_let_go_while_its_run_goes_on(session, kind, closed, until):
    gate = Gate(2)
    run = session.start("abc", ml.Custom(gate), max_tokens=9)
    assert gate.at_work.wait(20)
    view = kind()
    view.follow(run)
    ref = weakref.ref(view)
    if closed:
        view.close()
    del view
    until(lambda: gc.collect() is not None and ref() is None)
    assert run._news._listeners == ()
    gate.open.set()
    assert len(run.wait()) == 9
    until(lambda: not view_threads())


def test_the_page_of_a_lab_that_is_closed_in_the_middle_says_how_its_run_ended(model, until):
    for name in ("SamplerLab", "BranchLab"):
        lab = getattr(ml.labs, name)(model, "Hello", chain=NO_END, max_tokens=400)
        run = lab.start()
        until(lambda run=run: len(run.trace) > 2)
        lab.close()
        assert run.done
        assert lab.panel.state == lab.strip.state == run.state
        assert lab.strip.n == len(run.trace)


@pytest.mark.parametrize("lab", ["SamplerLab", "BranchLab"])
def test_an_interpreter_ends_in_silence_while_labs_follow_runs(model, lab):
    code = f"""
import mullama_lab as ml
model = ml.Model.load({str(model.path)!r})
labs = [ml.labs.{lab}(model, "Hello", max_tokens=100_000, chain=ml.Mask(ban=[2])) for _ in range(3)]
runs = [lab.start() for lab in labs]
while min(len(run.trace) for run in runs) < 20:
    pass
print("over")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


def test_a_fork_that_settles_does_not_hang(session, in_a_fork):
    gate = Gate(2)
    run = session.start("abc", ml.Custom(gate), max_tokens=3)
    assert gate.at_work.wait(20)
    view = View()
    view.followed.follow(run)

    def settled():
        view.followed.settle()
        return view.last[0] == "failed" and run.done

    assert in_a_fork(settled)
    gate.open.set()
    view.followed.settle()
    assert view.last == ("finished", 3)
    view.followed.close()

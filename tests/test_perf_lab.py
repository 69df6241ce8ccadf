"""PerfLab: time and memory of the runs of a workbench, measured while they are on the screen."""

from __future__ import annotations

import threading

import psutil
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.studies.timing import timing

ENDLESS = ml.Mask(ban=range(5)) | ml.Greedy()


@pytest.fixture
def lab(tiny_model):
    lab = ml.labs.PerfLab(tiny_model, "Hello", chain=ENDLESS, max_tokens=12, seed=7)
    lab.wait()
    yield lab
    lab.close()


def test_it_is_the_workbench_with_time_and_memory_open(lab):
    assert isinstance(lab, ml.Workbench) and lab.panels == ["time", "memory"]
    assert "panels=['time', 'memory']" in lab.to_code()
    assert [type(view).__name__ for view in lab._still_views()] == [
        *("RunPanel", "TokenStrip", "Meters", "TimeStrip", "MemoryMap", "PlanBoard")
    ]


def test_the_strip_times_the_text_that_is_shown(lab):
    first = lab.run()
    lab.wait()
    assert lab.time_strip.timing.total.tolist() == timing(first).total.tolist()
    lab.set(max_tokens=5)
    second = lab.run()
    lab.wait()
    assert len(lab.time_strip.timing) == len(second) == 5
    lab.panel.select(1)
    lab.wait()
    assert len(lab.time_strip.timing) == 12
    lab._show(lab.session.score("Hello"))
    lab.wait()
    assert lab.time_strip.timing is None, "a scored text was not timed"


def test_it_follows_a_run_and_reads_while_that_goes_on(lab, until):
    assert not lab.monitor.running
    goes_on = threading.Event()
    undo = lab.session.on_start(lambda run: run.on_step(lambda step: goes_on.wait(60)))
    run = lab.start()
    until(lambda: lab.monitor.running and lab.time_strip.timing is not None)
    assert not run.done and lab.meters.monitor is lab.monitor
    goes_on.set()
    undo()
    run.wait()
    lab.wait()
    until(lambda: not lab.monitor.running and lab.meters.state == "stopped")
    assert 11 <= lab.monitor.n_generated <= 12, "the first was drawn before it began to read"


def test_the_memory_is_that_of_its_session(lab, until):
    lab.run()
    until(lambda: lab.memory_map.memory.used_bytes == lab.session.memory.used_bytes > 0)


def test_a_plan_begins_with_the_session_and_follows_what_is_turned(lab, monkeypatch):
    session, board = lab.session, lab.plan_board
    assert (board.n_ctx, board.n_seq_max) == (session.n_ctx, session.n_seq_max)
    assert board.whole["total"] == pytest.approx(session.memory.total_bytes, rel=0.05)
    memory = psutil.virtual_memory()._replace(available=1_000_000)
    with monkeypatch.context() as patched:
        patched.setattr(psutil, "virtual_memory", lambda: memory)
        board.n_ctx = 4096
        lab.wait()
    assert not board.fits and "it does not fit" in board.said
    board.n_ctx = 64
    lab.wait()
    assert board.fits and board.problem == ""


def test_what_is_hidden_measures_nothing_and_catches_up(lab):
    whole = lab.plan_board.whole
    lab.panels = ["samplers"]
    lab.run()
    lab.wait()
    assert not len(lab.monitor) and lab.time_strip.timing is None
    assert lab.memory_map.memory is None
    lab.plan_board.n_ctx = 1024
    lab.wait()
    assert lab.plan_board.whole["total"] == whole["total"]
    lab.panels = ["time", "memory"]
    lab.wait()
    assert len(lab.time_strip.timing) == 12 and lab.memory_map.memory.used_bytes > 0
    assert lab.plan_board.whole["total"] != whole["total"]


def test_another_model_has_its_own_time_and_memory(lab, tmp_path):
    other = tiny.write(tmp_path / "other.gguf", n_vocab=300)  # runs stay with their model
    lab.run()
    lab.wait()
    before = lab.monitor
    lab.load(other, n_ctx=64)
    lab.wait()
    assert lab.monitor is not before and not before.running and not len(lab.monitor)
    assert lab.time_strip.timing is None and lab.memory_map.memory.used_bytes == 0


def test_a_closed_lab_reads_no_more(lab):
    goes_on = threading.Event()
    lab.session.on_start(lambda run: run.on_step(lambda step: goes_on.wait(60)))
    lab.start()
    goes_on.set()
    lab.close()
    assert not lab.monitor.running

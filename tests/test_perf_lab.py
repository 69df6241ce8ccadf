"""PerfLab: time and memory of the runs of a workbench, measured while they are on the screen."""

from __future__ import annotations

import threading
import warnings

import psutil
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.native import model as native
from mullama_lab.errors import ModelLoadError
from mullama_lab.labs import _time_panel
from mullama_lab.studies import monitor as monitor_study
from mullama_lab.studies.planner import Planner
from mullama_lab.studies.timing import timing

ENDLESS = ml.Mask(ban=range(5)) | ml.Greedy()


@pytest.fixture
def lab(tiny_model):
    lab = ml.labs.PerfLab(tiny_model, "Hello", chain=ENDLESS, max_tokens=12, seed=7)
    lab.wait()
    yield lab
    lab.close()


@pytest.fixture
def held(lab):
    """Holds each run of the lab at its steps until it is set."""
    goes_on = threading.Event()
    lab.session.on_start(lambda run: run.on_step(lambda step: goes_on.wait(60)))
    yield goes_on
    goes_on.set()


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


def test_it_follows_a_run_and_reads_while_that_goes_on(lab, held, until):
    assert not lab.monitor.running
    run = lab.start()
    until(lambda: lab.monitor.running and lab.time_strip.timing is not None)
    assert not run.done and lab.meters.monitor is lab.monitor
    held.set()
    run.wait()
    lab.wait()
    until(lambda: not lab.monitor.running and lab.meters.state == "stopped")
    assert 11 <= lab.monitor.n_generated <= 12, "the first was drawn before it began to read"


def test_the_memory_is_that_of_its_session(lab, until):
    lab.run()
    until(lambda: lab.memory_map.memory.used_bytes == lab.session.memory.used_bytes > 0)


def test_a_plan_is_of_the_model_as_it_was_loaded(tiny_path, monkeypatch):
    asked, load = [], native.load_outline

    def look(path, placement, overrides):
        asked.append(placement)
        return load(path, placement, overrides)

    monkeypatch.setattr(native, "load_outline", look)
    with ml.Model.load(tiny_path, override_tensor={"attn": "CPU"}) as model:
        lab = ml.labs.PerfLab(model, "Hello", max_tokens=2)
        lab.wait()
        assert lab.plan_board.whole
        lab.close()
    assert asked == [model.placement] and model.placement.override_tensor == (("attn", "CPU"),)


def test_a_session_that_was_closed_is_said_where_its_memory_would_be(tiny_model):
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        lab = ml.Workbench(session)
    lab.panels = ["memory"]  # what a click on its tab does
    lab.wait()
    assert "the session is closed" in lab.memory_map.problem
    lab.close()


def test_memory_that_cannot_be_read_leaves_the_lab_at_work(tiny_model, monkeypatch):
    def unheard(session):
        raise ModelLoadError("its log did not say")

    with monkeypatch.context() as patched:
        patched.setattr(ml.Session, "memory", property(unheard))
        lab = ml.labs.PerfLab(tiny_model, chain=ENDLESS, max_tokens=3)
        lab.wait()
    assert lab.memory_map.problem == "its log did not say"
    assert len(lab.run()) == 3
    lab.close()


def test_a_plan_begins_with_the_session_and_follows_what_is_turned(lab, monkeypatch):
    session, board = lab.session, lab.plan_board
    assert (board.n_ctx, board.n_seq_max) == (session.n_ctx, session.n_seq_max)
    assert board.whole["total"] == pytest.approx(session.memory.total_bytes, rel=0.05)
    memory = psutil.virtual_memory()._replace(available=1_300_000)
    with monkeypatch.context() as patched:
        patched.setattr(psutil, "virtual_memory", lambda: memory)
        lab.panels = ["samplers"]
        lab.panels = ["memory"]
        lab.wait()
        assert board.fits and "held by the open session: it fits" in board.said, "as it runs"
        board.n_ctx = 1 << 16
        lab.wait()
    assert not board.fits and "it does not fit" in board.said
    board.n_ctx = 64
    lab.wait()
    assert board.fits and board.problem == ""


def test_a_plan_is_of_the_session_and_its_model(tiny_path, monkeypatch):
    found, plan = [], Planner.plan

    def kept(planner, **settings):
        found.append(plan(planner, **settings))
        return found[-1]

    monkeypatch.setattr(Planner, "plan", kept)
    given = {"n_ctx": 256, "n_batch": 64, "kv_type": ("q8_0", "f16"), "flash_attention": "on"}
    model = ml.Model.load(tiny_path, mmap=False)
    with model, model.session(**given, reproducible=True, n_seq_max=4, n_threads=1) as session:
        lab = ml.labs.PerfLab(session)
        lab.wait()
        board, memory = lab.plan_board, session.memory
        assert {**session.settings, **board.settings} == dict(session.settings)
        parts = {part["label"]: part["bytes"] for part in board.whole["parts"]}
        assert (parts["KV cache"], parts["compute"]) == (memory.kv_bytes, memory.compute_bytes)
        names = {buffer.name for buffer in found[-1].buffers}
        assert names == {buffer.name for buffer in memory.buffers}, "its weights were read"
        lab.close()


def test_a_plan_that_is_no_longer_wanted_is_not_shown(lab, monkeypatch):
    """One begun before the last turn would be the last to say something."""
    board, begun, goes_on = lab.plan_board, threading.Event(), threading.Event()
    shown = []
    monkeypatch.setattr(board, "show", lambda planned, settings: shown.append(settings["n_ctx"]))
    plan = Planner.plan

    def held_up(planner, **settings):
        begun.set()
        goes_on.wait(60)
        return plan(planner, **settings)

    monkeypatch.setattr(Planner, "plan", held_up)
    board.n_ctx = 1024
    assert begun.wait(60)
    board.n_ctx = 2048
    goes_on.set()
    lab.wait()
    assert shown == [2048]


def test_a_board_that_is_turned_reads_the_file_once(tiny_model, monkeypatch):
    read, load, closed, close = [], native.load_outline, [], Planner.close

    def counted(path, *args):
        read.append(path)
        return load(path, *args)

    monkeypatch.setattr(native, "load_outline", counted)
    monkeypatch.setattr(Planner, "close", lambda one: closed.append(one) or close(one))
    lab = ml.labs.PerfLab(tiny_model)
    for n_ctx in (1024, 2048, 4096):
        lab.plan_board.n_ctx = n_ctx
        lab.wait()
        assert not lab.plan_board.stale
    assert read == [tiny_model.path]
    lab.panels = ["time"]
    assert len(closed) == 1, "what nobody looks at holds no vocabulary"
    lab.panels = ["memory"]
    lab.wait()
    assert len(read) == 2
    lab.close()
    assert len(closed) == 2


def test_what_is_hidden_measures_nothing_and_catches_up(lab):
    whole = lab.plan_board.whole
    lab.panels = ["samplers"]
    lab.run()
    lab.wait()
    assert not len(lab.monitor) and lab.time_strip.timing is None
    assert lab.memory_map.memory is None
    lab.plan_board.n_ctx = 1024
    lab.wait()
    assert lab.plan_board.stale and lab.plan_board.fits is None
    assert whole["words"] not in repr(lab.plan_board)
    lab.panels = ["time", "memory"]
    lab.wait()
    assert len(lab.time_strip.timing) == 12 and lab.memory_map.memory.used_bytes > 0
    assert lab.plan_board.whole["total"] != whole["total"] and not lab.plan_board.stale


def test_another_model_has_its_own_time_and_memory(lab, tmp_path):
    other = tiny.write(tmp_path / "other.gguf", n_vocab=300)  # runs stay with their model
    lab.run()
    lab.wait()
    before = lab.monitor
    lab.load(other, n_ctx=64)
    lab.wait()
    assert lab.monitor is not before and not before.running and not len(lab.monitor)
    assert lab.time_strip.timing is None and lab.memory_map.memory.used_bytes == 0


def test_a_closed_lab_reads_no_more_though_a_run_goes_on(lab, held, until):
    of_it = ml.labs.PerfLab(lab.session)  # which leaves that open when it is closed
    run, monitor = lab.start(), of_it.monitor
    until(lambda: monitor.running)
    closing = threading.Thread(target=of_it.close)
    closing.start()
    until(lambda: not monitor.running)
    assert not run.done
    held.set()
    closing.join()
    lab.wait()
    assert not monitor.running


class Counter:
    """What a monitor reads of the machine, by hand."""

    def __init__(self, read):
        self.read, self.close = read, lambda: None


@pytest.fixture
def counters(monkeypatch):
    """A function that has monitors read what it is given."""
    monkeypatch.setattr(monitor_study, "PATIENCE", 60)  # however busy the machine is
    return lambda read: monkeypatch.setattr(
        monitor_study, "counters_of_machine", lambda gpu: {"memory": Counter(read)}
    )


@pytest.mark.parametrize("leave", ["close", "load"])
def test_nobody_waits_for_a_counter_that_hangs(lab, held, counters, tmp_path, until, leave):
    hangs, answers = threading.Event(), threading.Event()

    def read(seconds):
        hangs.set()
        answers.wait(60)
        return {}

    counters(read)
    other = tiny.write(tmp_path / "other.gguf", n_vocab=300)
    act = {"close": lab.close, "load": lambda: lab.load(other, n_ctx=64)}[leave]
    before = lab.monitor
    lab.start()
    assert hangs.wait(30)
    held.set()
    leaving = threading.Thread(target=act)
    leaving.start()
    leaving.join(30)
    assert not leaving.is_alive()
    if leave == "load":
        until(lambda: lab.monitor is not None and lab.monitor is not before)
    answers.set()
    until(lambda: not before.running)


def test_what_runs_out_stands_in_the_meters_and_warns_nobody(lab, held, counters, until):
    counters(lambda seconds: {"resident_bytes": 1e6, "free_bytes": 2e8, "total_bytes": 8e9})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            held.clear()
            run = lab.start()
            until(lambda: lab.monitor.running and lab.meters.problem)
            held.set()
            run.wait()
            lab.wait()
            until(lambda: not lab.monitor.running)
    told = "200 MB of 8 GB of the memory is free, less than 5% of it."
    assert lab.meters.problem.startswith(told)
    assert [str(warning.message) for warning in caught if "free" in str(warning.message)] == []


def test_what_fails_is_said_where_it_would_be_seen(lab, held, monkeypatch, until):
    def fails(*_):
        raise ValueError("it cannot be read")

    with monkeypatch.context() as patched:
        patched.setattr(monitor_study, "counters_of_machine", fails)
        patched.setattr(_time_panel, "timing", fails)
        run = lab.start()
        until(lambda: lab.meters.problem == "it cannot be read")
        held.set()
        run.wait()
        lab.wait()
        assert lab.time_strip.problem == "it cannot be read" and lab.time_strip.timing is None
    held.clear()
    run = lab.start()
    until(lambda: lab.meters.problem == "" and lab.meters.n_readings > 0)
    held.set()
    run.wait()
    lab.wait()
    assert lab.time_strip.problem == "" and len(lab.time_strip.timing) == 12

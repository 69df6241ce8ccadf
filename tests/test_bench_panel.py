"""The panel "bench" of a workbench: measures its model, says what goes on, and what spoils it."""

from __future__ import annotations

import json
import threading

import pytest
from page import reply_to

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.decode_loop import DecodeLoop
from mullama_lab.errors import DecodeError, SessionError
from mullama_lab.studies.bench import BenchResult

ENDLESS = ml.Mask(ban=range(5)) | ml.Greedy()


@pytest.fixture
def lab(tiny_model):
    lab = ml.labs.PerfLab(tiny_model, "Hello", chain=ENDLESS, max_tokens=12, panels=["bench"])
    lab.bench_board.tests, lab.bench_board.threads, lab.bench_board.repeats = "pp8, tg4", "1, 2", 3
    yield lab
    lab.close()


def ask(board, op, **typed):
    asked = {"tests": board.tests, "threads": board.threads, "repeats": board.repeats}
    return reply_to(board, op, {**asked, **typed})


@pytest.fixture
def gate(monkeypatch):
    """Decodes that are timed wait for it; `begun` says that one does."""
    opened, begun, time = threading.Event(), threading.Event(), DecodeLoop.time

    def gated(loop, timed):
        begun.set()
        assert opened.wait(60)
        return time(loop, timed)

    monkeypatch.setattr(DecodeLoop, "time", gated)
    opened.begun = begun
    yield opened
    opened.set()


@pytest.fixture
def slow_run(lab):
    """A run that goes on until the event is set."""
    goes_on = threading.Event()
    undo = lab.session.on_start(lambda run: run.on_step(lambda step: goes_on.wait(60)))
    yield goes_on
    goes_on.set()
    undo()


def test_run_measures_each_test_with_each_number_of_threads(lab):
    board = lab.bench_board
    assert lab.bench_result is None and board.rows == []
    board.run()
    lab.wait()
    result = lab.bench_result
    assert isinstance(result, BenchResult) and result.complete and board.state == "finished"
    assert [(row.test, row.n_threads, len(row.samples_ns)) for row in result.rows] == [
        ("pp8", 1, 3), ("tg4", 1, 3), ("pp8", 2, 3), ("tg4", 2, 3)
    ]  # fmt: skip
    one = result.rows[0]
    low, high = min(one.samples_ts), max(one.samples_ts)
    cells = ["pp8", "1", f"{one.median_ts:.2f}", f"{low:.2f} to {high:.2f}", "3", "1.00x"]
    assert board.rows[0] == cells and result.machine.text() in board.said
    for line, points in zip(board.lines, result.scaling().lines.values(), strict=True):
        assert [point[:2] for point in line["points"]] == [[p.n, p.speedup] for p in points]
    assert board.message == ""


def test_it_waits_for_the_end_of_what_is_generated(lab, slow_run, until, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(DecodeLoop, "time", lambda *_: pytest.fail("it measures beside a run"))
        run = lab.start()
        lab.bench_board.run()
        until(lambda: lab.bench_board.state == "waiting" and len(run.trace))
        lab.bench_board.stop()
        lab._speed.settle()
        assert lab.bench_board.state == "stopped" and not run.done
        lab.bench_board.run()
    assert lab.bench_board.state == "waiting"
    slow_run.set()
    run.wait()
    lab.wait()
    assert lab.bench_board.state == "finished" and lab.bench_board.message == ""


def test_what_is_generated_meanwhile_is_said(lab, gate, until):
    lab.bench_board.run()
    until(gate.begun.is_set)
    lab.run()
    assert "slows what is measured" in lab.bench_board.message
    gate.set()
    lab.wait()
    assert lab.bench_board.state == "finished" and lab.bench_result.complete
    assert "slows what is measured" in lab.bench_board.message
    lab.bench_board.run()
    lab.wait()
    assert lab.bench_board.message == ""


def test_what_another_session_generates_counts_too(lab, tmp_path, until):
    goes_on = threading.Event()
    with ml.Model.load(tiny.write(tmp_path / "other.gguf")) as other, other.session() as session:
        session.on_start(lambda run: run.on_step(lambda step: goes_on.wait(60)))
        run = session.start("Hello", ENDLESS, max_tokens=4)
        lab.bench_board.run()
        until(lambda: len(run.trace) > 0)
        assert lab.bench_board.state == "waiting"
        goes_on.set()
        run.wait()
        lab.wait()
    assert lab.bench_board.state == "finished"


def test_stop_keeps_what_was_measured_and_ends_in_the_middle_of_a_test(lab, until):
    board = lab.bench_board
    board.tests, board.threads, board.repeats = "tg4, tg200000", "1", 1
    board.run()
    until(lambda: board.rows)
    with pytest.raises(ValueError, match="going on"):
        board.run()
    lab.stop()  # all that goes on, as the button of the run bar
    lab._speed.settle()
    assert board.state == "stopped" and [row[0] for row in board.rows] == ["tg4"]
    assert not lab.bench_result.complete and "not all of it" in board.said


@pytest.mark.parametrize(
    ("typed", "why"),
    [({"tests": "pp"}, "a test is"), ({"tests": " , "}, "name one at least"),
     ({"threads": "1; 2"}, "whole numbers"), ({"threads": ""}, "whole numbers"),
     ({"threads": "0"}, "threads=0: it must be from 1"), ({"threads": "9" * 300}, "whole numbers"),
     ({"tests": "tg1 @ d16777216"}, "n_ctx=")],
)  # fmt: skip
def test_what_cannot_be_measured_is_said(lab, typed, why):
    assert ask(lab.bench_board, "run", **typed)["ok"]
    lab.wait()
    assert why in lab.bench_board.message and lab.bench_board.state in ("idle", "failed")
    ask(lab.bench_board, "run", tests="tg2", threads="1")
    lab.wait()
    assert lab.bench_board.state == "finished" and lab.bench_board.message == ""


def test_what_fails_in_the_middle_is_said_and_what_was_measured_stays(lab, monkeypatch):
    time, n_times = DecodeLoop.time, iter([False] * 5 + [True])

    def failing(loop, timed):
        if next(n_times):
            raise DecodeError("llama_decode said -3.")
        return time(loop, timed)

    monkeypatch.setattr(DecodeLoop, "time", failing)
    lab.bench_board.run()
    lab.wait()
    board = lab.bench_board
    assert board.state == "failed" and "-3" in board.message and len(board.rows) == 4


def test_what_would_slow_it_is_said(lab, tiny_model):
    with tiny_model.session(n_threads=512):
        lab.bench_board.run()
        lab.wait()
    assert "may slow what is measured" in lab.bench_board.message


def test_another_model_begins_without_a_result(lab, tmp_path):
    lab.bench_board.run()
    lab.wait()
    lab.load(tiny.write(tmp_path / "other.gguf", n_vocab=300), n_ctx=64)
    board = lab.bench_board
    assert lab.bench_result is None and (board.rows, board.lines, board.state) == ([], [], "idle")
    board.run()
    lab.wait()
    assert lab.bench_result.rows[0].model_filename.endswith("other.gguf")


def test_a_closed_lab_measures_no_more(tiny_model, gate, until):
    lab = ml.labs.PerfLab(tiny_model, "Hello", panels=["bench"])
    lab.bench_board.run()
    until(gate.begun.is_set)
    lab.close()
    gate.set()
    lab._speed.settle()
    assert lab.bench_board.state != "finished"


def test_without_a_model_there_is_nothing_to_measure():
    lab = ml.labs.PerfLab(panels=["bench"])
    with pytest.raises(SessionError, match="Choose one first"):
        lab.bench_board.run()
    lab.close()


def test_code_makes_the_lab_and_measures_the_same(lab):
    scope = {}
    exec(lab.to_code(), scope)
    again = scope["bench"]
    assert again.panels == ["bench"] and again.bench_board.settings == lab.bench_board.settings
    exec(again.bench_board.to_code(), scope)
    assert [(row.test, row.n_threads) for row in scope["result"].rows] == [
        ("pp8", 1), ("tg4", 1), ("pp8", 2), ("tg4", 2)
    ]  # fmt: skip
    again.close()


def test_its_still_form_has_the_table(lab):
    lab.bench_board.run()
    lab.wait()
    forms = lab._repr_mimebundle_()[0]
    for cell in ("pp8", lab.bench_board.rows[0][2], lab.bench_board.rows[2][5]):
        assert cell in forms["text/html"] and cell in forms["text/plain"]
    assert "<script" not in forms["text/html"]
    json.dumps(lab.bench_board.get_state())

"""Monitor: what runs, seen from a thread beside it."""

from __future__ import annotations

import gc
import logging
import math
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from array import array

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.session import gauges
from mullama_lab.errors import ClosedError
from mullama_lab.studies import monitor as study
from mullama_lab.studies.monitor import Monitor
from mullama_lab.studies.monitor.readings import Reading, columns_of
from mullama_lab.studies.monitor.span import Span, seconds_in_words

NO_END = ml.Chain([ml.Mask(ban=[tiny.EOS])])
SELDOM = 3600  # seconds: it reads when it is started and when it is stopped


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        yield session


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """However busy the machine is, a monitor that does not hang has read when it is started."""
    monkeypatch.setattr(study, "PATIENCE", 60)


class Made:
    """A counter that shows what a test says, and tells of being read."""

    def __init__(self, **values):
        self.values, self.error = values, None
        self.n, self.told, self.is_open = 0, threading.Condition(), True

    def read(self, seconds):
        with self.told:
            self.n += 1
            self.told.notify_all()
        if self.error is not None:
            raise self.error
        return dict(self.values)

    def close(self):
        self.is_open = False

    def wait_for(self, n):
        with self.told:
            assert self.told.wait_for(lambda: self.n >= n, 30)


@pytest.fixture
def made(monkeypatch):
    counter = Made(resident_bytes=3e6, free_bytes=5e9, total_bytes=8e9)
    monkeypatch.setattr(study, "counters_of_machine", lambda gpu: {"memory": counter})
    return counter


def generate(session, n=4, seed=1):
    return session.generate([1, 5, 6], NO_END, max_tokens=n, seed=seed)


# What it counts.


def test_it_counts_what_is_generated_and_what_is_decoded(session):
    with Monitor(session, interval=SELDOM) as monitor:
        trace = generate(session, 5)
    table = monitor.to_pandas()
    assert len(table) == len(monitor) == 2 and monitor.n_generated == 5
    seconds = table.index[1] - table.index[0]
    assert table["tokens_per_second"].iloc[1] == pytest.approx(5 / seconds)
    assert table["decoded_per_second"].iloc[1] == pytest.approx((3 + 4) / seconds)
    assert np.isnan(table["tokens_per_second"].iloc[0])
    assert table["first_token_seconds"].iloc[1] == trace.seconds_to_first_token
    assert table["n_cells"].tolist() == [0, 7] and table["n_cells_max"].tolist() == [256, 256]
    assert monitor.average == pytest.approx(5 / seconds)


def test_what_was_before_the_start_is_not_counted(session):
    generate(session)
    with Monitor(session, interval=SELDOM) as monitor:
        pass
    assert monitor.n_generated == 0 and math.isnan(monitor.average)
    assert np.isnan(monitor.to_pandas()["first_token_seconds"]).all()
    generate(session)
    with monitor:
        generate(session, 3)
    table = monitor.to_pandas()
    assert monitor.n_generated == 3 and table["n_generated"].tolist() == [0, 0, 0, 3]
    assert np.isnan(table["tokens_per_second"].iloc[2])  # between a stop and a start


def test_what_is_generated_while_it_starts_is_not_counted(session, made, monkeypatch):
    read = made.read

    def read_while_it_generates(seconds):
        generate(session, 2)
        return read(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(made, "read", read_while_it_generates)
        monitor = Monitor(session, interval=SELDOM).start()
    assert monitor.n_generated == 0
    generate(session, 3)
    monitor.stop()
    assert monitor.n_generated == 3 and monitor.average > 0


def test_what_was_opened_while_it_stopped_is_not_counted_later(tiny_model, session, made):
    """A session that is opened between the last reading and the end of listening."""
    monitor = Monitor(tiny_model, interval=SELDOM).start()
    undo = monitor._let_go

    def open_one():
        with tiny_model.session(n_ctx=64, n_threads=1) as late:
            generate(late, 2)
        undo()

    monitor._let_go = open_one
    monitor.stop()
    with monitor:
        generate(session, 3)
    assert monitor.n_generated == 3


def test_memory_and_cores_of_this_machine_are_read(session):
    with Monitor(session, interval=SELDOM) as monitor:
        began = time.monotonic()
        while time.monotonic() - began < 0.1:  # ticks of the system's clock
            generate(session)
    columns = monitor.columns()
    assert 1e6 < columns["resident_bytes"][-1] < columns["total_bytes"][-1]
    cores = [name for name in columns if name.startswith("cpu_") and name.endswith("_percent")]
    if "CPU by core" not in monitor.not_available:
        assert len(cores) == os.cpu_count()
        assert all(0 <= columns[name][-1] <= 100 for name in cores)
    assert ("cpu_watts" in columns) != ("processor power" in monitor.not_available)
    assert not any(name.startswith("gpu") for name in columns)


def test_it_reads_at_its_interval_whatever_thread_generates(session, made):
    with Monitor(session, interval=0.01) as monitor:
        worker = threading.Thread(target=lambda: [generate(session, 20, s) for s in range(3)])
        worker.start()
        worker.join()
        made.wait_for(made.n + 4)
    table = monitor.to_pandas()
    assert made.n - 1 <= len(monitor) <= made.n and len(monitor) >= 4 and monitor.n_generated == 60
    between = np.diff(table.index)
    assert np.median(between) > 0.005
    rates = table["tokens_per_second"].to_numpy()[1:]
    assert (rates * between).sum() == pytest.approx(60)


def test_it_keeps_the_newest_readings_and_all_of_the_count(session, made):
    with Monitor(session, interval=0.01, keep=3) as monitor:
        generate(session, 5)
        made.wait_for(9)
    assert len(monitor) == len(monitor.to_pandas()) == 3
    assert monitor.n_generated == 5 and monitor.average > 0
    assert monitor.to_pandas().index[0] > 0


def test_what_is_at_work_and_what_waits_is_seen_while_the_worker_is_held(session, made):
    held, go_on = threading.Event(), threading.Event()

    def hold(row, _):
        held.set()
        go_on.wait(30)
        return row

    with Monitor(session, interval=0.01) as monitor:
        runs = [session.start([1, 5], ml.Custom(hold), max_tokens=1)]
        assert held.wait(30)
        runs += [session.start([1, 6], max_tokens=1) for _ in range(2)]
        made.wait_for(made.n + 2)
        go_on.set()
        for run in runs:
            run.wait()
    table = monitor.to_pandas()
    assert (table[["n_active", "n_waiting"]] == [1, 2]).all(axis=1).any()


@pytest.mark.parametrize(("shortest", "n_readings"), [(0.0, 3), (3600.0, 2)])
def test_what_is_done_just_before_the_stop_counts_to_the_reading_before(
    session, made, monkeypatch, shortest, n_readings
):
    monkeypatch.setattr(study, "SHORTEST_LAST", shortest)
    with Monitor(session, interval=SELDOM) as monitor:
        generate(session, 5)
        monitor._keep(monitor._look())
        generate(session, 2)
    table, rows = monitor.to_pandas(), monitor.sessions_to_pandas()
    assert len(table) == len(rows) == made.n == n_readings
    between = np.diff(table.index)
    assert (table["tokens_per_second"].to_numpy()[1:] * between).sum() == pytest.approx(7)
    assert (rows["decoded_per_second"].to_numpy()[1:] * between).sum() == pytest.approx(
        7 + 2
    )  # 2 were cached
    assert table["n_generated"].iloc[-1] == monitor.n_generated == 7
    assert monitor.average == pytest.approx(7 / between.sum())


# Which sessions.


def test_every_session_is_followed_also_one_that_is_opened_and_dropped_between_readings(tiny_model):
    with Monitor(interval=SELDOM) as monitor:
        session = tiny_model.session(n_ctx=64, n_threads=1)
        generate(session, 3)
        session.close()
        del session
        gc.collect()
        with tiny_model.session(n_ctx=64, n_threads=1) as other:
            generate(other, 4)
    assert monitor.n_generated == 7


def test_a_model_is_its_sessions_and_a_session_itself_alone(tmp_path, tiny_model, session):
    with ml.Model.load(tiny.write(tmp_path / "a.gguf")) as model:
        with (
            Monitor(model, interval=SELDOM) as of_model,
            Monitor([session], interval=SELDOM) as of_one,
        ):
            with model.session(n_ctx=64, n_threads=1) as inside:
                generate(inside, 3)
            generate(session, 5)
            with tiny_model.session(n_ctx=64, n_threads=1) as beside:
                generate(beside, 7)
        assert (of_model.n_generated, of_one.n_generated) == (3, 5)


def test_a_session_that_is_closed_ends_its_rows_and_the_monitor_goes_on(tiny_model, session, made):
    closed = tiny_model.session(n_ctx=64, n_threads=1)
    with Monitor([closed, session], interval=0.01) as monitor:
        made.wait_for(made.n + 2)
        generate(closed, 3)
        closed.close()
        made.wait_for(made.n + 2)
        generate(session, 4)
        made.wait_for(made.n + 2)
    rows, table = monitor.sessions_to_pandas(), monitor.to_pandas()
    last = rows.groupby("session")["seconds"].max()
    assert last[0] < last[1] == table.index[-1]
    assert monitor.n_generated == 7
    assert table["n_sessions"].iloc[0] == 2 and table["n_sessions"].iloc[-1] == 1


def test_the_columns_of_sessions_are_the_same_without_any(session, made):
    with Monitor(session, interval=SELDOM) as monitor:
        pass
    columns = Monitor().sessions_to_pandas().columns.tolist()
    assert columns == monitor.sessions_to_pandas().columns.tolist()
    assert columns[:3] == ["seconds", "session", "model"] and len(columns) == 9


def test_one_that_is_named_twice_counts_once(session):
    with Monitor([session, session, session.model], interval=SELDOM) as monitor:
        generate(session, 3)
    assert monitor.n_generated == 3 and "of 1 session and 1 model:" in repr(monitor)


def test_it_keeps_no_session_and_no_model_alive(tmp_path):
    model = ml.Model.load(tiny.write(tmp_path / "a.gguf"))
    session = model.session(n_ctx=64, n_threads=1)
    with Monitor([model, session], interval=SELDOM) as monitor:
        generate(session, 3)
        there = weakref.ref(session), weakref.ref(model)
        del session, model
        gc.collect()
        assert [ref() for ref in there] == [None, None]
    assert monitor.n_generated == 3


def test_no_token_is_lost_or_counted_twice_while_threads_open_and_close_sessions(tiny_model, made):
    def work(n):
        for seed in range(3):
            with tiny_model.session(n_ctx=64, n_threads=1) as session:
                generate(session, n, seed)

    with Monitor(tiny_model, interval=0.01) as monitor:
        threads = [threading.Thread(target=work, args=[n]) for n in (3, 5, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made.wait_for(made.n + 1)
    table = monitor.to_pandas()
    assert monitor.n_generated == 3 * (3 + 5 + 7) == table["n_generated"].iloc[-1]
    tokens = table["tokens_per_second"].to_numpy()[1:] * np.diff(table.index)
    assert tokens.sum() == pytest.approx(45)


# Started, stopped, dropped.


def test_starting_twice_and_stopping_twice_is_fine(session, made):
    monitor = Monitor(session, interval=SELDOM)
    assert not monitor.running and "not started" in repr(monitor)
    monitor.stop()
    assert monitor.start() is monitor.start() and monitor.running and len(monitor) == 1
    monitor.stop(), monitor.stop()
    assert not monitor.running and len(monitor) == 2 and not made.is_open


def test_one_that_nobody_holds_ends(session, made):
    told_before = list(gauges._told)
    monitor = Monitor(session, interval=0.01).start()
    assert len(gauges._told) == len(told_before) + 1
    thread, there = monitor._thread, weakref.ref(monitor)
    made.wait_for(3)
    del monitor
    thread.join(30)
    assert not thread.is_alive() and there() is None and not made.is_open
    assert gauges._told == told_before  # nobody is told of sessions any more


def test_what_fails_inside_stops_it_too(session, made):
    with pytest.raises(ZeroDivisionError), Monitor(session, interval=SELDOM) as monitor:
        generate(session, 2)
        _ = 1 / 0
    assert not monitor.running and monitor.n_generated == 2


def test_one_whose_thread_cannot_be_started_lets_go_of_everything(session, made, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monitor = Monitor(session, interval=SELDOM)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            monitor.start()
    assert not monitor.running and not made.is_open
    with monitor:
        generate(session, 3)
    assert monitor.n_generated == 3


@pytest.mark.parametrize("n_before", [0, 1])
def test_a_counter_that_hangs_keeps_nobody_waiting_and_its_late_answer_is_dropped(
    session, made, monkeypatch, n_before
):
    hangs, go_on, read = threading.Event(), threading.Event(), made.read

    def hang_once(seconds):
        if made.n == n_before and not hangs.is_set():
            hangs.set()
            go_on.wait(30)
        return read(seconds)

    monkeypatch.setattr(made, "read", hang_once)
    with monkeypatch.context() as patch:
        patch.setattr(study, "PATIENCE", 0.01)
        with Monitor(session, interval=0.01) as monitor:
            thread = monitor._thread
            assert hangs.wait(30) and not go_on.is_set() and monitor.running
            shown = threading.Thread(target=lambda: (repr(monitor), monitor.columns()), daemon=True)
            shown.start()
            shown.join(5)
            assert not shown.is_alive()
        assert len(monitor) == n_before and not monitor.running
    with monitor:
        generate(session, 3)
    n = len(monitor)
    assert n >= n_before + 2 and monitor.n_generated == 3
    go_on.set()
    thread.join(30)
    assert not thread.is_alive() and len(monitor) == n


def test_a_counter_that_hung_when_it_was_started_is_read_when_it_answers(
    session, made, monkeypatch
):
    go_on, read = threading.Event(), made.read
    monkeypatch.setattr(made, "read", lambda seconds: go_on.wait(30) and read(seconds))
    monkeypatch.setattr(study, "PATIENCE", 0.01)
    monitor = Monitor(session, interval=0.01).start()
    monkeypatch.setattr(study, "PATIENCE", 60)
    assert len(monitor) == 0 and "0 readings" in repr(monitor)
    go_on.set()
    made.wait_for(2)  # the first was kept before the second
    generate(session, 3)
    monitor.stop()
    assert len(monitor) >= 2 and monitor.n_generated == 3


def test_one_that_is_interrupted_while_it_starts_leaves_no_thread(session, made, monkeypatch):
    start, begun = threading.Thread.start, []

    def interrupted(thread):
        start(thread)
        begun.append(thread)
        raise KeyboardInterrupt

    monitor = Monitor(session, interval=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            monitor.start()
    begun[0].join(5)
    assert not begun[0].is_alive() and not monitor.running


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_the_interpreter_exits_while_one_runs(tiny_path):
    code = f"""
import mullama_lab as ml
from mullama_lab.studies.monitor import Monitor
session = ml.Model.load({str(tiny_path)!r}).session(n_ctx=4096)
monitor = Monitor(session, interval=0.01).start()
run = session.start("abc", ml.Mask(ban=[2]), max_tokens=4000)
next(iter(run))
"""
    began = time.monotonic()
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "") and time.monotonic() - began < 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_has_what_was_read_and_may_start_it_again(tiny_path):
    code = f"""
import os
import mullama_lab as ml
from mullama_lab.studies.monitor import Monitor
model = ml.Model.load({str(tiny_path)!r})
session = model.session(n_ctx=64, n_threads=1)
with Monitor(interval=0.01) as monitor:
    session.generate([1, 5], ml.Mask(ban=[2]), max_tokens=3)
    while monitor.n_generated < 3:
        monitor.stop(), monitor.start()
    child = os.fork()
    if child == 0:
        n = len(monitor)
        assert not monitor.running and n > 1 and monitor.n_generated == 3
        monitor.start()
        assert monitor.running
        with ml.Model.load({str(tiny_path)!r}) as again:
            again.session(n_ctx=64, n_threads=1).generate([1], ml.Mask(ban=[2]), max_tokens=2)
        monitor.stop()
        table = monitor.to_pandas()
        assert len(table) >= n + 2 and monitor.n_generated == 5
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert monitor.running
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


# What it says.


def test_the_text_of_the_same_readings_is_the_same_and_has_every_quantity(session, made):
    with Monitor(session, interval=SELDOM) as monitor:
        generate(session)
    text = monitor.to_text()
    assert text == monitor.to_text()
    for label in ("tokens/s", "time to first token", "resident memory", "KV cells, of 256 now",
                  "texts in the batch", "waiting"):  # fmt: skip
        assert f"\n{label} " in text
    assert text.startswith("Monitor of 1 session: stopped, 2 readings over ")
    assert "3 MB resident, 6 of 256 cells, 0 active, 0 waiting" in repr(monitor)
    assert "<table" in monitor._repr_html_() and "resident memory" in monitor._repr_html_()


def test_a_pause_counts_nowhere_and_is_seen():
    """Two runs of 20 and 10 tokens in two seconds each, with 600 seconds between them."""
    readings = [
        reading_of(seconds, interval, generated, cpu_watts=2.0)
        for seconds, interval, generated in [
            (0, math.nan, 0), (1, 1, 20), (2, 1, 0), (602, math.nan, 0), (603, 1, 10), (604, 1, 0),
        ]
    ]  # fmt: skip
    span = Span(readings)
    assert (len(span), span.seconds, span.pauses) == (6, 4, [3])
    for name in ("tokens_per_second", "decoded_per_second"):
        assert span.quantities[name].average == 15, "of what was read, where any came"
    bars = {row[0]: row[-1] for row in span.summary()}
    assert bars["processor power"] == "███ ███" and bars["tokens/s"] == " █▁  ▅▁"
    assert [Span(readings[1:3]).seconds, Span(readings[4:]).seconds] == [2, 2]
    assert Span(readings[4:]).quantities["tokens_per_second"].average == 10, (
        "not of what was before"
    )
    assert len(Span([])) == 0 and Span([]).quantities == {} and Span([]).seconds == 0


def test_one_core_is_no_mean_of_cores():
    def labels(**percent):
        readings = [reading_of(0.0, math.nan, 0, **percent), reading_of(1.0, 1.0, 0, **percent)]
        return [row[0] for row in Span(readings).summary() if row[0].startswith("CPU")]

    assert labels(cpu_0_percent=5.0) == ["CPU"]
    both = labels(cpu_0_percent=5.0, cpu_1_percent=7.0)
    assert both == ["CPU, mean of 2 cores", "CPU, busiest core"]


def test_the_text_is_of_the_time_that_was_read(session, made, monkeypatch):
    """The clock goes on by ten minutes between two starts."""
    monitor = Monitor(session, interval=SELDOM)
    with monitor:
        generate(session)
    clock = time.perf_counter
    monkeypatch.setattr(study, "perf_counter", lambda: clock() + 600)
    with monitor:
        generate(session)
    seconds = monitor.to_pandas().index.to_numpy()
    assert seconds[2] - seconds[1] > 599
    assert monitor.span().seconds == pytest.approx(seconds[1] + seconds[3] - seconds[2])
    said = f"4 readings over {seconds_in_words(monitor.span().seconds)}"
    assert said in monitor.to_text() and said in repr(monitor)


def test_one_that_was_not_started_has_a_text_and_an_empty_table():
    monitor = Monitor()
    assert monitor.to_text() == "Monitor of every session: not started, 0 readings"
    assert len(monitor.to_pandas()) == len(monitor.sessions_to_pandas()) == 0
    assert monitor and len(monitor) == 0
    assert "<table" not in monitor._repr_html_()


# What a machine does not tell.


def test_what_cannot_be_read_is_said_and_has_no_column(session, made):
    made.error = FileNotFoundError(2, "No such file or directory", "/proc/meminfo")
    with Monitor(session, interval=SELDOM) as monitor:
        generate(session)
    assert "/proc/meminfo" in monitor.not_available["memory"]
    assert "resident_bytes" not in monitor.columns() and monitor.n_generated == 4
    for text in (monitor.to_text(), monitor._repr_html_()):
        assert "not available: memory: " in text and "resident memory" not in text


def test_a_counter_that_fails_for_a_while_is_not_known_then(session, made):
    with Monitor(session, interval=SELDOM) as monitor:
        made.error = PermissionError("no")
    assert monitor.not_available == {"memory": "no"}
    made.error = None
    with monitor:
        pass
    assert np.isnan(monitor.columns()["resident_bytes"]).tolist() == [False, True, False, False]
    assert monitor.not_available == {}


def test_energy_is_that_of_all_watts_and_goes_to_the_tokens_of_the_interval(session, made):
    made.values = {"cpu_watts": 3.0, "gpu_0_watts": 7.0}
    with Monitor(session, interval=SELDOM) as monitor:
        generate(session, 5)
    columns = monitor.columns()
    seconds = columns["seconds"][1] - columns["seconds"][0]
    assert columns["joules"][1] == pytest.approx(10 * seconds)
    assert columns["joules_per_token"][1] == pytest.approx(2 * seconds)
    assert "\njoules a token " in monitor.to_text() and "GPU 0 power" in monitor.to_text()


def reading_of(seconds, interval, generated, **watts):
    return Reading(seconds, interval, generated, generated, 0, 0.0, math.nan, (), tuple(watts),
                   array("d", watts.values()))  # fmt: skip


def test_energy_is_known_where_all_sources_are_and_its_average_is_that_of_busy_readings():
    readings = [
        reading_of(0.0, math.nan, 0, gpu_0_watts=5.0),
        reading_of(1.0, 1.0, 10, gpu_0_watts=5.0, cpu_watts=3.0),
        reading_of(3.0, 2.0, 0, gpu_0_watts=5.0, cpu_watts=1.0),
        reading_of(4.0, 1.0, 7, gpu_0_watts=5.0),
        reading_of(5.0, 1.0, 30, gpu_0_watts=0.0, cpu_watts=0.0),
    ]
    columns = columns_of(readings)
    np.testing.assert_equal(columns["joules"], [np.nan, 8.0, 12.0, np.nan, 0.0])
    np.testing.assert_equal(columns["joules_per_token"], [np.nan, 0.8, np.nan, np.nan, 0.0])
    (row,) = [row for row in Span(readings).summary() if row[0] == "joules a token"]
    assert row[1:5] == ("0", "0.2", "0", "0.8")  # 8 J for 40 tokens


# Before memory runs out.


def test_it_warns_once_at_the_line_that_started_it_and_logs(session, made, caplog):
    caplog.set_level(logging.WARNING, study.__name__)
    with pytest.warns(UserWarning) as caught:
        with Monitor(session, interval=0.01, least_free=0.5):
            made.values["free_bytes"] = 3.9e9
            made.wait_for(made.n + 4)
        generate(session)
    (warning,) = caught
    assert warning.filename == __file__
    assert str(warning.message).startswith("3.9 GB of 8 GB of the memory is free, less than 50% ")
    assert [record.getMessage() for record in caplog.records] == [str(warning.message)]


def test_a_gpu_s_memory_counts_too_and_nought_never_warns(session, made):
    made.values |= {"gpu_1_bytes": 79e9, "gpu_1_total_bytes": 80e9}
    told = "1 GB of 80 GB of the memory of GPU 1 is free"
    with pytest.warns(UserWarning, match=told), Monitor(session, interval=SELDOM):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.values["free_bytes"] = 1.0
        with Monitor(session, interval=SELDOM, least_free=0):
            pass


def test_where_warnings_are_errors_it_goes_on_and_the_log_has_it(session, made, caplog):
    made.values["free_bytes"] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Monitor(session, interval=0.01) as monitor:
            made.wait_for(3)
    assert len(monitor) >= 3 and "of the memory is free" in caplog.text


# What is refused.


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [({"interval": 0}, ValueError, "interval=0: it must be from 0.01 to 3600"),
     ({"interval": -1}, ValueError, "interval=-1: "),
     ({"interval": math.nan}, ValueError, "interval=nan: "),
     ({"interval": 1e300}, ValueError, "interval=1e[+]300: "),
     ({"interval": math.inf}, ValueError, "interval=inf: "),
     ({"interval": 10**400}, ValueError, "interval=about 2"),
     ({"interval": "1"}, TypeError, "interval='1': it must be a number"),
     ({"interval": True}, TypeError, "interval=True"),
     ({"interval": None}, TypeError, "interval=None"),
     ({"keep": 0}, ValueError, "keep=0: it must be from 1 to 1000000"),
     ({"keep": 10**9}, ValueError, "keep=1000000000"),
     ({"keep": 1.5}, TypeError, "keep=1.5: it must be a whole number"),
     ({"least_free": -0.1}, ValueError, "least_free=-0.1: it must be from 0 to 1"),
     ({"least_free": math.nan}, ValueError, "least_free=nan"),
     ({"gpu": np.zeros(2)}, TypeError, "it must be True or False"),
     ({"on": []}, ValueError, "there is nothing to monitor"),
     ({"on": "session"}, TypeError, "on='session': it must be a list of Sessions and Models"),
     ({"on": 3}, TypeError, "on=3"), ({"on": [3]}, TypeError, "on=3: it must be a Session or"),
     ({"on": [[3]]}, TypeError, r"on=\[3\]: it must be a Session or")],
)  # fmt: skip
def test_bad_input_is_refused(options, error, told):
    with pytest.raises(error, match=told):
        Monitor(**options)


def test_what_was_closed_before_is_refused(tmp_path):
    with ml.Model.load(tiny.write(tmp_path / "a.gguf")) as model:
        session = model.session(n_ctx=64, n_threads=1)
        session.close()
        with pytest.raises(ClosedError, match="the session is closed"):
            Monitor(session)
    with pytest.raises(ClosedError, match="is closed"):
        Monitor(model)


# Who is told.


def test_it_tells_of_each_reading_and_of_its_start_and_end(session, until):
    monitor, told = Monitor(session, interval=SELDOM), []
    undo = monitor.on_reading(lambda: told.append((len(monitor), monitor.running)))
    with monitor:
        until(lambda: (1, True) in told)
        session.generate("Hello", NO_END, max_tokens=3)
    assert told[-1] == (len(monitor), False)
    undo()
    undo()
    n = len(told)
    with monitor:
        assert len(told) == n
    with pytest.raises(TypeError, match="function"):
        monitor.on_reading("now")


def test_it_tells_on_its_thread_between_start_and_stop(session):
    again = threading.Event()
    monitor = Monitor(session, interval=0.01)
    with monitor:
        monitor.on_reading(again.set)
        assert again.wait(30)


def test_what_is_told_may_fail_and_it_reads_on(session, caplog):
    monitor = Monitor(session, interval=SELDOM)
    monitor.on_reading(lambda: 1 / 0)
    with monitor:
        pass
    assert "ZeroDivisionError" in caplog.text and len(monitor) >= 1


def test_columns_of_the_newest_readings_are_the_last_of_all():
    monitor = Monitor(interval=SELDOM)
    for _ in range(3):
        with monitor:
            pass
    every, newest = monitor.columns(), monitor.columns(2)
    assert newest["seconds"].tolist() == every["seconds"][-2:].tolist()
    assert len(monitor.columns(100)["seconds"]) == len(monitor)
    with pytest.raises(ValueError, match="newest"):
        monitor.columns(0)

"""Meters: what a Monitor reads, in its own numbers, and nothing that it does not know."""

from __future__ import annotations

from array import array
from math import nan

import numpy as np
import pytest
from page import text_of

import mullama_lab as ml
from mullama_lab.engine.session.gauges import Shown
from mullama_lab.studies import monitor as study
from mullama_lab.studies.monitor import Monitor
from mullama_lab.studies.monitor.readings import Reading
from mullama_lab.studies.monitor.span import Span
from mullama_lab.studies.monitor.throughput import SessionReading
from mullama_lab.widgets import Meters
from mullama_lab.widgets._meter_rows import meters_of

ENDLESS = ml.Mask(ban=range(5)) | ml.Greedy()
SELDOM = 3600.0  # seconds: it reads when it is started and when it is stopped


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


def read(*moments, **counters):
    """(seconds, interval, generated, cells) of readings by hand, and what counters showed then."""
    readings = []
    for n, (seconds, interval, generated, cells) in enumerate(moments):
        shown = Shown(True, 0, 0, None, cells, 256)
        sessions = [SessionReading(0, "tiny", generated, generated, shown)]
        values = array("d", [column[n] for column in counters.values()])
        of_all = (generated, 0.0, nan, sessions, tuple(counters), values)
        readings.append(Reading(seconds, interval, generated, generated, *of_all))
    return Span(readings)


def test_each_meter_has_its_scale_and_what_is_not_known_is_not_drawn():
    span = read((0, nan, 0, 0), (1, 1, 40, 64), (3, 2, 60, 128))
    tokens, cells, waiting = meters_of(span)
    assert tokens == {
        "name": "tokens/s",
        "now": "30",
        "average": "33.3",
        "top": "40",
        "values": [None, 1.0, 0.75],
    }
    assert (cells["top"], cells["values"]) == ("256", [0.0, 0.25, 0.5]), "of all cells there are"
    assert (waiting["now"], waiting["top"], waiting["values"]) == ("0", "0", [0.0] * 3)


def test_what_the_machine_tells_has_a_meter():
    moments = (0, nan, 0, 0), (1, 1, 0, 64), (2, 1, 0, 128)
    told = read(
        *moments,
        resident_bytes=[1e8, 2e8, 2e8],
        free_bytes=[1e9, 1e9, 1e9],
        cpu_0_percent=[nan, 100, 50],
        cpu_1_percent=[nan, 0, 50],
        cpu_watts=[1, 1, 1],
    )
    names = {meter["name"]: meter for meter in meters_of(told)}
    assert list(names) == [
        *("tokens/s", "resident memory", "CPU, mean of 2 cores", "KV cells", "waiting")
    ]
    assert names["tokens/s"]["average"] == "n/a"
    assert names["resident memory"]["now"] == "200 MB"
    cpu = names["CPU, mean of 2 cores"]
    assert (cpu["values"], cpu["now"], cpu["average"], cpu["top"]) == (
        *([None, 0.5, 0.5], "50 %", "50 %", "100 %"),
    )
    assert meters_of(Span([])) == []


def test_a_pause_between_two_runs_is_a_gap_in_every_meter():
    span = read((0, nan, 0, 0), (5, 5, 50, 64), (605, nan, 0, 64), (610, 5, 50, 128))
    assert [meter["values"] for meter in meters_of(span)] == [
        [None, 1.0, None, None, 1.0],
        [0.0, 0.25, None, 0.25, 0.5],
        [0.0, 0.0, None, 0.0, 0.0],
    ]


def test_what_it_says_is_of_the_time_that_was_read(session, until):
    monitor = Monitor(session, interval=SELDOM)
    for _ in range(2):
        with monitor:
            session.generate("Hello", ENDLESS, max_tokens=3)
    view, seconds = Meters(monitor), monitor.columns()["seconds"]
    assert (view.n_readings, len(view.meters[0]["values"])) == (4, 5)
    assert view.seconds == pytest.approx(seconds[1] - seconds[0] + seconds[3] - seconds[2])
    assert "averages over 4 readings, " in view._repr_mimebundle_()[0]["text/html"]


def test_its_numbers_are_those_of_the_monitor(session, until):
    monitor = Monitor(session, interval=SELDOM)
    view = Meters(monitor)
    assert (view.state, view.meters) == ("stopped", [])
    with monitor:
        until(lambda: view.state == "running")
        session.generate("Hello", ENDLESS, max_tokens=20)
    until(lambda: view.state == "stopped")
    view.settle()
    tokens, cells = view.meters[0], view.meters[-2]
    assert len(tokens["values"]) == len(monitor)
    assert float(tokens["average"]) == pytest.approx(monitor.average, rel=0.01)
    assert int(cells["now"]) == session.n_cells > 20
    assert view.seconds == pytest.approx(np.ptp(monitor.columns()["seconds"]))
    view.close()


def test_it_follows_each_reading(session, until):
    with Monitor(session, interval=0.01) as monitor:
        view = Meters(monitor)
        until(lambda: len(view.meters[0]["values"]) >= 5)
        run = session.start("Hello", ENDLESS, max_tokens=200)
        until(lambda: int(view.meters[-2]["now"]) > 0)
        run.stop()
        view.close()
    assert not monitor.running, "the monitor is stopped by who started it"


def test_a_closed_view_is_told_nothing_and_the_monitor_reads_on(session, until):
    with Monitor(session, interval=0.01) as monitor:
        view = Meters(monitor)
        view.close()
        view.settle()  # a look may have been under way
        before, n = view.meters, len(monitor)
        until(lambda: len(monitor) > n + 3)
        assert view.meters is before


def test_it_can_be_put_to_another_monitor_and_to_none(session):
    first, second = Monitor(session, interval=SELDOM), Monitor(session, interval=SELDOM)
    view = Meters(first)
    with second:
        view.put_to(second)
        view.settle()
        assert view.monitor is second and view.state == "running"
        with first:
            view.settle()
            assert len(view.meters[0]["values"]) == len(second)
        view.put_to(None)
        assert (view.monitor, view.state, view.meters, repr(view)) == (
            None,
            "empty",
            [],
            "Meters()",
        )
    for what in (3, session, "monitor"):
        with pytest.raises(TypeError, match="is no Monitor"):
            Meters(what)


def test_its_still_forms_say_what_is_metered(session):
    with Monitor(session, interval=SELDOM) as monitor:
        session.generate("Hello", ENDLESS, max_tokens=3)
    view = Meters(monitor)
    assert text_of(view) == repr(view) and repr(view).startswith("Meters(tokens/s; ")
    html = view._repr_mimebundle_()[0]["text/html"]
    assert "over time" in html and "<script" not in html and len(html) < 6000
    Meters()._repr_mimebundle_()


def test_its_still_forms_begin_with_what_is_wrong(session):
    view = Meters(Monitor(session, interval=SELDOM))
    view.fail("the counters cannot be read")
    assert text_of(view).splitlines()[0] == view.problem == "the counters cannot be read"
    html = view._repr_mimebundle_()[0]["text/html"]
    assert html.index("the counters cannot be read</div>") < html.index("Meters")
    view.put_to(None)
    assert view.problem == "" and text_of(view) == "Meters()"


def test_it_says_what_memory_runs_out_and_no_more_once_there_is_enough(session, monkeypatch):
    free = 1e8

    class Memory:
        def read(self, seconds):
            return {"resident_bytes": 1e6, "free_bytes": free, "total_bytes": 8e9}

        def close(self):
            """It holds nothing."""

    monkeypatch.setattr(study, "PATIENCE", 60)  # however busy the machine is
    monkeypatch.setattr(study, "counters_of_machine", lambda gpu: {"memory": Memory()})
    view = Meters(monitor := Monitor(session, interval=SELDOM))
    with pytest.warns(UserWarning, match="less than 5% of it"), monitor:
        view.settle()
        assert view.problem.startswith("100 MB of 8 GB of the memory is free")
        free = 9e7
    view.settle()
    assert view.problem.startswith("100 MB of 8 GB"), "a number that moves would be read out anew"
    free = 4e9
    with monitor:
        view.settle()
        assert view.problem == ""

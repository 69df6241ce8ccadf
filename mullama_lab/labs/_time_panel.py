"""The panel of time: meters while anything runs, and where the time of each token went."""

from __future__ import annotations

import threading
import weakref

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.session import Session
from mullama_lab.engine.trace import Trace
from mullama_lab.labs._desk import Desk
from mullama_lab.labs._panel import Panel
from mullama_lab.studies.monitor import Monitor
from mullama_lab.studies.timing import timing
from mullama_lab.widgets import Meters, TimeStrip
from mullama_lab.widgets._kept import weakly

INTERVAL = 0.25  # seconds between two readings
REST = 0.5  # seconds from one look at a text that grows to the next


class TimePanel(Panel):
    """Monitors the session while runs go on, and times the trace that is shown.

    Attributes:
        monitor: of the session at work; None before there is one. It reads while the panel is on
            the screen and a run goes on.
    """

    key, title = "time", "Time"

    def __init__(self, desk: Desk) -> None:
        self.meters, self.view = Meters(), TimeStrip()
        self.views = (self.meters, self.view)
        self.monitor: Monitor | None = None
        self._trace: Trace | None = None
        self._runs: weakref.WeakSet[Run] = weakref.WeakSet()
        self._lock = usable_in_forks(threading.RLock())
        self._times = LatestOnly("time", weakly(self._not_timed), rest=REST)
        self._watch = LatestOnly("time-watch", lambda error: None)
        for aside in (self._times, self._watch):
            weakref.finalize(desk, aside.close).atexit = False

    def begin(self, session: Session) -> None:
        self.monitor = Monitor(session, interval=INTERVAL)
        self.meters.put_to(self.monitor)

    def end(self) -> None:
        self._times.drop()
        self._watch.drop()
        with self._lock:
            self._rest()
            self.monitor, self._trace = None, None
        self._runs.clear()
        self.meters.put_to(None)
        self.view.put_to(None)

    def close(self) -> None:
        self._times.close()
        self._watch.close()
        with self._lock:
            self.is_shown = False
            self._rest()

    def show_or_hide(self, is_shown: bool) -> None:
        super().show_or_hide(is_shown)
        self._watch.submit(weakly(self._watch_or_rest))

    def catch_up(self) -> None:
        self._look_soon()

    def follow(self, run: Run) -> None:
        self._runs.add(run)
        self._trace = run.trace
        run.on_news(weakly(self._look_soon))
        run.when_done(weakly(self._run_ended))
        self._watch.submit(weakly(self._watch_or_rest))

    def show(self, trace: Trace | None) -> None:
        self._trace = trace
        self._look_soon()

    def settle(self) -> None:
        self._watch.settle()
        self._times.settle()
        self.meters.settle()

    # Inside.

    def _run_ended(self) -> None:
        self._watch.submit(weakly(self._watch_or_rest))
        self._look_soon()

    def _watch_or_rest(self) -> None:
        """Have the monitor read if anything runs that is to be seen."""
        with self._lock:
            goes_on = any(not run.done for run in tuple(self._runs))
            if self.monitor is not None and self.is_shown and goes_on:
                self.monitor.start()
            else:
                self._rest()

    def _rest(self) -> None:
        if self.monitor is not None:
            self.monitor.stop()

    def _look_soon(self) -> None:
        if self.is_shown:
            self._times.submit(weakly(self._look))

    def _look(self) -> None:
        trace = self._trace
        is_generated = trace is not None and trace.finish_reason != "scored"
        found = timing(trace) if trace is not None and is_generated else None
        with self._lock:
            if trace is self._trace:
                self.view.put_to(found)

    def _not_timed(self, error: Exception) -> None:
        self.view.put_to(None)

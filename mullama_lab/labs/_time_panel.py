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
from mullama_lab.warned import heard
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
        self._at_work: Monitor | None = None  # for the thread alone that starts and stops them
        self._is_closed = False
        self._lock = usable_in_forks(threading.RLock())
        self._times = LatestOnly("time", weakly(self._not_timed), rest=REST)
        self._watch = LatestOnly("time-watch", weakly(self._not_watched))
        for aside in (self._times, self._watch):
            weakref.finalize(desk, aside.close).atexit = False

    def begin(self, session: Session) -> None:
        self.monitor = Monitor(session, interval=INTERVAL)
        self.meters.put_to(self.monitor)

    def end(self) -> None:
        self._times.drop()
        with self._lock:
            self.monitor, self._trace = None, None
            self._runs.clear()
        self._watch_soon()
        self.meters.put_to(None)
        self.view.put_to(None)

    def close(self) -> None:
        self._times.close()
        with self._lock:
            self._is_closed = True
        self._watch_soon()

    def show_or_hide(self, is_shown: bool) -> None:
        super().show_or_hide(is_shown)
        self._watch_soon()

    def catch_up(self) -> None:
        self._look_soon()

    def follow(self, run: Run) -> None:
        with self._lock:
            self._runs.add(run)
        self._trace = run.trace
        run.on_news(weakly(self._look_soon))
        run.when_done(weakly(self._run_ended))
        self._watch_soon()

    def show(self, trace: Trace | None) -> None:
        self._trace = trace
        self._look_soon()

    def settle(self) -> None:
        self._watch.settle()
        self._times.settle()
        self.meters.settle()

    # Inside.

    def _run_ended(self) -> None:
        self._watch_soon()
        self._look_soon()

    def _watch_soon(self) -> None:
        self._watch.submit(weakly(self._watch_or_rest))

    def _watch_or_rest(self) -> None:
        """Have the monitor read if anything runs that is to be seen, and no other one.

        A counter that hangs holds a monitor for two seconds, so nothing here waits for this.
        """
        with self._lock:
            goes_on = any(not run.done for run in self._runs)
            is_seen = self.is_shown and not self._is_closed
            wanted = self.monitor if is_seen and goes_on else None
        if self._at_work is not None and self._at_work is not wanted:
            self._at_work.stop()
        self._at_work = wanted
        if wanted is not None:
            with heard():  # the meters say what runs out; this thread has no line of a caller
                wanted.start()

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
        if self._times.is_current():
            self.view.fail(error)

    def _not_watched(self, error: Exception) -> None:
        if self._watch.is_current():
            self.meters.fail(error)

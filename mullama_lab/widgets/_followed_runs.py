"""Watch a Run from a thread of its own and tell a view what is new.

The thread holds the view weakly, never prints, and ends with the run.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any, Protocol

from mullama_lab.engine.worker import WAIT_STEP

log = logging.getLogger(__name__)

PERIOD_SECONDS = 0.04  # 25 messages a second
MOST_FAILURES = 5


class Watcher(Protocol):
    """What a pump tells: that something may be new, and the last word."""

    def _pump_once(self, run: Any) -> None: ...


class Pump:
    """Calls `watcher._pump_once(run)` every 40 ms until the run is done, and once after."""

    def __init__(self, watcher: Watcher, run: Any) -> None:
        self._stop = threading.Event()
        self._done = threading.Event()
        self._watcher = weakref.ref(watcher)
        self._run = run
        self._thread = threading.Thread(target=self._watch, name="mullama-view", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell nothing more."""
        self._stop.set()

    @property
    def running(self) -> bool:
        """Whether the last word is still to come."""
        return not self._done.is_set()

    def join(self) -> None:
        """Wait for the last word, in steps: not every interrupt ends a wait."""
        while self._thread is not threading.current_thread() and not self._done.wait(WAIT_STEP):
            pass

    def _watch(self) -> None:
        try:
            self._tell_until_done()
        finally:
            self._done.set()

    def _tell_until_done(self) -> None:
        done = False
        failures = 0
        while not done and not self._stop.wait(PERIOD_SECONDS):
            done = self._run.done
            watcher = self._watcher()
            if watcher is None:
                return
            try:
                watcher._pump_once(self._run)
            except Exception:
                log.exception("a view could not follow a run")
                failures += 1
                done = failures == MOST_FAILURES
            del watcher

"""The runs that a view shows while they go on.

A run says when anything is new, which costs its session a microsecond; a thread of the view looks
at the run and tells the browser. So a page that is slow to take messages slows no generation.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.work import WAIT_STEP

log = logging.getLogger(__name__)

MESSAGE_PERIOD = 0.04  # seconds: 25 messages a second
MOST_FAILURES = 5


@dataclass(eq=False)
class _Followed:
    stop_listening: Callable[[], None]
    n_failures: int = 0


class FollowedRuns:
    """Has a view show what is new of some runs, until each has ended.

    Args:
        show: a method of the view, which is held weakly. It is called with a run, on another
            thread, at once when something is new of it but no more than 25 times a second, and
            once more after its end.
    """

    def __init__(self, show: Callable[[Run], object]) -> None:
        self._show = weakref.WeakMethod(show)
        self._changed = usable_in_forks(threading.Condition())
        self._runs: dict[Run, _Followed] = {}
        self._latest = LatestOnly("mullama-view", lambda error: None, rest=MESSAGE_PERIOD)

    @property
    def in_flight(self) -> list[Run]:
        """Those that have not ended, in the order in which they came."""
        with self._changed:
            return [run for run in self._runs if not run.done]

    def __contains__(self, run: Run) -> bool:
        """Whether it is followed: `show` may still be called with one that was forgotten."""
        with self._changed:
            return run in self._runs

    def follow(self, run: Run) -> None:
        """Show it from now on; nothing happens if it is followed already."""
        with self._changed:
            if run not in self._runs:
                self._runs[run] = _Followed(run.on_news(self._look_soon))
        self._look_soon()

    def forget(self, *runs: Run) -> None:
        """Say nothing more of these runs, or, if none is given, of any."""
        with self._changed:
            for run in runs or tuple(self._runs):
                if (followed := self._runs.pop(run, None)) is not None:
                    followed.stop_listening()
            self._changed.notify_all()

    def catch_up(self) -> None:
        """Show on this thread what there is by now."""
        self._look()

    def settle(self) -> None:
        """Wait until the end of each run was shown; for code, not for callbacks."""
        self._look_soon()
        with self._changed:
            while self._runs and not self._latest.is_this_thread:
                self._changed.wait(WAIT_STEP)  # in steps: not every interrupt ends a wait

    def close(self) -> None:
        """Show the ends there are by now, and say nothing more."""
        self.catch_up()
        self.forget()
        self._latest.close()

    def _look_soon(self) -> None:
        self._latest.submit(self._look)

    def _look(self) -> None:
        with self._changed:
            followed = list(self._runs.items())
        for run, state in followed:
            has_ended = run.done
            try:
                self._show_one(run)
            except Exception:
                log.exception("a view could not follow a run")
                state.n_failures += 1
                has_ended = state.n_failures >= MOST_FAILURES
                self._look_soon()
            if has_ended:
                self.forget(run)

    def _show_one(self, run: Run) -> None:
        show = self._show()
        if show is None:  # nobody holds the view any more
            self.forget()
        else:
            show(run)

"""An exploration on a thread of its own, and what a bar says of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.session import Session
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.labs._lab import set_together
from mullama_lab.studies.explore import Exploration
from mullama_lab.widgets import ExploreBar
from mullama_lab.widgets._followed_runs import MESSAGE_PERIOD
from mullama_lab.widgets._kept import weakly

Origin: TypeAlias = Callable[[], tuple[Trace, Tree]]


class Explorer:
    """Runs one exploration at a time and shows it in a bar.

    Args:
        origin: gives what to go on from, and the tree that what is found joins.

    Attributes:
        exploration: the newest one.
    """

    def __init__(self, session: Session, bar: ExploreBar, origin: Origin) -> None:
        self.session, self.bar = session, bar
        self._origin = origin
        self._lock = usable_in_forks(threading.RLock())  # what begins
        self._saying = usable_in_forks(threading.RLock())  # what is said; the last lock to take
        self.exploration: Exploration | None = None
        self._said: Exploration | None = None  # the one that the bar speaks of
        self._work = LatestOnly("mullama-explore", weakly(bar.fail))
        self._news = LatestOnly("mullama-explore-view", weakly(bar.fail), rest=MESSAGE_PERIOD)

    def start(self, budget: int | None = None, length: int | None = None) -> Exploration:
        """Begin an exploration; the numbers that are given go to the bar.

        Raises:
            ValueError: one is going on, or a number is out of range.
        """
        with self._lock:
            if self._work.is_busy:
                raise ValueError("an exploration is going on. Stop it first.")
            bar = self.bar
            given = (("budget", budget), ("length", length))
            set_together((bar, name, value) for name, value in given if value is not None)
            start, tree = self._origin()
            exploration = Exploration(
                start, on=self.session, budget=bar.budget, max_tokens=bar.length, into=tree
            )
            exploration.on_news = weakly(self._show_soon)
            self.exploration = exploration
            with self._saying, bar.hold_sync():
                self._said = exploration
                bar.message, bar.found, bar.state = "", {}, "running"
            show_end = weakly(self._show_end)

            def explore() -> None:  # holds no bar, and so no lab
                try:
                    exploration.run(progress=False)
                finally:
                    show_end(exploration)

            self._work.submit(explore)
        return exploration

    def see_through(self, exploration: Exploration) -> Exploration:
        """Wait for its end, which an interrupt brings; what made it fail is raised."""
        try:
            self.settle()
        except BaseException:
            exploration.stop()
            self.settle()
            raise
        if exploration.error is not None:
            raise exploration.error
        return exploration

    def stop(self) -> None:
        """End it; what was found stays."""
        if self.exploration is not None:
            self.exploration.stop()

    def forget(self) -> None:
        """Say no more of an exploration that is over, for something else has happened."""
        with self._saying:
            if self.bar.state != "running":
                self._said = None
                self.bar.forget()

    def settle(self) -> None:
        """Wait for its end; for code, not for callbacks."""
        self._work.settle()

    def close(self) -> None:
        """End it, and wait for that; another one cannot begin."""
        self.stop()
        self._work.settle()
        self._work.close()
        self._news.close()

    def _show_end(self, exploration: Exploration) -> None:
        with self._saying, self.bar.hold_sync():
            self._show()
            self.bar.state = exploration.state

    def _show_soon(self) -> None:
        self._news.submit(self._show)

    def _show(self) -> None:
        with self._saying:
            exploration = self._said
            if exploration is not None:
                leaves = exploration.leaves
                lengths = [leaf.n_tokens for leaf in leaves]
                self.bar.found = {
                    "expanded": exploration.n_expanded,
                    "prefixes": len(exploration),
                    "leaves": len(leaves),
                    "shortest": min(lengths, default=0),
                    "longest": max(lengths, default=0),
                    "open": sum(exploration.goes_on(leaf) for leaf in leaves),
                    "mass": exploration.mass,
                }

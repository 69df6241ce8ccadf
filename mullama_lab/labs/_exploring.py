"""An exploration on a thread of its own, and what a bar says of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeAlias

from mullama_lab.engine.session import Session
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.worker import WAIT_STEP
from mullama_lab.errors import MullamaError
from mullama_lab.labs._lab import set_together
from mullama_lab.studies.explore import Exploration
from mullama_lab.widgets import ExploreBar

log = logging.getLogger(__name__)

NEWS_PERIOD = 0.05  # seconds between two messages

Origin: TypeAlias = Callable[[], tuple[Trace, Tree]]


class Exploring:
    """Runs one exploration at a time and shows it in a bar.

    Args:
        origin: gives what to go on from, and the tree that what is found joins.

    Attributes:
        exploration: the newest one.
    """

    def __init__(self, session: Session, bar: ExploreBar, origin: Origin) -> None:
        self.session, self.bar = session, bar
        self._origin = origin
        self._lock = threading.RLock()
        self.exploration: Exploration | None = None
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()  # a thread's join does not survive an interrupt
        self._idle.set()
        self._said = 0.0

    @property
    def is_going_on(self) -> bool:
        """Whether one is at work."""
        return not self._idle.is_set()

    def start(self, budget: int | None = None, length: int | None = None) -> Exploration:
        """Begin an exploration; the numbers that are given go to the bar.

        Raises:
            ValueError: one is going on, or a number is out of range.
        """
        with self._lock:
            if self.is_going_on:
                raise ValueError("an exploration is going on. Stop it first.")
            bar = self.bar
            given = (("budget", budget), ("length", length))
            set_together((bar, name, value) for name, value in given if value is not None)
            start, tree = self._origin()
            exploration = Exploration(
                start, on=self.session, budget=bar.budget, max_tokens=bar.length, into=tree
            )
            self._begin(exploration)
        return exploration

    def see_through(self, exploration: Exploration) -> Exploration:
        """Wait for its end, which an interrupt brings; what made it fail is raised."""
        try:
            self.join()
        except BaseException:
            exploration.stop()
            self.join()
            raise
        if exploration.error is not None:
            raise exploration.error
        return exploration

    def _begin(self, exploration: Exploration) -> None:
        self.exploration = exploration
        exploration.on_news = self._news
        with self.bar.hold_sync():
            self.bar.message, self.bar.found, self.bar.state = "", {}, "running"
        self._idle.clear()
        self._thread = threading.Thread(
            target=self._explore, args=(exploration,), name="mullama-explore", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End it; what was found stays."""
        if self.exploration is not None:
            self.exploration.stop()

    def join(self) -> None:
        """Wait for its end, in steps: not every interrupt ends a wait."""
        if self._thread is not threading.current_thread():
            while not self._idle.wait(WAIT_STEP):
                pass

    def _explore(self, exploration: Exploration) -> None:
        try:
            exploration.run(progress=False)
        except Exception as error:
            if not isinstance(error, (MullamaError, ValueError)):
                log.exception("an exploration failed")
            self.bar.fail(error)
        finally:
            with self.bar.hold_sync():
                self._say(exploration)
                self.bar.state = exploration.state
            self._idle.set()

    def _news(self) -> None:
        exploration, now = self.exploration, monotonic()
        if exploration is not None and now - self._said >= NEWS_PERIOD:
            self._said = now
            self._say(exploration)

    def _say(self, exploration: Exploration) -> None:
        self.bar.found = {
            "expanded": exploration.n_expanded,
            "prefixes": len(exploration),
            "leaves": len(exploration.leaves),
            "mass": exploration.mass,
        }

"""The panel of memory: what holds how many bytes, and what other settings would take."""

from __future__ import annotations

import threading
import weakref

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.session import Session
from mullama_lab.labs._desk import Desk
from mullama_lab.labs._panel import Panel
from mullama_lab.studies.planner import Planner
from mullama_lab.widgets import MemoryMap, PlanBoard
from mullama_lab.widgets._kept import weakly


class MemoryPanel(Panel):
    """Follows the memory of the session, and plans others of its model, while it is on the screen.

    Attributes:
        view, board: what the session takes, and the plan of one in its place, which begins with
            its settings.
    """

    key, title = "memory", "Memory"

    def __init__(self, desk: Desk) -> None:
        self.view, self.board = MemoryMap(), PlanBoard()
        self.views = (self.view, self.board)
        self._session: Session | None = None
        self._planner: Planner | None = None  # of the session; a thread opens it
        self._lock = usable_in_forks(threading.RLock())
        self._plans = LatestOnly("plan", weakly(self._failed))
        weakref.finalize(desk, self._plans.close).atexit = False
        self.board.on_change(weakly(self._turned))

    def begin(self, session: Session) -> None:
        self._session = session
        self.board.begin_with(session.settings, session.model.n_ctx_train)
        if self.is_shown:
            self.catch_up()

    def end(self) -> None:
        with self._lock:
            self._session = None
            self._let_planner_go()
            self.board.clear()
        self.view.put_to(None)

    def close(self) -> None:
        self._plans.close()
        self._let_planner_go()

    def show_or_hide(self, is_shown: bool) -> None:
        super().show_or_hide(is_shown)
        if not is_shown:
            self.view.put_to(None)
            self._let_planner_go()

    def catch_up(self) -> None:
        self.view.put_to_soon(self._session)
        self._plan_soon()

    def settle(self) -> None:
        self._plans.settle()
        self.view.settle()

    # Inside.

    def _turned(self, _: PlanBoard) -> None:
        self._plan_soon()

    def _plan_soon(self) -> None:
        if self.is_shown and self._session is not None:
            self._plans.submit(weakly(self._plan))

    def _plan(self) -> None:
        session = self._session
        if session is None:
            return
        settings = self.board.settings
        planned = self._planner_of(session).plan(**settings)
        with self._lock:
            if session is self._session and self._plans.is_current():
                self.board.show(planned, settings)

    def _planner_of(self, session: Session) -> Planner:
        """What is kept as long as the panel is shown, so that plans follow a slider."""
        if (planner := self._planner) is not None:
            return planner
        planner = Planner(session)
        with self._lock:
            if session is self._session and self.is_shown:
                self._planner = planner
        return planner

    def _let_planner_go(self) -> None:
        self._plans.drop()
        with self._lock:
            planner, self._planner = self._planner, None
        if planner is not None:
            planner.close()

    def _failed(self, error: Exception) -> None:
        with self._lock:
            if self._plans.is_current():
                self.board.fail(error)

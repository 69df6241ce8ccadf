"""A view of levers whose numbers are computed in a session of its own, while a hand turns them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import traitlets

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.session import Session
from mullama_lab.widgets._kept import CLOSED, weakly
from mullama_lab.widgets._rows_aside import RowsAside
from mullama_lab.widgets._view import View, what_failed


class ViewAside(View):
    """Neither the cache nor a text under way in the session that it is given is touched.

    Only what was asked for last is computed. A subclass computes it in `_rows`, asks for that with
    `_latest`, and says who turned it with `_tell_turned`.
    """

    shown = traitlets.Dict(help="The effect that is shown.").tag(sync=True)
    problem = traitlets.Unicode("", help="Why the effect is not known.").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self._lock = usable_in_forks(threading.RLock())
        self._rows: RowsAside | None = None
        self._placed_by: int | None = None  # the thread in `_placing`, which turns nothing
        self._latest = LatestOnly(type(self).__name__, weakly(self._failed))
        super().__init__(**traits)

    @property
    def kl(self) -> float | None:
        """KL of the next token from what it is without the levers, in nats; None if not known."""
        return self.shown.get("kl")

    def settle(self) -> None:
        """Wait until what was asked for is shown; for code, not for callbacks."""
        self._latest.settle()

    def fail(self, error: str | Exception) -> None:
        """Say why the effect is not known; the last one stays, dimmed."""
        self.problem = what_failed(error)

    def close(self, why: str = CLOSED) -> None:
        self._latest.close()
        self._let_go()
        super().close(why)

    def _work_beside(self, session: Session) -> None:
        """Compute in a session like this one from now on."""
        if self._rows is None or self._rows.like is not session:
            self._let_go()
            self._rows = RowsAside(session)

    def _let_go(self) -> None:
        if self._rows is not None:
            self._rows.close()

    @contextmanager
    def _placing(self) -> Iterator[None]:
        """What this thread sets meanwhile was turned by nobody."""
        self._placed_by = threading.get_ident()
        try:
            yield
        finally:
            self._placed_by = None

    def _tell_turned(self, *strengths: float) -> None:
        if self._placed_by != threading.get_ident():
            self._tell("turn", *strengths)

    def _failed(self, error: Exception) -> None:
        """Say why, unless it was put elsewhere, which closes the session that is decoding."""
        if self._latest.is_current():
            self.fail(error)

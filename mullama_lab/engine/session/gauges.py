"""Gauges: what a session is doing, cheap to read often and from any thread.

They take no lock and none of the worker's time, keep no session alive, and go on showing what a
session counted after it was closed. A number may be one batch old.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session.session import Session


class Shown(NamedTuple):
    """What the gauges of a session show at one moment.

    Attributes:
        is_open: whether it can be asked for something; a session of another process is not.
        generated: tokens that were drawn since it was opened.
        decoded: tokens that llama.cpp decoded since then, those of prompts too.
        first_token: when the newest first token of a run came (nanoseconds of
            `time.perf_counter_ns`), and seconds since the turn of that run had come; None before
            any.
        n_cells, n_cells_max: cells of the cache in use, and those there are.
        n_active, n_waiting: texts in the batch, and what waits to begin.
    """

    is_open: bool
    generated: int
    decoded: int
    first_token: tuple[int, float] | None
    n_cells: int = 0
    n_cells_max: int = 0
    n_active: int = 0
    n_waiting: int = 0


class Gauges:
    """The gauges of one session.

    Attributes:
        model: a weak reference to its model.
        model_name: what that is called.
    """

    def __init__(self, session: Session) -> None:
        self.model: weakref.ref[Model] = weakref.ref(session.model)
        self.model_name = session.model.name
        self._session = weakref.ref(session)
        self._counts = session._cache.counts

    def read(self) -> Shown:
        """What they show now."""
        session, counts = self._session(), self._counts
        is_open = session is not None and not session.closed and not session._worker.is_lost
        counted = is_open, counts.generated, counts.decoded, counts.first_token
        if session is None or not is_open:
            return Shown(*counted)
        known, plan = session._cache.sequences, session._scheduler
        n_waiting = len(plan.waiting) + session._worker.n_queued
        return Shown(*counted, known.n_cells, known.n_cells_max, len(plan.active), n_waiting)


_told: list[Callable[[Gauges], object]] = []


def when_opened(call: Callable[[Gauges], object]) -> Callable[[], None]:
    """Call `call(gauges)` for each session that is opened from now on, on the thread that does.

    It must be quick and raise nothing. Returns what undoes it.
    """
    _told.append(call)

    def undo() -> None:
        with suppress(ValueError):
            _told.remove(call)

    return undo


def tell_opened(gauges: Gauges) -> None:
    """Call what `when_opened` registered."""
    for call in list(_told):
        call(gauges)

"""Tokens a second of sessions, read from their gauges at an interval."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import nan
from time import perf_counter_ns
from typing import NamedTuple

from mullama_lab.engine.session.gauges import Gauges, Shown


class SessionReading(NamedTuple):
    """What one session did in an interval, and how it stood at its end.

    Attributes:
        session: its number, in the order in which the monitor came to know them.
        shown: what its gauges showed.
    """

    session: int
    model: str
    generated: int
    decoded: int
    shown: Shown

    def after(self, before: SessionReading) -> SessionReading:
        """What it did in this interval and in the one before."""
        return self._replace(
            generated=before.generated + self.generated, decoded=before.decoded + self.decoded
        )


@dataclass
class _Followed:
    number: int
    gauges: Gauges
    before: Shown


@dataclass
class Throughput:
    """Follows sessions; for one thread at a time.

    Args:
        opened: those that are opened meanwhile come here.
        wanted: which of these are followed.
    """

    opened: deque[Gauges]
    wanted: Callable[[Gauges], bool]
    _followed: list[_Followed] = field(default_factory=list)
    _n_seen: int = 0
    _first_token: tuple[int, float] = (0, 0.0)

    def begin(self, open_now: list[Gauges]) -> list[SessionReading]:
        """Count from now on, in these sessions and in those that will be opened.

        Returns how these stand, of which nothing is counted yet.
        """
        self._first_token = perf_counter_ns(), 0.0
        self.opened.clear()
        known = {id(one.gauges): one.number for one in self._followed}
        self._followed = []
        for gauges in open_now:
            self._follow(gauges, gauges.read(), known.get(id(gauges)))
        return [
            SessionReading(one.number, one.gauges.model_name, 0, 0, one.before)
            for one in self._followed
        ]

    def read(self) -> list[SessionReading]:
        """What each did since the last reading; one that has ended is read a last time."""
        while self.opened:
            gauges = self.opened.popleft()
            known = any(one.gauges is gauges for one in self._followed)
            if self.wanted(gauges) and not known:
                self._follow(gauges, Shown(True, 0, 0, None))  # as it was when it was opened
        readings = [self._reading(one) for one in self._followed]
        came = (one.shown.first_token for one in readings if one.shown.first_token is not None)
        self._first_token = max([self._first_token, *came])
        self._followed = [one for one in self._followed if one.before.is_open]
        return readings

    @property
    def first_token_seconds(self) -> float:
        """Of the newest run whose first token came since the beginning; NaN before any."""
        return self._first_token[1] or nan

    def _follow(self, gauges: Gauges, before: Shown, number: int | None = None) -> None:
        if number is None:
            number, self._n_seen = self._n_seen, self._n_seen + 1
        self._followed.append(_Followed(number, gauges, before))

    def _reading(self, one: _Followed) -> SessionReading:
        shown, before = one.gauges.read(), one.before
        one.before = shown
        return SessionReading(
            one.number,
            one.gauges.model_name,
            shown.generated - before.generated,
            shown.decoded - before.decoded,
            shown,
        )

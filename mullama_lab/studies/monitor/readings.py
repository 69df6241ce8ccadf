"""What a monitor read, one moment after the other, and as columns."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.studies.monitor.throughput import SessionReading

Columns: TypeAlias = dict[str, NDArray[np.float64]]  # of one number a reading each

OF_SESSIONS = (
    *("seconds", "session", "model", "tokens_per_second", "decoded_per_second"),
    *("n_cells", "n_cells_max", "n_active", "n_waiting"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read at one moment.

    Attributes:
        seconds: since the monitor was first started.
        interval: seconds since the reading before; NaN for the first after a start.
        generated, decoded: tokens of all sessions in that interval.
        n_generated: tokens generated since the first start.
        busy_seconds: of the intervals in which these were.
        first_token_seconds: of the newest run; NaN before there is one.
        names, values: what counters of the machine showed.
    """

    seconds: float
    interval: float
    generated: int
    decoded: int
    n_generated: int
    busy_seconds: float
    first_token_seconds: float
    sessions: Sequence[SessionReading]
    names: tuple[str, ...] = ()
    values: array[float] = field(default_factory=lambda: array("d"))

    def extended(
        self, seconds: float, sessions: Sequence[SessionReading], first_token_seconds: float
    ) -> Reading:
        """The same, with what was done since then, until `seconds`; counters stay as they were."""
        since = seconds - self.seconds
        generated = sum(one.generated for one in sessions)
        together = {one.session: one for one in self.sessions}
        for one in sessions:
            before = together.get(one.session)
            together[one.session] = one if before is None else one.after(before)
        was_busy = self.interval if self.generated else 0.0
        is_busy = self.interval + since if self.generated + generated else 0.0
        return replace(
            self,
            seconds=seconds,
            interval=self.interval + since,
            generated=self.generated + generated,
            decoded=self.decoded + sum(one.decoded for one in sessions),
            n_generated=self.n_generated + generated,
            busy_seconds=self.busy_seconds - was_busy + is_busy,
            first_token_seconds=first_token_seconds,
            sessions=tuple(together.values()),
        )

    @property
    def tokens_per_second(self) -> float:
        return self.generated / self.interval

    @property
    def average(self) -> float:
        """Tokens a second over all intervals in which there were some; NaN before there are."""
        return self.n_generated / self.busy_seconds if self.n_generated else nan


def columns_of(readings: Sequence[Reading]) -> Columns:
    """A column for each quantity that was read at least once; NaN where it was not."""

    def column(value: Callable[[Reading], float]) -> NDArray[np.float64]:
        return np.array([value(reading) for reading in readings], np.float64)

    def in_sessions(name: str) -> NDArray[np.float64]:
        return column(lambda reading: sum(getattr(one.shown, name) for one in reading.sessions))

    columns = {
        "tokens_per_second": column(lambda reading: reading.tokens_per_second),
        "decoded_per_second": column(lambda reading: reading.decoded / reading.interval),
        "n_generated": column(lambda reading: reading.n_generated),
        "first_token_seconds": column(lambda reading: reading.first_token_seconds),
        "n_sessions": in_sessions("is_open"),
        **{name: in_sessions(name) for name in ("n_cells", "n_cells_max", "n_active", "n_waiting")},
    }
    counters: Columns = {}
    for place, reading in enumerate(readings):
        for name, value in zip(reading.names, reading.values, strict=True):
            counters.setdefault(name, np.full(len(readings), nan))[place] = value
    watts = [values for name, values in counters.items() if name.endswith("_watts")]
    if watts:
        # NaN where any source is not known: a sum of the others would be too small.
        joules = np.sum(watts, axis=0) * column(lambda reading: reading.interval)
        generated = column(lambda reading: reading.generated or nan)
        counters |= {"joules": joules, "joules_per_token": joules / generated}
    return columns | counters


def rows_of_sessions(readings: Sequence[Reading]) -> list[tuple[object, ...]]:
    """A row of `OF_SESSIONS` for each session that was open at a reading."""
    return [
        (
            reading.seconds,
            one.session,
            one.model,
            one.generated / reading.interval,
            one.decoded / reading.interval,
            one.shown.n_cells,
            one.shown.n_cells_max,
            one.shown.n_active,
            one.shown.n_waiting,
        )
        for reading in readings
        for one in reading.sessions
        if one.shown.is_open
    ]

"""What a monitor read, as columns and as a table of text."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import size_in_words
from mullama_lab.studies.monitor.throughput import SessionReading

Columns: TypeAlias = dict[str, NDArray[np.float64]]  # of one number a reading each

HEAD = ("", "now", "average", "lowest", "highest", "over time")
OF_SESSIONS = (
    *("seconds", "session", "model", "tokens_per_second", "decoded_per_second"),
    *("n_cells", "n_cells_max", "n_active", "n_waiting"),
)
BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 24


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


def summary(readings: Sequence[Reading]) -> list[tuple[str, ...]]:
    """Rows below `HEAD`: what is known of each quantity, in words."""
    columns = columns_of(readings)
    cores = [values for name, values in columns.items() if re.fullmatch(r"cpu_\d+_percent", name)]
    rows = [
        _row("tokens/s", columns["tokens_per_second"], _number, readings[-1].average),
        _row("decoded tokens/s", columns["decoded_per_second"], _number),
        _row("time to first token", columns["first_token_seconds"], seconds_in_words),
    ]
    if "resident_bytes" in columns:
        rows.append(_row("resident memory", columns["resident_bytes"], _bytes))
        rows.append(_row("free memory", columns["free_bytes"], _bytes))
    if cores:
        rows.append(_row(f"CPU, mean of {len(cores)} cores", np.mean(cores, axis=0), _percent))
        rows.append(_row("CPU, busiest core", np.max(cores, axis=0), _percent))
    n_cells_max = int(columns["n_cells_max"][-1])
    of_all = f"KV cells, of {n_cells_max} now" if n_cells_max else "KV cells"
    rows.append(_row(of_all, columns["n_cells"], _number))
    rows.append(_row("texts in the batch", columns["n_active"], _number))
    rows.append(_row("waiting", columns["n_waiting"], _number))
    if "cpu_watts" in columns:
        rows.append(_row("processor power", columns["cpu_watts"], _watts))
    for name, values in columns.items():
        if match := re.fullmatch(r"gpu_(\d+)_(percent|bytes|watts|celsius)", name):
            what, say = _GPU[match[2]]
            rows.append(_row(f"GPU {match[1]} {what}", values, say))
    if "joules" in columns:
        per_token = columns["joules_per_token"]
        busy = ~np.isnan(per_token)
        n = sum(one.generated for one, is_busy in zip(readings, busy, strict=True) if is_busy)
        average = float(columns["joules"][busy].sum()) / n if n else nan
        rows.append(_row("joules a token", per_token, _number, average))
    return rows


def _row(
    label: str,
    values: NDArray[np.float64],
    say: Callable[[float], str],
    average: float | None = None,
) -> tuple[str, ...]:
    known = values[~np.isnan(values)]
    if not len(known):
        return (label, *["n/a"] * 4, "")
    mean = float(known.mean()) if average is None else average
    said = (float(values[-1]), mean, float(known.min()), float(known.max()))
    return (label, *(_or_not_known(say, value) for value in said), _bars(values))


def _or_not_known(say: Callable[[float], str], value: float) -> str:
    return "n/a" if isnan(value) else say(value)


def _bars(values: NDArray[np.float64]) -> str:
    """A bar a reading, or the mean of several, from 0 to the highest; a space for what is n/a."""
    parts = np.array_split(values, min(MOST_BARS, len(values)))
    means = [float(np.nanmean(part)) if not np.isnan(part).all() else nan for part in parts]
    most = max((mean for mean in means if not isnan(mean)), default=0.0)
    last = len(BARS) - 1
    return "".join(
        " " if isnan(mean) else BARS[round(last * max(0.0, mean) / most) if most > 0 else 0]
        for mean in means
    )


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Rows below `HEAD`, in columns of text."""
    table = [HEAD, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for label, *cells, bars in table:
        said = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:-1], strict=True)]
        lines.append("  ".join([f"{label:<{widths[0]}}", *said, bars]).rstrip())
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def seconds_in_words(value: float) -> str:
    """A time as a person says it.

    >>> seconds_in_words(0.01234), seconds_in_words(2.5), seconds_in_words(3000.4)
    ('12.3 ms', '2.5 s', '3000 s')
    """
    return f"{_number(value)} s" if value >= 1 else f"{_number(1000 * value)} ms"


def _bytes(value: float) -> str:
    return size_in_words(int(value))


def _percent(value: float) -> str:
    return f"{value:.0f} %"


def _watts(value: float) -> str:
    return f"{_number(value)} W"


_GPU: dict[str, tuple[str, Callable[[float], str]]] = {
    "percent": ("utilisation", _percent),
    "bytes": ("memory", _bytes),
    "watts": ("power", _watts),
    "celsius": ("temperature", lambda value: f"{value:.0f} °C"),
}

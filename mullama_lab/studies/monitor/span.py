"""Readings of a monitor that follow one another, summed up quantity by quantity, and as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted, size_in_words
from mullama_lab.studies.monitor.readings import Reading, columns_of

HEAD = ("", "now", "average", "lowest", "highest", "over time")
BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 24

_CORE = re.compile(r"cpu_\d+_percent")


@dataclass(frozen=True, eq=False)
class Quantity:
    """One of the things that were read.

    Attributes:
        label: what it is called.
        values: one a reading, NaN where it was not known.
        say: such a number, in words.
        average: over the readings; of what is done, as tokens, over those in which any was.
        most: the highest that there can be; 0 where that is not known.
    """

    label: str
    values: NDArray[np.float64]
    say: Callable[[float], str]
    average: float
    most: float = 0.0

    @property
    def known(self) -> NDArray[np.float64]:
        """The values without those that are not known."""
        return self.values[~np.isnan(self.values)]

    @property
    def highest(self) -> float:
        """The upper end of a scale that begins at 0."""
        return max(self.most, *self.known.tolist(), 0.0)

    def said(self, value: float) -> str:
        """A value in words, "n/a" if it is not known."""
        return "n/a" if isnan(value) else self.say(value)


@dataclass(frozen=True, eq=False)
class Span:
    """Some readings of a monitor, the newest last.

    What the monitor did not read, as it was stopped, counts nowhere.
    """

    readings: Sequence[Reading]

    def __len__(self) -> int:
        return len(self.readings)

    @property
    def seconds(self) -> float:
        """The time that was read over: that of pauses is no part of it."""
        return sum(one.interval for one in self.readings if not isnan(one.interval))

    @property
    def pauses(self) -> Sequence[int]:
        """The places of the readings before which it was stopped."""
        return [n for n, one in enumerate(self.readings) if n and isnan(one.interval)]

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """What is known, by the name of its column; `cpu_percent` is the mean of all cores."""
        return _quantities(self.readings) if self.readings else {}

    def summary(self) -> list[tuple[str, ...]]:
        """Rows below `HEAD`: what is known of each quantity, in words."""
        return [self._row(name, one) for name, one in self.quantities.items()]

    def _row(self, name: str, one: Quantity) -> tuple[str, ...]:
        of_all = f", of {one.most:.0f} now" if name == "n_cells" and one.most else ""
        known, label = one.known, f"{one.label}{of_all}"
        if not len(known):
            return (label, *["n/a"] * 4, "")
        said = (float(one.values[-1]), one.average, float(known.min()), float(known.max()))
        return (label, *map(one.said, said), self._bars(one.values))

    def _bars(self, values: NDArray[np.float64]) -> str:
        """A bar a reading, or the mean of several, from 0 to the highest.

        A space is a pause, or what is not known.
        """
        places = np.array_split(np.arange(len(values)), min(MOST_BARS, len(values)))
        parts = [values[place] for place in places]
        means = [float(np.nanmean(part)) if not np.isnan(part).all() else nan for part in parts]
        most = max((mean for mean in means if not isnan(mean)), default=0.0)
        last, drawn = len(BARS) - 1, ""
        for place, mean in zip(places, means, strict=True):
            drawn += " " if np.isin(self.pauses, place).any() else ""
            drawn += (
                " " if isnan(mean) else BARS[round(last * max(0.0, mean) / most) if most > 0 else 0]
            )
        return drawn


def _quantities(readings: Sequence[Reading]) -> dict[str, Quantity]:
    columns = columns_of(readings)
    found: dict[str, Quantity] = {}

    def add(
        name: str,
        label: str,
        say: Callable[[float], str],
        average: float | None = None,
        most: float = 0.0,
    ) -> None:
        values = columns[name]
        known = values[~np.isnan(values)]
        if average is None:
            average = float(known.mean()) if len(known) else nan
        found[name] = Quantity(label, values, say, average, most)

    add("tokens_per_second", "tokens/s", _number, _rate(readings, lambda one: one.generated))
    add("decoded_per_second", "decoded tokens/s", _number, _rate(readings, lambda one: one.decoded))
    add("first_token_seconds", "time to first token", seconds_in_words)
    if "resident_bytes" in columns:
        add("resident_bytes", "resident memory", _bytes)
        add("free_bytes", "free memory", _bytes)
    cores = [values for name, values in columns.items() if _CORE.fullmatch(name)]
    if cores:
        of = f", mean of {counted(len(cores), 'core')}" if len(cores) > 1 else ""
        columns["cpu_percent"] = np.mean(cores, axis=0)
        add("cpu_percent", f"CPU{of}", _percent, most=100.0)
    if len(cores) > 1:
        columns["busiest_percent"] = np.max(cores, axis=0)
        add("busiest_percent", "CPU, busiest core", _percent, most=100.0)
    add("n_cells", "KV cells", _number, most=float(columns["n_cells_max"][-1]))
    add("n_active", "texts in the batch", _number)
    add("n_waiting", "waiting", _number)
    if "cpu_watts" in columns:
        add("cpu_watts", "processor power", _watts)
    for name in list(columns):
        if match := re.fullmatch(r"gpu_(\d+)_(percent|bytes|watts|celsius)", name):
            what, say = _GPU[match[2]]
            add(name, f"GPU {match[1]} {what}", say)
    if "joules" in columns:
        known = ~np.isnan(columns["joules_per_token"])
        n = sum(one.generated for one, is_known in zip(readings, known, strict=True) if is_known)
        of_busy = _share(float(columns["joules"][known].sum()), n)
        add("joules_per_token", "joules a token", _number, of_busy)
    return found


def _rate(readings: Sequence[Reading], n_done: Callable[[Reading], int]) -> float:
    """How many were done a second, of the intervals in which any were."""
    busy = [one for one in readings if n_done(one) and not isnan(one.interval)]
    return _share(sum(map(n_done, busy)), sum(one.interval for one in busy))


def _share(whole: float, n: float) -> float:
    return whole / n if n else nan


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

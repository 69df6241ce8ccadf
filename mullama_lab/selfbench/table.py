"""One row of the benchmark, and the table they make."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measured figure.

    Attributes:
        what: what was measured, with its unit.
        ours, peer: the two figures as text; peer is "" where there is none.
        value: the number that the target is about: a ratio, a time, a count.
        target: the bound on `value`; None for a figure that is only told.
        at_least: whether the bound is from below.
    """

    what: str
    ours: str
    peer: str = ""
    value: float | None = None
    target: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """met, MISSED, or nothing where there is no target."""
        if self.value is None or self.target is None:
            return ""
        met = self.value >= self.target if self.at_least else self.value <= self.target
        return "met" if met else "MISSED"

    def cells(self) -> tuple[str, ...]:
        sign = "≥" if self.at_least else "≤"
        value = "" if self.value is None else f"{self.value:.3g}"
        target = "" if self.target is None else f"{sign} {self.target:g}"
        return self.what, self.ours, self.peer, value, target, self.verdict


HEAD = ("what", "ours", "peer", "value", "target", "")


def print_table(rows: Iterable[Row]) -> None:
    """Print rows as they come, as a table."""
    widths = (76, 14, 7, 7, 7, 6)
    for cells in itertools.chain([HEAD], (row.cells() for row in rows)):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths))
        print(line.rstrip(), flush=True)

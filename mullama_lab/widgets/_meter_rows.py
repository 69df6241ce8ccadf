"""What a Monitor read, as meters: plain values that a page can draw.

It takes the `Span` of a monitor as it comes, which has the words, and knows nothing of how it is
read.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mullama_lab.studies.monitor.span import Quantity, Span

SHOWN = ("tokens_per_second", "resident_bytes", "cpu_percent", "n_cells", "n_waiting")


def meters_of(span: Span) -> list[dict[str, Any]]:
    """A meter for each quantity of `SHOWN` that the machine reports.

    Each has `name`, `now`, `average` and `top` in words (top is the upper end of its scale, which
    begins at 0), and `values`: shares of that, None for what was not known, and for a pause.
    """
    there = (span.quantities[name] for name in SHOWN if name in span.quantities)
    return [_meter(one, set(span.pauses)) for one in there]


def _meter(one: Quantity, pauses: set[int]) -> dict[str, Any]:
    top = one.highest
    values: list[float | None] = []
    for n, value in enumerate(one.values.tolist()):
        if n in pauses:
            values.append(None)
        values.append(round(value / (top or 1.0), 3) if isfinite(value) else None)
    return {
        "name": one.label,
        "now": one.said(float(one.values[-1])),
        "average": one.said(one.average),
        "top": one.say(top),
        "values": values,
    }

"""Numbers rounded so that the printed ones add up to the printed sum.

The browser half rounds the same way, in `widgets/shared/matrix.js`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def adds_up(values: Sequence[float], digits: int = 3) -> tuple[list[float], float]:
    """Each value within one unit of its last digit, and their sum rounded.

    >>> adds_up([1 / 3, 1 / 3, 1 / 3], 2)
    ([0.34, 0.33, 0.33], 1.0)
    """
    unit = 10**digits
    parts = [math.floor(x * unit) for x in values]
    total = math.floor(sum(values, 0.0) * unit + 0.5)
    missing = total - sum(parts)
    lost = sorted(range(len(parts)), key=lambda i: (parts[i] - values[i] * unit, i))
    for i in lost[: max(0, missing)]:
        parts[i] += 1
    return [part / unit for part in parts], total / unit

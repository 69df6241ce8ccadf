"""Student's t: how far from the mean of few values the true one may be."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def student(freedom: int, level: float) -> float:
    """The t that a value of Student's distribution stays within, either way, at a level.

    With t = sqrt(freedom) tan(angle) its density is cos(angle) ** (freedom - 1).

    >>> round(student(4, 0.95), 2)
    2.78
    """
    angles = np.linspace(0, np.pi / 2, 200_001)
    within = np.cumsum(np.cos(angles) ** (freedom - 1))
    angle = angles[np.searchsorted(within, level * within[-1])]
    return float(freedom**0.5 * np.tan(angle))

"""A straight line through measured points, and how far it can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mullama_lab.studies._student import student

LEVEL = 0.95  # of every interval
LEAST = 4  # points


class Estimate(NamedTuple):
    """A value, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Line:
    """y = intercept + slope x by least squares.

    Attributes:
        covariance: of the two, (2, 2).
        n: points it was fitted to.
    """

    intercept: float
    slope: float
    covariance: NDArray[np.float64]
    n: int

    @classmethod
    def through(cls, x: ArrayLike, y: ArrayLike) -> Line:
        """The line through at least four points of two different x; else ValueError."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if len(x) < LEAST or not np.ptp(x):
            raise ValueError(
                f"a line and its interval need {LEAST} points, and there are {len(x)}."
            )
        middle = float(x.mean())
        spread = float(((x - middle) ** 2).sum())
        slope = float((x - middle) @ y) / spread
        intercept = float(y.mean()) - slope * middle
        variance = float(((y - intercept - slope * x) ** 2).sum()) / (len(x) - 2)
        across = -middle / spread
        covariance = np.array([[1 / len(x) - across * middle, across], [across, 1 / spread]])
        return cls(intercept, slope, variance * covariance, len(x))

    def combined(self, of_intercept: float, of_slope: float) -> Estimate:
        """So many times the intercept and so many times the slope, with the interval."""
        c = np.array([of_intercept, of_slope], np.float64)
        value = of_intercept * self.intercept + of_slope * self.slope
        half = student(self.n - 2, LEVEL) * math.sqrt(max(0.0, float(c @ self.covariance @ c)))
        return Estimate(value, value - half, value + half)

    def at(self, x: float) -> Estimate:
        """The line at a place; the interval is of the line, not of a single measurement."""
        return self.combined(1.0, float(x))

    def total(self, first: int, last: int) -> Estimate:
        """The sum over the whole numbers from `first` up to, without, `last`."""
        n = last - first
        return self.combined(n, n * (first + last - 1) / 2)

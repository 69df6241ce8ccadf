"""A grid of strengths of two levers, filled cell by cell from coarse to fine.

Values only; it decodes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.steering.steering import LARGEST
from mullama_lab.widgets._levers import SLIDER

N = 17  # cells a side, when all are there
STRIDES = (8, 4, 2, 1)  # of 3, 5, 9 and 17 cells a side


def reach_for(strength: float) -> float:
    """How far an axis goes to both sides of 0, so that a strength lies on it: 2, 4, 8 and so on."""
    least = SLIDER[1]
    if abs(strength) <= least:
        return least
    return min(LARGEST, 2.0 ** math.ceil(math.log2(abs(strength))))


def _order() -> Iterator[tuple[int, int]]:
    """Row and column of each cell, the coarse ones first."""
    known: set[tuple[int, int]] = set()
    for stride in STRIDES:
        for cell in np.ndindex(N, N):
            if cell[0] % stride == cell[1] % stride == 0 and cell not in known:
                known.add(cell)
                yield cell


ORDER = tuple(_order())


@dataclass
class BlendGrid:
    """What is known of the cells so far.

    Attributes:
        reach: how far the first and the second axis go.
        values: (N, N), a row a strength of the second, from the lowest; NaN where not known.
        n_done: how many cells are there.
    """

    reach: tuple[float, float]
    values: NDArray[np.float64] = field(default_factory=lambda: np.full((N, N), np.nan))
    n_done: int = 0

    @property
    def n_cells(self) -> int:
        """How many there will be."""
        return len(ORDER)

    @property
    def is_done(self) -> bool:
        return self.n_done == len(ORDER)

    @property
    def next_cell(self) -> tuple[float, float]:
        """The strengths of the cell that is to be filled."""
        row, column = ORDER[self.n_done]
        x, y = self.axes()
        return float(x[column]), float(y[row])

    def fill(self, value: float) -> bool:
        """Fill the next cell; whether a finer picture is whole by that."""
        self.values[ORDER[self.n_done]] = value
        self.n_done += 1
        return self.n_done in {_n(stride) ** 2 for stride in STRIDES}

    @property
    def stride(self) -> int:
        """Of the finest picture that is whole; 0 before the first."""
        return next((one for one in reversed(STRIDES) if _n(one) ** 2 <= self.n_done), 0)

    def axes(self, stride: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The strengths along the first and the second axis."""
        x, y = (np.linspace(-reach, reach, _n(stride)) for reach in self.reach)
        return x, y

    def picture(self, stride: int) -> NDArray[np.float64]:
        """Every so manyth value of each row and column."""
        return self.values[::stride, ::stride]


def _n(stride: int) -> int:
    """Cells a side."""
    return (N - 1) // stride + 1

"""How much of a row is left where a grammar lets only some tokens come."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SURE_TO = 1e-4  # nats between the bounds of what is left
Mask = NDArray[np.bool_]


class Left(NamedTuple):
    """What is left of a row where only some tokens may come.

    Attributes:
        low, high: bounds of the cost: -ln of the probability that is left, in nats.
        wanted, wanted_logprob: the likeliest token that may not come, or -1 and NaN.
        best, best_logprob: the likeliest token that may, or -1 and NaN where it was not kept.
    """

    low: float
    high: float
    wanted: int
    wanted_logprob: float
    best: int
    best_logprob: float

    @property
    def sure(self) -> bool:
        """Whether the bounds are as near as rounding."""
        return self.high - self.low <= SURE_TO


UNKNOWN = Left(0.0, math.inf, -1, math.nan, -1, math.nan)
NO_COST = UNKNOWN._replace(high=0.0)


def left(
    ids: NDArray[np.int32],
    logits: NDArray[np.float32],
    log_total: float,
    allowed: Mask,
    *,
    is_whole: bool,
) -> Left:
    """What is left of a row, of which these are all the candidates, or the likeliest.

    Args:
        log_total: the log-sum-exp of the whole row.
    """
    may = allowed[ids]
    here = logits.astype(np.float64) - log_total
    known = _log_sum(here[may])
    n_unseen = int(np.count_nonzero(allowed)) - int(np.count_nonzero(may))
    most = known
    if n_unseen and not is_whole:
        unseen = max(0.0, -math.expm1(min(0.0, _log_sum(here))))
        most = math.log(math.exp(known) + min(unseen, n_unseen * math.exp(float(here.min()))))
    wanted, wanted_logprob = _likeliest(ids, here, ~may)
    best, best_logprob = _likeliest(ids, here, may)
    return Left(_cost(most), _cost(known), wanted, wanted_logprob, best, best_logprob)


def _cost(log_left: float) -> float:
    return max(0.0, -log_left)


def _log_sum(logprobs: NDArray[np.float64]) -> float:
    if not len(logprobs) or (best := float(logprobs.max())) == -math.inf:
        return -math.inf
    return best + math.log(np.exp(logprobs - best).sum())


def _likeliest(
    ids: NDArray[np.int32], logprobs: NDArray[np.float64], which: Mask
) -> tuple[int, float]:
    places = np.flatnonzero(which & (logprobs > -np.inf))
    if not len(places):
        return -1, math.nan
    place = places[np.argmax(logprobs[places])]
    return int(ids[place]), float(logprobs[place])

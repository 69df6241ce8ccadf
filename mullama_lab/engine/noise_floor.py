"""NoiseFloor: how far apart two computations of the same thing may be, and what is no effect then.

llama.cpp adds in another order for another size of batch, so the same tokens have slightly
different logits. `studies/noise.py` measures by how much; a study that has a text decoded may look
at that alone. A view asks here whether a difference that it is about to show is more than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.options import must_not_be_endless
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of a logit, as a part of it
MEASURES = ("logit", "logprob", "kl", "js")
LIKELY = 1e-3  # probability from which a token's log-probability counts
MARGIN = 3.0  # between the largest difference of logits seen and the floor
POWER = {"kl": 2}  # of it for a measure that is not proportional: a divergence grows as a square


@dataclass(frozen=True)
class NoiseFloor:
    """The largest differences that mean nothing.

    Attributes:
        logit: between two logits of any one token.
        logprob: between two log-probabilities, in nats, of a token that has a probability of at
            least 0.001 in one of them; less likely ones are as noisy as their logits.
        kl: Kullback-Leibler divergence of one distribution from another, in nats.
        js: Jensen-Shannon distance between two distributions: from 0 to 1, the square root of
            the divergence in bits.
    """

    logit: float
    logprob: float
    kl: float
    js: float

    def within(self, difference: float, measure: str = "logprob") -> bool:
        """Whether a difference, of either sign, is within the noise; NaN is not.

        Args:
            measure: "logit", "logprob", "kl" or "js".

        >>> floor = NoiseFloor(logit=0.02, logprob=0.01, kl=1e-5, js=0.003)
        >>> floor.within(-0.005), floor.within(0.015), floor.within(0.015, "logit")
        (True, False, True)
        """
        if measure not in MEASURES:
            raise ValueError(f"measure={brief(measure)}: it must be one of {', '.join(MEASURES)}.")
        return abs(difference) <= getattr(self, measure)

    def same(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
        """Whether two rows of logits, float32 of shape (n_vocab,), differ by noise alone."""
        apart = row_differences(a, b)
        return all(self.within(apart[measure], measure) for measure in MEASURES)

    def said(self, difference: float, measure: str = "logprob") -> str:
        """ "within noise", or nothing: what a view writes behind a difference."""
        return "within noise" if self.within(difference, measure) else ""


def row_differences(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> dict[str, float]:
    """How far apart two rows of logits are, by each measure: the largest over their tokens.

    Tokens that both rows mask count nothing; one that only one of them masks is infinitely far.
    """
    must_not_be_endless("a row", a, "logits")
    must_not_be_endless("a row", b, "logits")
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise ValueError(f"rows of shapes {x.shape} and {y.shape}: give two of one vocabulary.")
    masked = np.isneginf(x) & np.isneginf(y)
    x, y = x[~masked], y[~masked]
    if not len(x):
        return dict.fromkeys(MEASURES, 0.0)
    p, q = log_softmax(x), log_softmax(y)
    likely = np.maximum(p, q) >= np.log(LIKELY)
    return {
        "logit": float(np.abs(x - y).max()),
        "logprob": float(np.abs(p - q)[likely].max(initial=0.0)),
        "kl": divergence(p, q),
        "js": jensen_shannon(np.exp(p), np.exp(q)),
    }


def floor_above(seen: Sequence[Mapping[str, float]], largest: float) -> NoiseFloor:
    """The floor above differences of rows that mean nothing, at least one.

    Args:
        seen: each as `row_differences` gives it.
        largest: of the logits of the rows, of either sign; a float32 is rounded to a part of it.

    >>> floor_above([{"logit": 0.01, "logprob": 0.004, "kl": 2e-6, "js": 0.001}], 20.0)
    NoiseFloor(logit=0.03, logprob=0.012, kl=1.8e-05, js=0.003)
    """
    rounding = ROUNDING * largest
    most = {name: max(one[name] for one in seen) for name in MEASURES}
    above = {name: MARGIN ** POWER.get(name, 1) * most[name] for name in MEASURES}
    return NoiseFloor(**{name: max(rounding, above[name]) for name in MEASURES})


def jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """The distance of two distributions: the root of their divergence in bits, from 0 to 1.

    >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    1.0
    """
    middle = (p + q) / 2
    bits = sum(float((x[x > 0] * np.log2(x[x > 0] / middle[x > 0])).sum()) for x in (p, q))
    return math.sqrt(max(0.0, bits / 2))


def log_softmax(row: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The log-probabilities, in nats, of a row of logits."""
    row = np.asarray(row, np.float64) - float(row.max())
    return row - np.log(np.exp(row).sum())


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """The Kullback-Leibler divergence of q from p in nats; both are log-probabilities.

    NaN where one of them has no numbers.

    >>> round(divergence(np.log([0.5, 0.5]), np.log([0.25, 0.75])), 6)
    0.143841
    """
    there = ~np.isneginf(p)
    return max(float((np.exp(p[there]) * (p[there] - q[there])).sum()), 0.0)  # NaN comes first


_measured: dict[str, NoiseFloor] = {}  # by `Model.id`, for as long as this process lives


def remember(model: Model, floor: NoiseFloor | None) -> None:
    """Let views know what was measured for a model; None is nothing again."""
    if floor is None:
        _measured.pop(model.id, None)
    else:
        _measured[model.id] = floor


def known_floor(model: Model) -> NoiseFloor | None:
    """What was measured for a model, on this machine and in this process; None if nothing."""
    return _measured.get(model.id)


def floor_of(model_ids: Iterable[str]) -> NoiseFloor | None:
    """The floor for what some models computed, by their ids, as a trace's `model_id` has it.

    Of each measure it is the largest. None if nothing was measured for one of them.
    """
    known: list[NoiseFloor] = []
    for model_id in model_ids:
        if model_id not in _measured:
            return None
        known.append(_measured[model_id])
    return highest(known) if known else None


def highest(floors: Sequence[NoiseFloor]) -> NoiseFloor:
    """The largest of some floors, at least one, by each measure."""
    return NoiseFloor(**{name: max(getattr(one, name) for one in floors) for name in MEASURES})

"""The tail of a row: what is sure about the tokens that a record left out.

A trace keeps a row's likeliest candidates and the log-sum-exp of all of it. Of the others, the
tail, it is known how many there are, that none has a logit above the ceiling, and between which
bounds their probability is. Each stage changes that knowledge; a stage that needs more than is
known raises `Uncovered`, and the row has to be decoded again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.sampling import samplers as s
from mullama_lab.engine.sampling.chain import Stage

ROUNDING = 1e-6  # of a row's log-sum-exp, which is computed in float32


class Uncovered(Exception):
    """What was kept of a row does not decide what a chain makes of it; the text says why."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The tokens that are not among the candidates but may still be chosen.

    Attributes:
        n: how many there are at most; 0 if there is none.
        ceiling: no logit of theirs is above.
        log_low, log_high: bounds of the log-sum-exp of their logits.
        masked: none is left, but llama.cpp still has entries for them, at minus infinity.
    """

    n: int = 0
    ceiling: float = -math.inf
    log_low: float = -math.inf
    log_high: float = -math.inf
    masked: bool = False

    @classmethod
    def of(cls, logits: NDArray[np.float32], n_vocab: int, logsumexp: float | None) -> Tail:
        """The tail of a row of which these are the largest logits.

        Without the row's log-sum-exp the bounds are wide, which is quick and often enough.
        """
        n = n_vocab - len(logits)
        if n == 0:
            return CLOSED
        ceiling = float(logits.min())
        if ceiling == -math.inf:
            return MASKED
        if logsumexp is None:
            return cls(n, ceiling, -math.inf, ceiling + math.log(n))
        best = float(logits.max())
        total = math.exp(logsumexp - best)
        mass = total - native.exp_shifted(logits, best, np.empty_like(logits))
        slack = ROUNDING * total
        return cls(n, ceiling, best + _log(mass - slack), best + _log(mass + slack))._clipped()

    def _clipped(self) -> Tail:
        """Each of n tokens has at most the ceiling."""
        most = self.ceiling + math.log(self.n) if self.n else -math.inf
        return replace(self, log_low=min(self.log_low, most), log_high=min(self.log_high, most))

    def _fewer(self, k: int) -> Tail:
        """k of them may have become less likely."""
        if k == 0 or self.n == 0:
            return self
        share = math.exp(self.log_low - self.ceiling) - k
        return replace(self, log_low=self.ceiling + _log(share))

    def mass_beside(self, log_known: float) -> tuple[float, float]:
        """Bounds of the tail's mass, where the candidates' own is 1 (`log_known` its log)."""
        return math.exp(self.log_low - log_known), math.exp(self.log_high - log_known)


CLOSED = Tail()
MASKED = Tail(masked=True)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def log_total(logits: NDArray[np.float32]) -> float:
    """The log-sum-exp of some logits; their exponentials are float32, the sum is not."""
    logits = np.ascontiguousarray(logits)
    best = float(logits.max())
    return best + math.log(native.exp_shifted(logits, best, np.empty_like(logits)))


def tail_after(
    stage: Stage,
    tail: Tail,
    logits: NDArray[np.float32],
    kept: NDArray[np.int32],
    history: NDArray[np.int32],
) -> Tail:
    """The tail after a stage other than `TopP`, given the logits of the candidates before it.

    Args:
        kept: ids of the tokens that were kept of the row, ascending.
        history: the tokens before this step, which penalties and DRY look at.
    """
    if tail.masked:
        return _after_masked(stage, tail, logits)
    match stage:
        case s.TopK():
            k = max(stage.k, stage.min_keep)
            n_sure = int(np.count_nonzero(logits > tail.ceiling))
            if k > n_sure:
                raise Uncovered(f"{stage!r} keeps {k} tokens and the record is sure of {n_sure}")
            return CLOSED
        case s.MinP():
            return _after_min_p(stage, tail, logits)
        case s.Temperature(t=0) | s.Greedy():
            if not float(logits.max()) > tail.ceiling:
                raise Uncovered(f"the best token for {stage!r} may be one that was not kept")
            return CLOSED if isinstance(stage, s.Greedy) else MASKED
        case s.Temperature():
            return _heated(tail, stage.t)
        case s.DynamicTemperature(delta=0) if stage.t > 0:
            return _heated(tail, stage.t)
        case s.Penalties() | s.DRY():
            return _after_looking_back(stage, tail, kept, history)
        case s.LogitBias():
            return _after_bias(stage, tail, kept)
        case s.Mask():
            return _after_mask(stage, tail, kept)
    raise Uncovered(f"{stage!r} reads all of the row")


def _after_masked(stage: Stage, tail: Tail, logits: NDArray[np.float32]) -> Tail:
    n_left = int(np.count_nonzero(logits > -np.inf))
    sized = (s.DynamicTemperature, s.Infill, s.AdaptiveP)
    if isinstance(stage, sized) or getattr(stage, "min_keep", 0) > n_left:
        raise Uncovered(f"{stage!r} counts the tokens that were masked")
    shortens = isinstance(stage, (s.MinP, s.Greedy, s.Typical, s.Mirostat, s.MirostatV2, s.Custom))
    if shortens or (isinstance(stage, s.TopK) and stage.k <= n_left):
        return CLOSED
    return tail


def _after_min_p(stage: s.MinP, tail: Tail, logits: NDArray[np.float32]) -> Tail:
    cut = float(logits.max()) + math.log(stage.p)
    cut -= 1e-5 * max(1.0, abs(cut))  # llama.cpp adds in float32
    if not cut > tail.ceiling or np.count_nonzero(logits >= cut) < stage.min_keep:
        raise Uncovered(f"{stage!r} may keep tokens that were not kept of the row")
    return CLOSED


def _heated(tail: Tail, t: float) -> Tail:
    """Sums of powers: n (S / n)^(1/t) and S bound the sum of x^(1/t) of n numbers up to 1."""
    ceiling = float(np.float32(tail.ceiling) / np.float32(t))
    n_log = math.log(tail.n)
    low, high = (x - tail.ceiling for x in (tail.log_low, tail.log_high))
    powers = [n_log + (x - n_log) / t for x in (low, high)]
    low, high = (powers[0], high) if t < 1 else (low, powers[1])
    return replace(tail, ceiling=ceiling, log_low=ceiling + low, log_high=ceiling + high)._clipped()


def _after_looking_back(
    stage: s.Penalties | s.DRY, tail: Tail, kept: NDArray[np.int32], history: NDArray[np.int32]
) -> Tail:
    seen = history if stage.last_n < 0 else history[max(0, len(history) - stage.last_n) :]
    n_unknown = len(_not_in(np.unique(seen), kept))
    raises = isinstance(stage, s.Penalties) and (
        stage.repeat < 1 or stage.frequency < 0 or stage.presence < 0
    )
    if n_unknown and raises:
        raise Uncovered(f"{stage!r} may raise tokens that were not kept of the row")
    return tail._fewer(n_unknown)


def _after_bias(stage: s.LogitBias, tail: Tail, kept: NDArray[np.int32]) -> Tail:
    biases = dict(stage.biases)
    unknown = [biases[token] for token in _not_in(list(biases), kept).tolist()]
    tail = tail._fewer(sum(bias < 0 for bias in unknown))
    up = max([0.0, *unknown])
    if up == 0:
        return tail
    return replace(tail, ceiling=tail.ceiling + up, log_high=tail.log_high + up)._clipped()


def _after_mask(stage: s.Mask, tail: Tail, kept: NDArray[np.int32]) -> Tail:
    banned = _not_in(list(stage.ban), kept)  # an earlier mask may have them too
    if stage.allow is None:
        return tail._fewer(len(banned))
    left = min(tail.n, len(np.setdiff1d(_not_in(list(stage.allow), kept), banned)))
    return replace(tail, n=left, log_low=-math.inf)._clipped() if left else MASKED


def _not_in(tokens: Any, kept: NDArray[np.int32]) -> NDArray[np.int32]:
    """Those of some tokens that are not among the ascending ids `kept`."""
    tokens = np.asarray(tokens, np.int32)
    places = np.minimum(np.searchsorted(kept, tokens), len(kept) - 1)
    return tokens[kept[places] != tokens]

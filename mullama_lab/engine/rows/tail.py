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
        return cls(n, ceiling, best + _log(mass - slack), best + _log(mass + slack)).clipped()

    def clipped(self) -> Tail:
        """The same, knowing that each of n tokens has at most the ceiling."""
        most = self.ceiling + math.log(self.n) if self.n else -math.inf
        return replace(self, log_low=min(self.log_low, most), log_high=min(self.log_high, most))

    def fewer(self, k: int) -> Tail:
        """The tail when k of its tokens may have become less likely."""
        if k == 0 or self.n == 0:
            return self
        share = math.exp(self.log_low - self.ceiling) - k
        return replace(self, log_low=self.ceiling + _log(share))

    def raised(self, up: float) -> Tail:
        """The tail when the logits of some of its tokens may have grown, by at most `up`."""
        return replace(self, ceiling=self.ceiling + up, log_high=self.log_high + up).clipped()

    def at_most(self, n: int) -> Tail:
        """The tail when only n of its tokens may be left, whichever; closed by their masks at 0."""
        n = min(self.n, n)
        return replace(self, n=n, log_low=-math.inf).clipped() if n else MASKED

    def heated(self, t: float) -> Tail:
        """The tail when its logits were divided by t, in float32.

        Sums of powers: n (S / n)^(1/t) and S bound the sum of x^(1/t) of n numbers up to 1.
        """
        ceiling = float(np.float32(self.ceiling) / np.float32(t))
        n_log = math.log(self.n)
        low, high = (x - self.ceiling for x in (self.log_low, self.log_high))
        powers = [n_log + (x - n_log) / t for x in (low, high)]
        low, high = (powers[0], high) if t < 1 else (low, powers[1])
        return replace(
            self, ceiling=ceiling, log_low=ceiling + low, log_high=ceiling + high
        ).clipped()

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


def not_in(tokens: Any, kept: NDArray[np.int32]) -> NDArray[np.int32]:
    """Those of some tokens that are not among the ascending ids `kept`."""
    tokens = np.asarray(tokens, np.int32)
    places = np.minimum(np.searchsorted(kept, tokens), len(kept) - 1)
    return tokens[kept[places] != tokens]

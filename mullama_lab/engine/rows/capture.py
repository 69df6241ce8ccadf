"""What is read off a row of logits at each step, in a tenth of a millisecond.

The row is kept as its likeliest candidates and the log-sum-exp of all of it. Which candidates
are likely enough is a threshold in standard deviations above the row's mean; it carries over
from token to token, because rows of one text are alike, and is set anew by a partial sort when
it keeps too few or too many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.native import Logits
from mullama_lab.errors import DecodeError

KEEP_LEAST = 4096
KEEP_MOST = 3 * KEEP_LEAST
KEEP_AIM = 5120
SAMPLE = 2048  # logits that tell a row's mean and spread


@dataclass(slots=True)
class RowFacts:
    """One row of logits: what of it is kept, and what is true of all of it."""

    logsumexp: float
    entropy: float  # nats
    ids: NDArray[np.int32]  # (n_kept,), in vocabulary order
    logits: NDArray[np.float32]  # (n_kept,)
    top_ids: NDArray[np.int32]  # likeliest first
    top_logits: NDArray[np.float32]


@dataclass(slots=True)
class Likeliest:
    """The likeliest tokens of a row: what a draw needs before the next decode.

    Attributes:
        best: the row's largest logit.
        mean, spread: of a sample of its logits.
        ids, logits: the `top` likeliest and some more, in vocabulary order.
        top: places among them, likeliest first.
        top_logits: theirs.
    """

    best: float
    mean: float
    spread: float
    ids: NDArray[np.intp]
    logits: NDArray[np.float32]
    top: NDArray[np.intp]
    top_logits: NDArray[np.float32]

    def shortlist(self, k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]] | None:
        """What `rows.shortlist` finds in the row; None too where fewer than k are known."""
        if k > len(self.top):
            return None
        first = self.top_logits[: k + 1].tolist()  # with the next one, which may be as likely
        if first[k - 1] == -math.inf or len(set(first)) < len(first):
            return None
        places = np.sort(self.top[:k])
        return self.ids[places], self.logits[places]


class RowReader:
    """Reads rows of one width; holds the buffers and the thresholds that carry over."""

    def __init__(self, n_vocab: int, top: int) -> None:
        self.n_top = min(top, n_vocab)
        self._weights = np.empty(n_vocab, np.float32)
        self._every = max(1, n_vocab // SAMPLE)
        self._all = np.arange(n_vocab, dtype=np.int32) if n_vocab <= 2 * KEEP_LEAST else None
        self._likely = _Threshold(KEEP_LEAST, KEEP_MOST, KEEP_AIM)
        self._best = _Threshold(self.n_top, 16 * self.n_top, 3 * self.n_top)

    def likeliest(self, row: Logits) -> Likeliest:
        """Find the likeliest tokens; `DecodeError` if the largest logit is damaged.

        That is NaN where any is. Of the others `read` says whether they are sound.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # some models have -FLT_MAX in a row
            best = must_be_sound(row)
            sample = row[:: self._every]
            mean = float(np.add.reduce(sample)) / len(sample)
            spread = math.sqrt(max(float(sample @ sample) / len(sample) - mean * mean, 1e-12))
            ids = self._best.above(row, mean, spread)
            logits = row.take(ids)
            top = (-logits).argsort(kind="stable")
            return Likeliest(best, mean, spread, ids, logits, top, logits.take(top))

    def read(self, row: Logits, likeliest: Likeliest | None = None) -> RowFacts:
        """Measure one row; `DecodeError` if it holds a NaN, an infinity or a huge logit.

        Args:
            likeliest: those of the row, where they were looked for before.
        """
        known = self.likeliest(row) if likeliest is None else likeliest
        best, weights = known.best, self._weights
        with np.errstate(over="ignore", invalid="ignore"):
            total = native.exp_shifted(row, best, weights)
            mean_logit = native.dot(weights, row) / total
            if not math.isfinite(mean_logit):
                raise _damaged()
            if self._all is not None:
                ids, logits = self._all, row.copy()
            else:
                places = self._likely.above(row, known.mean, known.spread)
                ids, logits = places.astype(np.int32), row.take(places)
        log_total = math.log(total)
        return RowFacts(
            logsumexp=best + log_total,
            entropy=max(0.0, log_total + best - mean_logit),
            ids=ids,
            logits=logits,
            top_ids=known.ids.take(known.top[: self.n_top]).astype(np.int32),
            top_logits=known.top_logits[: self.n_top],
        )


def must_be_sound(row: Logits) -> float:
    """The largest logit; `DecodeError` if it is one that llama.cpp could not sample from."""
    best = float(np.maximum.reduce(row))  # a maximum carries a NaN along
    if not abs(best) <= native.LARGEST_LOGIT:
        raise _damaged()
    return best


def _damaged() -> DecodeError:
    return DecodeError(
        "the model gave a row of logits with a NaN, an infinity or a huge number. "
        "The file or its quantisation is damaged, or an adapter that acts is: try another. Or an "
        "adapter or a control vector is too strong: try a smaller scale."
    )


class _Threshold:
    """Finds from `least` to `most` of the largest values, by a cut that carries over."""

    def __init__(self, least: int, most: int, aim: int) -> None:
        self.least, self.most, self.aim = least, most, aim
        self.deviations = np.inf

    def above(self, values: Logits, mean: float, spread: float) -> NDArray[np.intp]:
        """Positions of the largest values, in order of position."""
        if len(values) <= self.aim:
            return np.arange(len(values))
        cut = np.float32(mean + self.deviations * spread)
        positions = (values >= cut).nonzero()[0]
        if not self.least <= len(positions) <= self.most:
            positions = np.argpartition(values, -self.aim)[-self.aim :]
            positions.sort()
            self.deviations = (float(values[positions].min()) - mean) / spread
        return positions


def largest(values: Logits, n: int) -> NDArray[np.intp]:
    """Positions of the n largest values, largest first (all of them, if there are fewer)."""
    if n >= len(values):
        return np.argsort(-values, kind="stable")
    positions: NDArray[np.intp] | None = None
    if len(values) > 64 * n:  # a sample tells a cut that leaves few to sort
        sample, rank = values[::32], max(8, n // 8)
        positions = np.flatnonzero(values >= np.partition(sample, -rank)[-rank])
        if not n <= len(positions) <= len(values) // 4:
            positions = None
    if positions is None:
        positions = np.argpartition(values, -n)[-n:]
    return positions[np.argsort(-values[positions], kind="stable")][:n]

"""How far apart two steps' distributions are, from what their traces keep of them.

A trace keeps a row's likeliest candidates and the log-sum-exp of all. What neither side keeps
is one cell, "all other tokens", so a figure may be a lower bound (data-processing inequality);
it is exact where both sides keep every token that has any probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.trace.trace import Trace

SLACK = 1e-6  # probability that rounding may leave over
SAME = 1e-12  # nats; up to this it is the sums that round, and the rows are the same


@dataclass(frozen=True)
class Divergence:
    """Kullback-Leibler divergence of a step's distribution from another's, in nats.

    Attributes:
        nats: infinite where the other gives no chance to a token that this one allows.
        exact: whether it is the divergence itself or a lower bound of it.
    """

    nats: float
    exact: bool

    def __str__(self) -> str:
        if math.isinf(self.nats):
            return "∞"
        return f"{'' if self.exact else '≥ '}{self.nats:.3g}"


def where_they_part(a: Trace, b: Trace) -> int | None:
    """The first step at which two traces have other tokens; None if one begins with the other."""
    n = n_shared(a.tokens, b.tokens)
    return n if n < min(len(a), len(b)) else None


def divergence(a: Trace, b: Trace, step: int, *, after: bool = False) -> Divergence | None:
    """KL(a ‖ b) of the distributions at a step, before the chain or after it.

    None where it is not known: a trace has no such step, or keeps nothing of it.
    """
    if not 0 <= step < min(len(a), len(b)):
        return None
    ours, theirs = (_after(t, step) if after else _before(t, step) for t in (a, b))
    if ours is None or theirs is None:
        return None
    return _kl(ours, theirs)


def divergence_from_row(
    logprobs: NDArray[np.float64], trace: Trace, step: int
) -> Divergence | None:
    """KL of what a trace keeps of a step, before the chain, from a whole row; None if nothing.

    Args:
        logprobs: of every token of the vocabulary, in nats, of shape (n_vocab,).
    """
    theirs = _before(trace, step)
    ours = _known(np.arange(len(logprobs), dtype=np.int32), logprobs, True)
    return None if ours is None or theirs is None else _kl(ours, theirs)


def as_noisy(a: Trace, b: Trace, step: int) -> bool:
    """Whether the chains of two traces make of one row the same at a step.

    Then what differs after them came into them. It is so where the tokens before are the same,
    and so the chains so far, unless one of their stages draws by itself with another seed.
    """
    chains = [[(i, chain) for i, chain in t.chains if i <= step] for t in (a, b)]
    # A function may draw for itself, too.
    drawn = any(stage.draws or stage.holds_code for _, chain in chains[0] for stage in chain)
    same_text = a.history(step).tolist() == b.history(step).tolist()
    return same_text and chains[0] == chains[1] and not (drawn and a.seed != b.seed)


@dataclass(frozen=True)
class _Known:
    """Tokens with their log-probabilities; `closed` if no other token can come."""

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float64]
    closed: bool


def _known(ids: NDArray[np.int32], logprobs: NDArray[np.float64], closed: bool) -> _Known | None:
    finite = np.isfinite(logprobs) & (ids >= 0)
    order = np.argsort(ids[finite])
    found = _Known(ids[finite][order], logprobs[finite][order], closed)
    return found if len(found.ids) else None


def _before(trace: Trace, step: int) -> _Known | None:
    kept = trace.kept(step)
    if kept is not None:
        return _known(kept[0], kept[1].astype(np.float64) - trace.logsumexp[step], False)
    return _known(trace.top_ids[step], trace.top_logprobs[step].astype(np.float64), False)


def _after(trace: Trace, step: int) -> _Known | None:
    ids, stages = trace.after_ids[step], trace.n_kept[step]
    listed = int((ids >= 0).sum())
    n_left = int(stages[stages >= 0][-1]) if (stages >= 0).any() else None
    closed = listed < trace.top or n_left == listed
    return _known(ids, trace.after_logprobs[step].astype(np.float64), closed)


def _kl(a: _Known, b: _Known) -> Divergence:
    ours, theirs = np.isin(a.ids, b.ids), np.isin(b.ids, a.ids)
    p, q = a.logprobs[ours], b.logprobs[theirs]
    nats = float((np.exp(p) * (p - q)).sum())
    p_rest = 0.0 if a.closed and ours.all() else max(0.0, 1 - float(np.exp(p).sum()))
    only_shared = b.closed and theirs.all()
    if (b.closed and not ours.all()) or (only_shared and p_rest > SLACK):
        return Divergence(math.inf, True)
    if p_rest > 0 and not only_shared:
        q_rest = max(1 - float(np.exp(q).sum()), SLACK)
        nats += p_rest * math.log(p_rest / q_rest)
    return Divergence(nats if nats > SAME else 0.0, p_rest <= SLACK)


def n_shared(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """How many tokens two paths begin with alike."""
    n = min(len(a), len(b))
    differs = np.flatnonzero(a[:n] != b[:n])
    return int(differs[0]) if len(differs) else n

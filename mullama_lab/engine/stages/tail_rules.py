"""What each stage makes of the tail of a row, the tokens that a record left out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.rows.tail import CLOSED, MASKED, Tail, Uncovered, not_in
from mullama_lab.engine.stages import samplers as s
from mullama_lab.engine.stages.chain import Stage


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
    return replace(tail, ceiling=ceiling, log_low=ceiling + low, log_high=ceiling + high).clipped()


def _after_looking_back(
    stage: s.Penalties | s.DRY, tail: Tail, kept: NDArray[np.int32], history: NDArray[np.int32]
) -> Tail:
    seen = history if stage.last_n < 0 else history[max(0, len(history) - stage.last_n) :]
    n_unknown = len(not_in(np.unique(seen), kept))
    raises = isinstance(stage, s.Penalties) and (
        stage.repeat < 1 or stage.frequency < 0 or stage.presence < 0
    )
    if n_unknown and raises:
        raise Uncovered(f"{stage!r} may raise tokens that were not kept of the row")
    return tail.fewer(n_unknown)


def _after_bias(stage: s.LogitBias, tail: Tail, kept: NDArray[np.int32]) -> Tail:
    biases = dict(stage.biases)
    unknown = [biases[token] for token in not_in(list(biases), kept).tolist()]
    tail = tail.fewer(sum(bias < 0 for bias in unknown))
    up = max([0.0, *unknown])
    if up == 0:
        return tail
    return replace(tail, ceiling=tail.ceiling + up, log_high=tail.log_high + up).clipped()


def _after_mask(stage: s.Mask, tail: Tail, kept: NDArray[np.int32]) -> Tail:
    banned = not_in(list(stage.ban), kept)  # an earlier mask may have them too
    if stage.allow is None:
        return tail.fewer(len(banned))
    left = min(tail.n, len(np.setdiff1d(not_in(list(stage.allow), kept), banned)))
    return replace(tail, n=left, log_low=-math.inf).clipped() if left else MASKED

"""A Timing as bars, each of some tokens, and as the sums of a range of steps: plain values.

It takes a `Timing` as it comes and knows nothing of how one is made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.studies.timing import Timing

MOST_BARS = 240
CUT_AT = 4.0  # medians; what is higher than the scale is cut, and said


def checked_timing(what: object) -> Timing:
    """What `studies.timing.timing` gives; TypeError for anything else."""
    if not _is_timing(what):
        raise TypeError(f"{brief(what)} is no Timing: give what studies.timing.timing(trace) says.")
    return what


def _is_timing(what: object) -> TypeGuard[Timing]:
    return hasattr(type(what), "after_first") and hasattr(type(what), "between")


def bars_of(found: Timing, most: int = MOST_BARS) -> dict[str, Any]:
    """What a page draws.

    `first` (step) and `n` (tokens); `per`, tokens a bar; `labels`, what each part is called;
    `parts`, for each of these the mean milliseconds a token in each bar, None where that is not
    known; `scale`, the milliseconds at the top, None where no token's are known; `n_cut`, how many
    bars are higher. A mean of several leaves out the first token, whose time is the prompt's.
    """
    n = len(found)
    if not n:
        return {}
    per = math.ceil(n / most)
    starts, counts = np.arange(0, n, per), np.ones(n)
    if per > 1 and found.first is not None:
        counts[found.first] = 0

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        counted = np.where(counts > 0, values, 0.0)
        return np.add.reduceat(counted, starts) / np.add.reduceat(counts, starts)

    total = means(found.total)
    known = total[np.isfinite(total)]
    scale = min(float(known.max()), CUT_AT * float(np.median(known))) if len(known) else math.nan
    return {
        "first": int(found.steps[0]),
        "n": n,
        "per": per,
        "labels": dict(found.PARTS),
        "parts": {name: list(map(_rounded, means(getattr(found, name)))) for name in found.PARTS},
        "scale": _rounded(scale),
        "n_cut": int((total > scale * 1.001).sum()),
    }


def sums_of(found: Timing) -> dict[str, Any]:
    """What a range of steps sums up to.

    `lines` says it in words; `parts` has for each part the mean milliseconds a token and its
    share, of the tokens after the first, whose time is the prompt's.
    """
    later = found.after_first

    def mean(name: str) -> float:
        return float(getattr(later, name).mean()) if len(later) else math.nan

    parts = {name: [_rounded(mean(name)), _rounded(x)] for name, x in later.shares.items()}
    lines = [line for about, line in found.findings.items() if about != "shares"]  # those of parts
    return {"lines": lines, "parts": parts}


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None

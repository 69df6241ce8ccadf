"""Which draws choose a token: an interval of [0, 1), as wide as the token is likely."""

from __future__ import annotations

import numpy as np

from mullama_lab.engine.stages.chain_sampler import ChainSampler

LEAST_SHARE = 1e-12  # of the draws; sums of shares are not exact enough to tell less


def draws_that_choose(work: ChainSampler, token: int) -> tuple[float, float] | None:
    """The draws that choose a token from what llama.cpp's `dist` saw, in its order."""
    window = work.candidates.window
    found = np.flatnonzero(window["id"] == token)
    shares = window["p"].astype(np.float64)
    if not len(found) or not shares[found[0]] > 0:
        return None
    ends = np.cumsum(shares) / shares.sum()
    here = int(found[0])
    return (float(ends[here - 1]) if here else 0.0), float(ends[here])


def in_words(
    draw: float, drawn_by: tuple[float, float], *, is_made: bool = True, is_chosen: bool = True
) -> str:
    """The draw there was and the share of the draws that choose a token, from and to.

    How large the share is, where the digits do not tell.

    >>> in_words(0.31, (0.25, 0.5))
    "Drawn at random: 0.3100 fell into this token's share, 0.2500 to 0.5000."
    >>> in_words(0.31, (0.999998, 0.999999), is_chosen=False)
    "Drawn at random: 0.3100; this token's share is about one in 1,000,000, near 1.0000."
    >>> in_words(0.31, (0.25, 0.5), is_made=False)
    "The draw would have been 0.3100; this token's share is 0.2500 to 0.5000."
    """
    low, high = (f"{end:.4f}" for end in drawn_by)
    if low != high:
        share = f"{low} to {high}"
    else:
        size = drawn_by[1] - drawn_by[0]
        few = f"about one in {1 / size:,.0f}" if size > LEAST_SHARE else "next to nothing"
        share = f"{few}, near {low}"
    if is_made and is_chosen:
        return f"Drawn at random: {draw:.4f} fell into this token's share, {share}."
    told = "Drawn at random:" if is_made else "The draw would have been"
    return f"{told} {draw:.4f}; this token's share is {share}."

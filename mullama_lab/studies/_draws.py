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
    """The draw there was and those that choose a token; how many, where the digits do not tell.

    >>> in_words(0.31, (0.25, 0.5))
    'The draw was 0.3100; 0.2500 to 0.5000 choose it.'
    >>> in_words(0.31, (0.999998, 0.999999), is_chosen=False)
    'The draw was 0.3100; about one draw in 1,000,000 would have chosen it, near 1.0000.'
    >>> in_words(0.31, (0.25, 0.5), is_made=False)
    'The draw would have been 0.3100; 0.2500 to 0.5000 would have chosen it.'
    """
    low, high = (f"{end:.4f}" for end in drawn_by)
    told = f"The draw {'was' if is_made else 'would have been'} {draw:.4f};"
    is_so = is_made and is_chosen
    if low != high:
        return f"{told} {low} to {high} {'choose' if is_so else 'would have chosen'} it."
    share = drawn_by[1] - drawn_by[0]
    few = f"about one draw in {1 / share:,.0f}" if share > LEAST_SHARE else "hardly any draw"
    return f"{told} {few} {'chooses' if is_so else 'would have chosen'} it, near {low}."

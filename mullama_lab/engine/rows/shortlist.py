"""The tokens among which a row's k likeliest are, found without sorting the row.

The row is dealt into hands, one token in every few hundred to each. Each of the k hands with the
largest maxima holds a logit at least as large as the k-th of these maxima, so no smaller logit is
among the k largest of the row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native.library import LARGEST_LOGIT

HAND = 64  # tokens


def shortlist(
    row: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Ids and logits of a few tokens, the k likeliest among them, in vocabulary order.

    None where the whole row has to be looked at: if it is too short for k, if two of these
    logits are equal, as llama.cpp then orders them by how it sorts, or if a logit is not one that
    llama.cpp can sample from.
    """
    n_hands = len(row) // HAND
    if n_hands < 2 * k:
        return None
    n_dealt = n_hands * HAND
    dealt, rest = row[:n_dealt].reshape(HAND, n_hands), row[n_dealt:]
    best = dealt.max(axis=0)
    highest = np.maximum(best.max(), rest.max(initial=-np.inf))  # carries a NaN along
    least = np.partition(best, n_hands - k)[n_hands - k]
    hands = (best >= least).nonzero()[0]
    deal, hand = (dealt[:, hands] >= least).nonzero()
    ids = np.append(deal * n_hands + hands[hand], n_dealt + (rest >= least).nonzero()[0])
    logits = row[ids]
    usable = abs(highest) <= LARGEST_LOGIT and least > -np.inf
    return (ids, logits) if usable and len(set(logits.tolist())) == len(ids) else None

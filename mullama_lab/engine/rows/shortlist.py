"""The tokens among which a row's k likeliest are, found without sorting the row.

The row is split into groups of 64 tokens. Each of the k groups with the largest maxima holds a
logit at least as large as the k-th of these maxima, so no smaller logit is among the k largest of
the row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native.library import LARGEST_LOGIT

GROUP = 64  # tokens, n_groups apart in the vocabulary


def shortlist(
    row: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Ids and logits of a few tokens, the k likeliest among them, in vocabulary order.

    None where the whole row has to be looked at: if it is too short for k, if two of these
    logits are equal, as llama.cpp then orders them by how it sorts, or if a logit is not one that
    llama.cpp can sample from.
    """
    n_groups = len(row) // GROUP
    if n_groups < 2 * k:
        return None
    n_grouped = n_groups * GROUP
    groups, rest = row[:n_grouped].reshape(GROUP, n_groups), row[n_grouped:]
    best = groups.max(axis=0)
    highest = np.maximum(best.max(), rest.max(initial=-np.inf))  # carries a NaN along
    least = np.partition(best, n_groups - k)[n_groups - k]
    chosen = (best >= least).nonzero()[0]
    row_of, column = (groups[:, chosen] >= least).nonzero()
    ids = np.append(row_of * n_groups + chosen[column], n_grouped + (rest >= least).nonzero()[0])
    logits = row[ids]
    usable = abs(highest) <= LARGEST_LOGIT and least > -np.inf
    return (ids, logits) if usable and len(set(logits.tolist())) == len(ids) else None

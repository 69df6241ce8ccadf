"""MaxSim with numpy alone: blocks of documents that fit the cache, one matrix product each.

The product is (document tokens, query tokens), so that the maxima of a document are taken over
whole rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.multivector.ragged import Chosen, Listed

TOKENS = 4096  # of a block


def best(
    query: NDArray[np.float32],
    documents: Chosen | Listed,
    out: NDArray[np.float32],
    start: int,
    end: int,
) -> None:
    """The best similarity of each query token in documents `start` to `end`.

    Args:
        query: (n_query, dim).
        out: float32 (documents, n_query), written.
    """
    ends = np.cumsum(documents.lengths)
    while start < end:
        before = ends[start] - documents.lengths[start]
        stop = int(np.searchsorted(ends, before + TOKENS, side="right"))
        stop = min(max(stop, start + 1), end)
        _block(query, [documents.rows(i) for i in range(start, stop)], out[start:stop])
        start = stop


def _block(
    query: NDArray[np.float32], parts: list[NDArray[np.float32]], out: NDArray[np.float32]
) -> None:
    lengths = np.array([len(part) for part in parts])
    full = np.flatnonzero(lengths)
    out[:] = 0.0
    if not full.size:
        return
    products = np.concatenate(parts) @ query.T
    if (lengths == lengths[0]).all():
        products.reshape(len(parts), lengths[0], -1).max(axis=1, out=out)
    else:
        firsts = (np.cumsum(lengths) - lengths)[full]
        out[full] = np.maximum.reduceat(products, firsts, axis=0)

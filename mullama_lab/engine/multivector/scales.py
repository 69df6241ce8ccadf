"""What similarities and scores are measured on where they are shown, in a view or in a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.multivector.multivector import MultiVector

SCALES = ("raw", "by query")  # of similarities: one for all, or one for each query token
BARS = ("whole", "difference")  # of scores: from 0, or from what every document has
NEARLY_ONE = 0.02  # how far the length of a stored unit vector may be from 1


def raw_ends(
    values: NDArray[np.float32], query: MultiVector, document: MultiVector
) -> tuple[float, float]:
    """The ends of the raw scale: 0 and 1 for unit vectors, else what there is, 0 included."""
    lengths = [
        np.linalg.norm(tokens.vectors.astype(np.float32), axis=1) for tokens in (query, document)
    ]
    if all(np.abs(length - 1).max(initial=0.0) <= NEARLY_ONE for length in lengths):
        return 0.0, 1.0
    return float(values.min(initial=0.0)), float(values.max(initial=0.0))

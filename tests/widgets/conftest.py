"""Token vectors made by hand: pieces that stand one after the other, with vectors one can check."""

from __future__ import annotations

import numpy as np
import pytest

from mullama_lab.engine.multivector import MultiVector


def multivector(pieces, vectors, kind="document"):
    """A MultiVector of these pieces; those in brackets stand nowhere in its text."""
    text, spans = "", []
    for piece in pieces:
        special = piece.startswith("[") and piece.endswith("]")
        spans.append((-1, -1) if special else (len(text), len(text) + len(piece)))
        text += "" if special else piece
    return MultiVector(
        vectors=np.asarray(vectors, np.float32),
        ids=np.arange(len(pieces), dtype=np.int32),
        pieces=tuple(piece.encode("utf-8", "surrogatepass") for piece in pieces),
        spans=np.array(spans, np.int32).reshape(len(pieces), 2),
        text=text,
        kind=kind,
    )


@pytest.fixture(scope="session")
def by_hand():
    """A function that makes a MultiVector of pieces and vectors."""
    return multivector

"""What tests of an index share: an encoder, and documents made by hand.

The processes that tests start import the functions; the tests ask for them as fixtures.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index.parts import Parts
from mullama_lab.engine.model import Model
from mullama_lab.engine.multivector import MultiVector

DIM = 16


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A real encoder of a tiny BERT, a token for each character."""
    path = tmp_path_factory.mktemp("bert") / "bert.gguf"
    tiny.write(path, architecture="bert", vocabulary="wpm", pieces=("hello",))
    with Model.load(path) as model, MultiVectorEncoder(model, preset="plain") as encoder:
        yield encoder


def by_hand(fingerprint="made by hand"):
    """What an index of MultiVectors made by hand asks of its encoder: no text is encoded."""
    return SimpleNamespace(dim=DIM, fingerprint=fingerprint, name="by hand")


def multivector(rng, n_tokens=5, text="a text", kind="document", dim=DIM):
    vectors = rng.standard_normal((n_tokens, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    spans = [(i, i + 1) if i < len(text) else (-1, -1) for i in range(n_tokens)]
    pieces = tuple(f"p{i}".encode() for i in range(n_tokens))
    ids = rng.integers(0, 1000, n_tokens)
    return MultiVector(vectors, ids, pieces, np.array(spans), text, kind)


def documents(n, rng, low=0, high=9):
    lengths = rng.integers(low, high, n).tolist()
    return [multivector(rng, length, f"text {i} ✓") for i, length in enumerate(lengths)]


def same(a, b, atol=0.0):
    np.testing.assert_allclose(a.vectors, b.vectors, atol=atol, rtol=0)
    assert a.ids.tolist() == b.ids.tolist()
    assert a.spans.tolist() == b.spans.tolist()
    assert (a.pieces, a.text, a.kind) == (b.pieces, b.text, b.kind)


@pytest.fixture(scope="session", name="by_hand")
def _by_hand():
    return by_hand


@pytest.fixture(scope="session", name="multivector")
def _multivector():
    return multivector


@pytest.fixture(scope="session", name="documents")
def _documents():
    return documents


@pytest.fixture(scope="session", name="same")
def _same():
    return same


@pytest.fixture
def parts_of_indexes(monkeypatch):
    """The parts of each index that is made from now on."""
    made = []

    def parts():
        made.append(Parts())
        return made[-1]

    monkeypatch.setattr("mullama_lab.engine.index.index.Parts", parts)
    return made

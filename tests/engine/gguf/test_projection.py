"""A file that carries a projection: it is said, and its vectors are those behind it.

The oracle is numpy on the vectors of the same network without it.
"""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.gguf.projection import in_words, layers_of, problem
from mullama_lab.engine.model import Model
from mullama_lab.engine.multivector.maxsim import score
from mullama_lab.widgets import model_card

TEXTS = ["a tiny text", "another, with 😀 and naïve Ünïcödé", "words " * 20]
NONE = {
    "lfm2": {"dense_2.weight": None},
    "gemma-embedding": {"dense_2.weight": None, "dense_3.weight": None},
}


def matrices(path):
    """The projection's matrices, (numbers out, numbers in) each, as they are in the file."""
    reader = gguf.GGUFReader(path)
    found = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    return [found[name] for name in ("dense_2.weight", "dense_3.weight") if name in found]


def documents(path, **options):
    with Model.load(path) as model, MultiVectorEncoder(model, **options) as encoder:
        return encoder.encode_documents(TEXTS)


@pytest.mark.parametrize(
    ("architecture", "causal", "dim"),
    [("lfm2", True, 16), ("lfm2", False, 16), ("gemma-embedding", False, 32)],
)
def test_vectors_are_those_of_the_network_times_the_projection(tmp_path, architecture, causal, dim):
    keys = {f"{architecture}.attention.causal": causal}
    whole = tiny.write(tmp_path / "whole.gguf", architecture=architecture, metadata=keys)
    keys[f"{architecture}.embedding_length_out"] = None
    bare = tiny.write(
        tmp_path / "bare.gguf",
        architecture=architecture,
        metadata=keys,
        tensors=NONE[architecture],
    )
    found = documents(whole, normalize=False)
    for document, before in zip(found, documents(bare, normalize=False), strict=True):
        expected = before.vectors.astype(np.float64)
        for matrix in matrices(whole):
            expected = expected @ matrix.astype(np.float64).T
        assert document.vectors.shape == (before.n_tokens, dim)
        np.testing.assert_allclose(document.vectors, expected, rtol=0, atol=1e-5)
        assert np.abs(expected).max() > 1
    for document, raw in zip(documents(whole), found, strict=True):
        lengths = np.linalg.norm(raw.vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(document.vectors, raw.vectors / lengths, atol=1e-6)


def test_a_bias_is_added_behind_the_matrix(tmp_path):
    bias = np.arange(16, dtype=np.float32)
    with_bias = tiny.write(tmp_path / "b.gguf", architecture="lfm2", tensors={"dense_2.bias": bias})
    without = tiny.write(tmp_path / "m.gguf", architecture="lfm2")
    pairs = zip(documents(with_bias, normalize=False), documents(without, normalize=False))
    for document, before in pairs:
        np.testing.assert_allclose(document.vectors, before.vectors + bias, atol=1e-5)


@pytest.mark.parametrize("architecture", ["lfm2", "gemma-embedding", "jamba"])
def test_a_text_has_the_same_vectors_alone_and_in_a_batch(tmp_path, architecture):
    path = tiny.write(tmp_path / "m.gguf", architecture=architecture)
    with Model.load(path) as model, MultiVectorEncoder(model) as encoder:
        for document, text in zip(encoder.encode_documents(TEXTS), TEXTS, strict=True):
            alone = encoder.encode_document(text)
            np.testing.assert_allclose(document.vectors, alone.vectors, atol=2e-3)
            assert score(alone, document) == pytest.approx(len(alone), abs=1e-2)


def test_a_card_says_what_the_projection_makes_of_a_vector(tmp_path):
    path = tiny.write(tmp_path / "m.gguf", architecture="lfm2")
    with Model.load(path) as model, MultiVectorEncoder(model) as encoder:
        assert model.projection == ((32, 16),)
        assert encoder.has_projection and encoder.is_trained and encoder.notes == ()
        assert encoder.dim == 16
        for card in (model.card(), encoder.card()):
            assert card["projection"] == "yes, 32 to 16 numbers"
        assert encoder.card()["vectors"] == "16 numbers a token, float32, of length 1"
        forms = model_card.bundle(encoder)
        assert "yes, 32 to 16 numbers" in forms["text/html"]
        assert "no projection" not in repr(encoder) + forms["text/plain"]


def test_a_projection_that_keeps_the_width_is_one_and_made_for_whole_texts(tmp_path):
    path = tiny.write(tmp_path / "m.gguf", architecture="gemma-embedding")
    with Model.load(path) as model, MultiVectorEncoder(model) as encoder:
        assert encoder.dim == model.n_embd == 32
        assert encoder.has_projection and not encoder.is_trained
        assert encoder.card()["projection"] == "yes, 32 to 64 to 32 numbers"
        assert encoder.notes[0].startswith("projection: made for the one vector of a whole text")
        assert "untrained for this" in repr(encoder)


@pytest.mark.parametrize("architecture", ["bert", "lfm2", "gemma-embedding"])
def test_every_display_says_that_there_is_no_projection(tmp_path, architecture):
    path = tiny.write(
        tmp_path / "m.gguf",
        architecture=architecture,
        vocabulary="wpm" if architecture == "bert" else "spm",
        metadata={f"{architecture}.embedding_length_out": None, "general.name": "a colbert"},
        tensors=NONE.get(architecture),
    )
    with Model.load(path) as model, MultiVectorEncoder(model) as encoder:
        assert model.projection == () and not encoder.has_projection
        forms = model_card.bundle(encoder)
        for form in (repr(encoder), *forms.values()):
            assert "no projection" in form
        assert encoder.card()["projection"] == "none in the file"


def test_the_card_of_a_generative_model_is_silent_about_it(tiny_model):
    assert "projection" not in tiny_model.card()


def test_the_layers_are_found_in_any_part_of_a_split_file(tmp_path):
    path = tiny.write(tmp_path / "m.gguf", architecture="gemma-embedding", split=5)
    with Model.load(path) as model:
        assert model.projection == ((32, 64), (64, 32))


def test_layers_that_do_not_fit_are_told_from_those_that_do():
    assert layers_of([]) == () and in_words(()) == "none in the file"
    assert problem((), 32, 32) == problem(((32, 16),), 32, 16) == ""
    assert problem(((32, 64), (64, 32)), 32, 32) == ""
    assert problem((), 32, 16) == (
        "it says that a vector has 16 numbers, and its network, which no projection follows, "
        "gives 32"
    )
    assert problem(((32, 64),), 32, 32) == (
        "it says that a vector has 32 numbers, and its projection gives 64"
    )
    assert problem(((32, 64), (16, 32)), 32, 32) == (
        "a layer of its projection takes 16 numbers, and the layer before gives 64"
    )
    assert problem(((64, 32),), 32, 32).endswith("takes 64 numbers, and the network gives 32")

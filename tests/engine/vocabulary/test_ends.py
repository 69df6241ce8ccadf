"""The tokens that begin and end a text are there once."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.native import model as native

TEXTS = ["", " ", "Hello world", "Grüße 中文 😀", " a", "a\0b", "a</s>b", "x<s>", " <s>y"]


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        yield session


@pytest.fixture(params=sorted(tiny.VOCABULARIES))
def any_vocabulary(request, tmp_path):
    path = tiny.write(tmp_path / "tiny.gguf", vocabulary=request.param)
    with Model.load(path, vocab_only=True) as model:
        yield model


@pytest.fixture
def of_llama_cpp(any_vocabulary, native_vocabulary):
    """A function that tokenizes a text with llama.cpp's own function."""
    with native_vocabulary(any_vocabulary) as vocabulary:
        yield lambda text, *, add_special: native.tokenize(
            vocabulary, text.encode(), add_special, True
        )


def test_what_is_added_around_a_text_is_what_llama_cpp_adds(any_vocabulary, of_llama_cpp):
    for text in TEXTS:
        got = any_vocabulary.tokenize(text, parse_special=True)
        assert got == of_llama_cpp(text, add_special=True), text


def test_a_text_that_begins_with_bos_has_it_once(any_vocabulary, of_llama_cpp):
    bos = any_vocabulary.piece(any_vocabulary.bos).decode()
    tokens = any_vocabulary.tokenize(f"{bos}a", parse_special=True)
    without = of_llama_cpp(f"{bos}a", add_special=False)
    assert tokens[: len(without)] == without
    assert tokens.count(any_vocabulary.bos) == 1
    assert tokens[1:] == any_vocabulary.tokenize("a", parse_special=True)[-len(tokens) + 1 :]


def test_a_text_that_ends_with_eos_has_it_once(tmp_path):
    path = tiny.write(tmp_path / "tiny.gguf", metadata={"tokenizer.ggml.add_eos_token": True})
    with Model.load(path, vocab_only=True) as model:
        a = ord("a") + 3
        assert model.tokenize("a", parse_special=True) == [tiny.BOS, a, tiny.EOS]
        assert model.tokenize("<s>a</s>", parse_special=True) == [tiny.BOS, a, tiny.EOS]
        assert model.tokenize("", parse_special=True) == [tiny.BOS, tiny.EOS]


def test_a_prompt_with_its_own_bos_gives_the_row_it_gives_without(session):
    assert session.prompt_tokens("<s>hello") == session.prompt_tokens("hello")
    rows = session.logits("<s>hello"), session.logits("hello")
    np.testing.assert_allclose(*rows, atol=1e-4)  # the second reuses all but one token
    written = session.generate("<s>hello", max_tokens=1, seed=1)
    assert written.prompt_tokens.tolist().count(tiny.BOS) == 1
    assert session.score("<s>hello").prompt_tokens.tolist() == [tiny.BOS]


def test_bos_written_twice_is_taken_as_written_and_said_once(session):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(2):
            assert session.prompt_tokens("<s><s>a")[:3] == [tiny.BOS, tiny.BOS, ord("a") + 3]
    assert len(said) == 1 and "'<s>' (token 1) twice" in str(said[0].message)
    assert said[0].filename == __file__
    with pytest.warns(UserWarning, match="begin with it once at most"):
        session.generate([tiny.BOS, tiny.BOS, 100], max_tokens=1)

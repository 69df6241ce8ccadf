"""A token's span is the characters it stands for, whatever the vocabulary did to them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mullama_lab.engine.model import Model
from mullama_lab.engine.trace.token_spans import token_spans


def parts(text, spans):
    return [text[start:end] for start, end in spans.tolist()]


def spans_of(model, text):
    """The spans of a text, and its tokens as bytes."""
    ids = model.tokenize(text, add_special=False)
    pieces = [model.piece(token) for token in ids]
    unknown = [token == model.metadata.get("tokenizer.ggml.unknown_token_id") for token in ids]
    return token_spans(text, pieces, unknown, word_piece=model.vocab_type == "WPM"), pieces, unknown


@pytest.fixture(scope="module")
def wordpiece():
    with Model.load("colbert-small", vocab_only=True) as model:
        yield model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Café crêpes!", ["Café", "cr", "êp", "es", "!"]),
        ("a 😀😀 b", ["a", "😀😀", "b"]),
        ("Straße 日本", ["St", "raße", "日", "本"]),
        ("x\0y\u200bz", ["x", "y", "z"]),
        ("  two\n\twords ", ["two", "words"]),
    ],
)
def test_folded_words_are_found_in_the_text(wordpiece, text, expected):
    assert parts(text, spans_of(wordpiece, text)[0]) == expected


def test_bytes_of_one_character_each_get_all_of_it(tiny_model):
    text = "aé😀"
    assert parts(text, spans_of(tiny_model, text)[0]) == ["a", *["é"] * 2, *["😀"] * 4]


def test_the_space_before_a_text_is_no_part_of_it():
    assert token_spans("hi", [b" hi"], [False], word_piece=False).tolist() == [[0, 2]]
    assert token_spans("hi", [b" ", b"hi"], [False] * 2, word_piece=False).tolist() == [
        [0, 0],
        [0, 2],
    ]


def test_an_unknown_token_covers_what_lies_before_the_next_known_one():
    pieces = [b" one", b"<unk>", b" two", b"<unk>"]
    spans = token_spans("one ☃☃ two ☃", pieces, [False, True] * 2, word_piece=False)
    assert parts("one ☃☃ two ☃", spans) == ["one", "☃☃", "two", "☃"]


def folded(text):
    letters = unicodedata.normalize("NFKD", text).lower()
    return "".join(c for c in letters if not unicodedata.category(c).startswith(("M", "C", "Z")))


@settings(max_examples=150)
@given(st.text(max_size=40))
def test_spans_lie_in_the_text_and_never_go_back(wordpiece, tiny_model, text):
    for model in (wordpiece, tiny_model):
        found, _, _ = spans_of(model, text)
        assert ((found >= 0) & (found <= len(text))).all()
        assert (found[:, 0] <= found[:, 1]).all()
        assert (found[1:, 0] >= found[:-1, 0]).all()


@settings(max_examples=150)
@given(st.text("abéÉñ ,.-(日本😀ab cd", max_size=40))
def test_known_pieces_are_the_folded_characters_of_their_spans(wordpiece, text):
    found, pieces, unknown = spans_of(wordpiece, text)
    for part, piece, is_unknown in zip(parts(text, found), pieces, unknown):
        if not is_unknown:
            assert folded(part) == folded(piece.decode())

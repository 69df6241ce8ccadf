"""Words as a caller means them, and the single tokens that are one of their spellings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.words.token_texts import TokenTexts, token_texts
from mullama_lab.glyphs import brief
from mullama_lab.warned import warn

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model


def biases_of_words(model: Model, biases: Any) -> dict[int, float]:
    """See `LogitBias.of`; the biases by token id."""
    if not isinstance(biases, Mapping) or not all(isinstance(word, str) for word in biases):
        raise TypeError(
            f"LogitBias.of takes {{word: bias}} with texts for words, not {brief(biases)}. "
            "LogitBias({token: bias}) takes ids."
        )
    texts = token_texts(model)
    found: dict[int, tuple[str, float]] = {}
    for word, bias in biases.items():
        for token in _tokens_of(word, texts, forbids=bias == -math.inf):
            other, theirs = found.setdefault(token, (word, bias))
            if theirs != bias:
                piece = texts.pieces[token].decode("utf-8", "replace")
                raise ValueError(
                    f"LogitBias.of: {brief(other, 40)} and {brief(word, 40)} give the token "
                    f"{piece!r} two biases, {theirs} and {bias}. Leave one of them out: case does "
                    "not matter."
                )
    return {token: bias for token, (_, bias) in found.items()}


def _tokens_of(word: str, texts: TokenTexts, *, forbids: bool) -> list[int]:
    plain = word.lstrip(" ")
    with_space = [" " + plain] if plain != word else [plain, " " + plain]
    missing = [form for form in with_space if not texts.spelled(_bytes(form))]
    if not plain or len(missing) == len(with_space):
        raise ValueError(
            f"LogitBias.of: {brief(word)} is not one token of this model. "
            f"Ban([{brief(word)}]) keeps out what is cut into several."
        )
    if forbids and missing:
        warn(
            f"LogitBias.of: {brief(missing[0])} is no token of its own, so a bias of minus "
            f"infinity does not keep it out. Ban([{brief(word)}]) does."
        )
    cases = dict.fromkeys([plain, plain.lower(), plain.capitalize(), plain.upper()])
    spaces = [" "] if plain != word else ["", " "]
    return [t for case in cases for space in spaces for t in texts.spelled(_bytes(space + case))]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")

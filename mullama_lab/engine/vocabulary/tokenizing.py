"""A text becomes tokens, and what is refused before llama.cpp would abort on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mullama_lab.engine.native import model as native
from mullama_lab.engine.options import utf8
from mullama_lab.engine.vocabulary.ends import ends_of, with_ends
from mullama_lab.engine.vocabulary.long_text import longest_run, with_room
from mullama_lab.engine.vocabulary.text_parts import parts_of

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes a space


def tokenize(model: Model, text: str, add_special: bool, parse_special: bool) -> list[int]:
    """Token ids of a text; see `Model.tokenize`."""
    _must_be_text(model, text)
    _must_be_known(model, text)
    ends = ends_of(model) if add_special else None
    parts = parts_of(model, text, parse_special)
    # llama.cpp, which may add what is there
    adds = ends is not None and not parse_special and len(parts) == 1

    def run() -> list[int]:
        tokens: list[int] = []
        for part in parts:
            with model._memory.in_use() as vocabulary:
                tokens += native.tokenize(vocabulary, part.encode(), adds, parse_special)
        return tokens

    pre_tokenizer = model.metadata.get("tokenizer.ggml.pre")
    split = model.vocab_type == "BPE"
    tokens = with_room(longest_run(text, pre_tokenizer) if split else 0, run)
    if tokens and min(tokens) < 0:
        raise ValueError(
            f"{model.name} has no token for a part of {text[:40]!r}, and none for unknown text. "
            "Leave that part out."
        )
    if ends is None or adds:
        return tokens
    return with_ends(tokens, ends) if parse_special else [*ends[0], *tokens, *ends[1]]


def _must_be_text(model: Model, text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}.")
    if model.vocab_type == "NONE":
        raise ValueError(f"{model.name} has no vocabulary. Give token ids instead of text.")
    data = utf8("the text", text)
    if len(data) >= native.LONGEST_TEXT:
        raise ValueError(
            f"the text has {len(data)} bytes; llama.cpp takes less than 2**31. Cut it in parts."
        )


def _must_be_known(model: Model, text: str) -> None:
    """A vocabulary without all 256 bytes can only take the characters it knows."""
    if not model._missing_bytes:
        return
    known = set(model.metadata["tokenizer.ggml.tokens"])
    for character in {" ", *text}:
        written = _SPACE if character == " " else character
        if written not in known and not model._missing_bytes.isdisjoint(written.encode()):
            raise ValueError(
                f"{model.name} has no token for {character!a} and none for its bytes. "
                "Leave that character out."
            )

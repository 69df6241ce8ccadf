"""A text becomes tokens, and what is refused before llama.cpp would abort on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mullama_lab.engine import _native_model as native
from mullama_lab.engine.model.ends import ends_of, with_ends
from mullama_lab.engine.model.long_text import longest_run, with_room
from mullama_lab.engine.options import utf8

if TYPE_CHECKING:
    from mullama_lab.engine.model.model import Model

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes a space


def tokenize(model: Model, text: str, add_special: bool, parse_special: bool) -> list[int]:
    """Token ids of a text; see `Model.tokenize`."""
    data = _encoded(model, text)
    _must_be_known(model, text)
    ends = ends_of(model) if add_special else None
    adds = ends is not None and not parse_special  # llama.cpp, which may add what is there

    def run() -> list[int]:
        with model._in_use() as vocabulary:
            return native.tokenize(vocabulary, data, adds, parse_special)

    pre_tokenizer = model.metadata.get("tokenizer.ggml.pre")
    split = model.vocab_type == "BPE"
    tokens = with_room(longest_run(text, pre_tokenizer) if split else 0, run)
    if tokens and min(tokens) < 0:
        raise ValueError(
            f"{model.name} has no token for a part of {text[:40]!r}, and none for unknown text. "
            "Leave that part out."
        )
    return tokens if ends is None or adds else with_ends(tokens, ends)


def _encoded(model: Model, text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}.")
    if model.vocab_type == "NONE":
        raise ValueError(f"{model.name} has no vocabulary. Give token ids instead of text.")
    data = utf8("the text", text)
    if len(data) >= native.LONGEST_TEXT:
        raise ValueError(
            f"the text has {len(data)} bytes; llama.cpp takes less than 2**31. Cut it in parts."
        )
    return data


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

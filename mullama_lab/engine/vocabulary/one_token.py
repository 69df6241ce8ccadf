"""A token as a caller names it: an id, or a text that is exactly one token."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

_SPACE = "▁"  # SentencePiece writes a space so


def one_token(model: Model, token: int | str) -> int:
    """The id of a token.

    A text means the token with just these bytes: " Paris" and "Paris" are two tokens, also
    where a model puts a space before a text of its own accord.

    Raises:
        ValueError: the id is outside the vocabulary, or the text is no token or several.
        TypeError: neither an id nor a text.
    """
    if not isinstance(token, str):
        return model.vocabulary.check(token)
    wanted = token.encode("utf-8", "surrogatepass")
    found = model.tokenize(token, add_special=False, parse_special=True)
    if len(found) == 1 and model.piece(found[0]) == wanted:
        return found[0]
    with suppress(ValueError, KeyError):
        names = model.metadata["tokenizer.ggml.tokens"]
        other = list(names).index(token.replace(" ", _SPACE))
        if model.piece(other) == wanted:
            return other
    pieces = ", ".join(repr(model.piece(t).decode("utf-8", "replace")) for t in found[:8])
    raise ValueError(
        f"{token[:40]!r} is not one token but {len(found)}"
        + (f" ({pieces}{', …' if len(found) > 8 else ''})" if found else "")
        + ". Give the text of one token, or its id."
    )

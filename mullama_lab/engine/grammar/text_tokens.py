"""A text as tokens of a model that are just its bytes, and of which none ends a generation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

LONGEST = 256  # bytes of a token that is looked for without the tokenizer


def tokens_of(model: Model, data: bytes) -> list[int]:
    """The tokens that the tokenizer makes of whole characters, if these are just that text.

    Where it puts a space before a text, or writes some of it in another way, the longest tokens
    that are there stand in.

    Raises:
        ValueError: no token of the model is the text, or a part of it.
    """
    pieces = token_texts(model).pieces
    found = model.tokenize(data.decode(), add_special=False)
    if found and b"".join(pieces[token] for token in found) == b" " + data:
        first = pieces[found[0]][1:]
        found = [*_longest(model, first), *found[1:]]
    is_it = b"".join(pieces[token] for token in found) == data
    return found if is_it and not any(map(model.is_eog, found)) else list(_longest(model, data))


def tokens_at_beginning(model: Model, data: bytes) -> list[int]:
    """As `tokens_of`, but only as far as tokens of the model are the text."""
    found: list[int] = []
    try:
        return tokens_of(model, data)
    except ValueError:
        with suppress(ValueError):
            for token in _longest(model, data):
                found.append(token)
    return found


def _longest(model: Model, data: bytes) -> Iterator[int]:
    texts, place = token_texts(model), 0
    while place < len(data):
        for size in range(min(LONGEST, len(data) - place), 0, -1):
            ids = texts.spelled(data[place : place + size])
            token = next((one for one in ids if not model.is_eog(one)), None)
            if token is not None:
                yield token
                place += size
                break
        else:
            raise ValueError(f"no token of {model.name} is {brief(data[place : place + 1])}.")


def cut_at_names(text: str, names: Iterable[str]) -> Iterator[tuple[bytes, str]]:
    """A text cut where a token is named: what stands before each, and the name; the last is empty.

    >>> list(cut_at_names("a<x>b", ["<x>"]))
    [(b'a', '<x>'), (b'b', '')]
    """
    either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    place = 0
    for match in re.finditer(either, text) if either else ():
        yield text[place : match.start()].encode(), match.group()
        place = match.end()
    yield text[place:].encode(), ""

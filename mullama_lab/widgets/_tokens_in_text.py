"""The tokens of a MultiVector as they stand in its text: gaps between them, and whole words.

The widgets of late interaction share it. It knows pieces and character spans, no vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.encoder.presets import MARKERS
from mullama_lab.glyphs import visible, visible_piece

if TYPE_CHECKING:
    from mullama_lab.engine.multivector import MultiVector


MARK = {"query": "[Q]", "document": "[D]"}  # as the ColBERT papers write them
_ROLES = {"[CLS]": "begins a text", "[SEP]": "ends a text", "[MASK]": "fills a query"}


def special(tokens: MultiVector) -> list[str]:
    """What each token that stands for no text is, in a sentence; empty for the others."""
    said = []
    for piece, (start, _) in zip(tokens.pieces, _spans(tokens), strict=True):
        name = visible_piece(piece).strip()
        if start >= 0:
            said.append("")
        elif name in MARKERS[tokens.kind]:
            said.append(
                f"{name}, the {tokens.kind} marker: tells the model that this is a {tokens.kind}"
            )
        else:
            said.append(f"{name}, a special token: {_ROLES.get(name, 'stands for no text')}")
    return said


def texts(tokens: MultiVector) -> list[str]:
    """Each token's characters in the text; a special one by its name, a marker as in `MARK`."""
    return [
        text if start >= 0 else _name(tokens, piece)
        for text, piece, (start, _) in zip(
            tokens.token_texts, tokens.pieces, _spans(tokens), strict=True
        )
    ]


def _name(tokens: MultiVector, piece: bytes) -> str:
    name = visible_piece(piece)
    return MARK[tokens.kind] if name.strip() in MARKERS[tokens.kind] else name


def in_text(tokens: MultiVector) -> tuple[list[str], list[str]]:
    """What to show for each token, and the text before each and after the last.

    A token that stands nowhere in the text (`[CLS]`, `[MASK]`) is shown by its name, a marker of
    queries or documents as `MARK` has it. Of tokens
    that share a character, the first shows it. What ends a text (`[SEP]`) stands behind all of it.
    """
    text, at = tokens.text, 0
    spans = _spans(tokens)
    last = max((i for i, (start, end) in enumerate(spans) if end > start), default=len(spans))
    shown: list[str] = []
    gaps: list[str] = []
    for i, ((start, end), piece) in enumerate(zip(spans, tokens.pieces, strict=True)):
        if end <= start:
            gaps.append(text[at:] if i > last else "")
            at = len(text) if i > last else at
            shown.append(_name(tokens, piece) if start < 0 else "")
            continue
        gaps.append(text[at : max(at, start)])
        shown.append(text[max(at, start) : max(at, end)])
        at = max(at, end)
    return shown, [*gaps, text[at:]]


def words(tokens: MultiVector) -> NDArray[np.int32]:
    """A number for each token; neighbours with the same number are pieces of one word.

    A token goes on with the word before it if it begins where that ends, letter on letter.
    """
    groups: list[int] = []
    text, before = tokens.text, (0, 0)
    for start, end in _spans(tokens):
        joined = (
            bool(groups)
            and before[1] > before[0]
            and end > start
            and start <= before[1]
            and _is_letter(text, before[1] - 1)
            and _is_letter(text, start)
        )
        groups.append(groups[-1] + (not joined) if groups else 0)
        before = (start, end)
    return np.array(groups, np.int32)


def labels(tokens: MultiVector) -> list[str]:
    """One short text a token, for tables: its characters without the space around them."""
    return [
        visible(text).strip(" ") or visible_piece(piece)
        for text, piece in zip(texts(tokens), tokens.pieces, strict=True)
    ]


def _spans(tokens: MultiVector) -> list[tuple[int, int]]:
    return [(start, end) for start, end in tokens.spans.tolist()]


def _is_letter(text: str, i: int) -> bool:
    return 0 <= i < len(text) and (text[i].isalnum() or text[i] == "_")

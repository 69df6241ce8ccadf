"""A place in a text that was typed, as an error shows it."""

from __future__ import annotations

from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import visible

SHOWN = 60  # characters of a line, on either side of the place


def error_at(text: str, place: int, message: str) -> GrammarError:
    """The error that shows a place of a text: its line, its column, and a caret below it."""
    before = text[:place]
    line = before.count("\n") + 1
    start = before.rfind("\n") + 1
    end = text.find("\n", place)
    shown = text[start : len(text) if end < 0 else end].rstrip("\r")
    column = place - start
    cut = max(0, column - SHOWN)
    left, right = shown[cut:column], shown[column : column + SHOWN]
    left = visible(left).replace("\t", " ")
    right = visible(right).replace("\t", " ")
    return GrammarError(
        f"line {line}, column {column + 1}: {message}\n  {left}{right}\n  {' ' * len(left)}^",
        line=line,
        column=column + 1,
    )

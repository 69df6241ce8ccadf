"""Pairs of texts as a person types them: one a line, with a bar or a tab between the two."""

from __future__ import annotations

from mullama_lab.counted import counted

EXAMPLE = "more like this | less like this"


class UnreadablePair(ValueError):
    """A line that is no pair.

    Attributes:
        line: which, from 1.
    """

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line} {why}")
        self.line = line


def typed_pairs(text: str) -> list[tuple[str, str]]:
    """The pairs in a text; empty lines count for nothing, nor do blanks about a text.

    >>> typed_pairs("I am happy. | I am sad.")
    [('I am happy.', 'I am sad.')]

    Raises:
        UnreadablePair: a line has no two different texts.
    """
    lines = enumerate(text.splitlines(), 1)
    return [_pair(number, line) for number, line in lines if line.strip()]


def _pair(number: int, line: str) -> tuple[str, str]:
    mark, name = ("\t", "tab") if "\t" in line.strip() else ("|", "bar (|)")
    texts = [text.strip() for text in line.split(mark)]
    if len(texts) == 1:
        raise UnreadablePair(number, f"has one text and no bar (|): write {EXAMPLE}.")
    if len(texts) > 2:
        way_out = "" if mark == "\t" else " Put a tab there where a text has a bar itself."
        n = counted(len(texts), "text")
        raise UnreadablePair(number, f"has {n}: one {name} stands between two.{way_out}")
    wanted, other = texts
    if not wanted or not other:
        side = "before" if not wanted else "after"
        raise UnreadablePair(number, f"has nothing {side} the {name}: write {EXAMPLE}.")
    if wanted == other:
        raise UnreadablePair(number, "has the same text twice: the two must differ.")
    return wanted, other

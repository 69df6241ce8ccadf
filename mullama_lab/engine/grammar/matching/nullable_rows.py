"""How many parts of an expression stand in a row that may each be empty: what makes it dear.

Of such a row llguidance makes, for each byte with which it may go on, one expression for each part
that may come next: time and memory go by the square of the row's length, times the ways in which
its parts may begin. 16 000 parts `(a|b*)` take 5 seconds and a gigabyte. Its own limits are looked
at after that work, not within it. Where a part must not be empty, a row ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt
from typing import NamedTuple

MOST_WORK = 50_000_000  # of the rows of one expression: 0.7 s of CPU and 215 MB
LEADS = 9  # of a class with characters past ASCII: its first bytes, as ranges in UTF-8
MORE_LEADS = 52  # of letters, digits and the like of all languages
_MOST_LEADS = 256


class Row(NamedTuple):
    """Parts in a row that may each be empty, but for the last.

    Attributes:
        leads: in how many ways they may begin, all together.
    """

    n: int = 0
    leads: int = 0

    def then(self, other: Row) -> Row:
        return Row(self.n + other.n, self.leads + other.leads)

    @property
    def work(self) -> int:
        return self.n * self.leads if self.n > 1 else 0


class Shape(NamedTuple):
    """Where in a part the rows are.

    Attributes:
        may_be_empty: then head and tail are the same row, which is all of it.
        head, tail: the rows at its ends, which go on in what stands beside it.
        work: of the rows within it.
        longest: how many parts the longest of those has.
    """

    may_be_empty: bool = True
    head: Row = Row()
    tail: Row = Row()
    work: int = 0
    longest: int = 0

    @property
    def rows(self) -> list[Row]:
        """Those at its ends, each once."""
        return [self.head] if self.may_be_empty else [self.head, self.tail]

    @property
    def all_work(self) -> int:
        return self.work + sum(row.work for row in self.rows)


EMPTY = Shape()


def characters(leads: int = 1) -> Shape:
    """One character, or a text."""
    return Shape(False, Row(1, leads))


def in_a_row(parts: Iterable[Shape]) -> Shape:
    """Parts one after the other."""
    head, row, work, longest = None, Row(), 0, 0
    for part in parts:
        work, longest = work + part.work, max(longest, part.longest)
        row = row.then(part.head)
        if part.may_be_empty:
            continue
        if head is None:
            head = row
        else:
            work, longest = work + row.work, max(longest, row.n)
        row = part.tail
    return Shape(head is None, row if head is None else head, row, work, longest)


def one_of(parts: Iterable[Shape]) -> Shape:
    """One of some parts, which is one part."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    tail = max((part.tail for part in parts if not part.may_be_empty), default=Row())
    return _one(parts, any(part.may_be_empty for part in parts), tail)


def repeated(part: Shape, low: int) -> Shape:
    """A part `low` times or more often, which is one part."""
    between = Shape(work=part.tail.then(part.head).work)
    return _one([part, between], low == 0 or part.may_be_empty, part.tail)


def _one(parts: list[Shape], may_be_empty: bool, tail: Row) -> Shape:
    row = Row(1, min(_MOST_LEADS, sum(part.head.leads for part in parts)))
    work = sum(part.all_work for part in parts)
    longest = max((max(part.longest, *(row.n for row in part.rows)) for part in parts), default=0)
    return Shape(may_be_empty, row, row if may_be_empty else tail, work, longest)


def too_dear(what: str, shape: Shape) -> str:
    """What is wrong with an expression that is too dear, for an error; empty if it is not."""
    work = shape.all_work
    if work <= MOST_WORK:
        return ""
    n = max(shape.longest, *(row.n for row in shape.rows))
    return (
        f"{what} has {n} parts in a row that may each be empty, as `a?` and `b*`, and of such as "
        f"these it may have {isqrt(n * n * MOST_WORK // work)}. Write those that repeat as "
        "`(...){0,n}`, or put between them what is never empty."
    )

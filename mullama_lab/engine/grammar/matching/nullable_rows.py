"""How many parts of an expression stand in a row that may each be empty: what makes it dear.

Of such a row llguidance makes, for each byte with which it may go on, one expression for each part
that may come next: time and memory go by the square of the row's length, times the ways in which
its parts may begin. 16 000 parts `(a|b*)` take 5 seconds and a gigabyte. Its own limits are looked
at after that work, not within it. Where a part must not be empty, a row ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isqrt
from typing import NamedTuple

MOST_WORK = 50_000_000  # of all rows of one text together: 0.7 s of CPU and 215 MB
LEADS = 9  # of a class with characters past ASCII: its first bytes, as ranges in UTF-8
MORE_LEADS = 52  # of letters, digits and the like of all languages
_MOST_LEADS = 256
_NUMBER = re.compile(r"\d{1,9}")


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
        worst: the one of those with the most work.
    """

    may_be_empty: bool = True
    head: Row = Row()
    tail: Row = Row()
    work: int = 0
    worst: Row = Row()

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
    head, row, work, worst = None, Row(), 0, Row()
    for part in parts:
        work, worst = work + part.work, _worst(worst, part.worst)
        row = row.then(part.head)
        if part.may_be_empty:
            continue
        if head is None:
            head = row
        else:
            work, worst = work + row.work, _worst(worst, row)
        row = part.tail
    return Shape(head is None, row if head is None else head, row, work, worst)


def _worst(*rows: Row) -> Row:
    return max(rows, key=lambda row: row.work)


def one_of(parts: Iterable[Shape]) -> Shape:
    """One of some parts, which is one part."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    tail = max((part.tail for part in parts if not part.may_be_empty), default=Row())
    return _one(parts, any(part.may_be_empty for part in parts), tail)


def times(sign: str) -> tuple[int, int | None]:
    """How often at least and at most `*`, `+?`, `{2,3}` or `~ 2..3` say; `None` is without end."""
    if sign[0] in "*+?":
        return int(sign[0] == "+"), 1 if sign[0] == "?" else None
    least, comma, most = sign.replace("..", ",").partition(",")
    low, high = _NUMBER.search(least), _NUMBER.search(most if comma else least)
    return int(low[0]) if low else 0, int(high[0]) if high else None


def repeated(part: Shape, low: int, high: int | None = None) -> Shape:
    """A part from `low` to `high` times, which is one part."""
    row = part.tail.then(part.head) if high is None or high > 1 else Row()
    between = Shape(work=row.work, worst=row)
    return _one([part, between], low == 0 or part.may_be_empty, part.tail)


def _one(parts: list[Shape], may_be_empty: bool, tail: Row) -> Shape:
    row = Row(1, min(_MOST_LEADS, sum(part.head.leads for part in parts)))
    work = sum(part.all_work for part in parts)
    worst = _worst(Row(), *(each for part in parts for each in (part.worst, *part.rows)))
    return Shape(may_be_empty, row, row if may_be_empty else tail, work, worst)


def too_dear(what: str, shapes: list[Shape]) -> str:
    """What is wrong with expressions that are too dear, for an error; empty if they are not."""
    work = sum(shape.all_work for shape in shapes)
    if work <= MOST_WORK:
        return ""
    worst = _worst(*(row for shape in shapes for row in (shape.worst, *shape.rows)))
    if worst.work > MOST_WORK:
        most = f"of such as these it may have {isqrt(worst.n**2 * MOST_WORK // work)}"
    else:
        most = f"more such rows: of all together it may have {MOST_WORK // worst.work}"
    return (
        f"{what} has {worst.n} parts in a row that may each be empty, as `a?` and `b*`, and "
        f"{most}. Write those that repeat as `(...){{0,n}}`, or put between them what is never "
        "empty."
    )

"""Sets of characters, as ranges of code points in ascending order that do not touch.

NUL is in none of them: llama.cpp ends a text there, so no grammar of its can ask for it. Nor is a
surrogate a character.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]  # (first, last), both in the set

LAST = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)
EMPTY: Ranges = ()
EVERY: Ranges = ((1, 0xD7FF), (0xE000, LAST))


def of_ranges(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The set of what is in any of some ranges, less NUL and surrogates.

    >>> of_ranges([(100, 110), (97, 99), (105, 120)])
    ((97, 120),)
    """
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return both(tuple(merged), EVERY)


def both(a: Ranges, b: Ranges) -> Ranges:
    """What is in two sets.

    >>> both(((97, 105), (110, 120)), ((100, 112),))
    ((100, 105), (110, 112))
    """
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        first, last = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if first <= last:
            found.append((first, last))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def meet(a: Ranges, b: Ranges) -> bool:
    """Whether two sets have a character in common."""
    i = j = 0
    while i < len(a) and j < len(b):
        if max(a[i][0], b[j][0]) <= min(a[i][1], b[j][1]):
            return True
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return False


def either(a: Ranges, b: Ranges) -> Ranges:
    """What is in one of two sets, or in both."""
    return of_ranges((*a, *b)) if a and b else a or b


def all_but(ranges: Ranges) -> Ranges:
    """Every character that is not in a set.

    >>> all_but(((1, 96), (98, 1114111)))
    ((97, 97),)
    """
    rest, start = [], 0
    for first, last in ranges:
        if start < first:
            rest.append((start, first - 1))
        start = last + 1
    if start <= LAST:
        rest.append((start, LAST))
    return both(tuple(rest), EVERY)


def alike_at_first(ranges: Ranges) -> Ranges:
    """A set with all characters whose first byte in UTF-8 is that of one in it.

    >>> alike_at_first(((97, 97), (233, 233)))
    ((97, 97), (192, 255))
    """
    found = []
    for low, high, bits in _BY_FIRST_BYTE:
        for first, last in both(ranges, ((low, high),)):
            found.append((first >> bits << bits, min(last | (1 << bits) - 1, high)))
    return of_ranges(found)


_BY_FIRST_BYTE = (  # first and last character, and bits that the other bytes hold
    (0, 0x7F, 0),
    (0x80, 0x7FF, 6),
    (0x800, 0xFFFF, 12),
    (0x10000, LAST, 18),
)


def holds(ranges: Ranges, code: int) -> bool:
    """Whether a code point is in a set."""
    place = bisect_left(ranges, (code + 1,)) - 1
    return place >= 0 and code <= ranges[place][1]

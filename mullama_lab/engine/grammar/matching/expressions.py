"""The parts of a regular expression in the syntax of Rust's `regex`, as far as rows need them.

Nothing is refused here: what is no expression, llguidance says.
"""

from __future__ import annotations

import re

from mullama_lab.engine.grammar.matching.nullable_rows import (
    EMPTY,
    LEADS,
    MORE_LEADS,
    Shape,
    characters,
    in_a_row,
    one_of,
    repeated,
    times,
)

# What may be long goes on to the end of the text where it is not closed: so no text is read twice.
_SIGN = re.compile(
    r"""(?P<many>\\(?:[wWdDsS]|[pP](?:\{[^}]*(?:\}|\Z)|.)?))
    | (?P<place>\\[bBAzZ<>](?:\{[a-z-]*\})?|[\^$])
    | (?P<escaped>\\(?:[xuU]\{[^}]*(?:\}|\Z)|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|.|\Z))
    | (?P<flags>\(\?[a-zA-Z]{0,9}(?:-[a-zA-Z]{0,9})?\))
    | (?P<open>\((?:\?(?:P?<[^>]*(?:>|\Z)|[a-zA-Z]{0,9}(?:-[a-zA-Z]{0,9})?:))?)
    | (?P<close>\)) | (?P<or>\|)
    | (?P<times>(?:[*+?]|\{[\s\d,]*\})\??)
    | (?P<class>\[) | (?P<any>\.) | (?P<blank>\s) | (?P<comment>\#) | (?P<other>.)""",
    re.S | re.X,
)
_IN_CLASS = re.compile(r"\\.|\[:\^?[a-z]+:\]|[\[\]]", re.S)
_CLASS_BEGINS = re.compile(r"\[\^?-*\]?")
_MANY = re.compile(r"\\[pPwWdDsS]")


def shape_of_expression(expression: str, flags: str = "") -> Shape:
    """The rows of an expression; `flags` as in `(?x)` before it."""
    groups: list[tuple[list[Shape], list[Shape], bool]] = []  # those not closed yet
    options: list[Shape] = []
    items: list[Shape] = []
    is_verbose, place = "x" in flags, 0
    while found := _SIGN.match(expression, place):
        kind, place = str(found.lastgroup), found.end()
        if kind in ("blank", "comment") and not is_verbose:
            kind = "other"
        if kind == "open":
            groups.append((options, items, is_verbose))
            options, items = [], []
            is_verbose = _verbose(found[0], is_verbose)
        elif kind == "close" and groups:
            made = one_of([*options, in_a_row(items)])
            options, items, is_verbose = groups.pop()
            items.append(made)
        elif kind == "or":
            options.append(in_a_row(items))
            items = []
        elif kind == "times" and items:
            items[-1] = repeated(items[-1], *times(found[0]))
        elif kind == "class":
            shape, place = _class(expression, found.start())
            items.append(shape)
        elif kind == "flags":
            is_verbose = _verbose(found[0], is_verbose)
        elif kind == "comment":
            end = expression.find("\n", place)
            place = end if end >= 0 else len(expression)
        elif kind != "blank":
            items.append(_ONE.get(kind) or characters())
    return one_of([*options, in_a_row(items)])


_ONE = {"many": characters(MORE_LEADS), "place": EMPTY, "any": characters(LEADS)}


def _verbose(opening: str, before: bool) -> bool:
    """Whether blanks are nothing after `(?x)`, `(?-x:` or what else opens."""
    on, _, off = opening.partition("-")
    is_named = "<" in opening
    return before if is_named else "x" not in off and ("x" in on or before)


def _class(expression: str, start: int) -> tuple[Shape, int]:
    """The class that begins there, and the place behind it."""
    begins = _CLASS_BEGINS.match(expression, start)
    assert begins is not None
    place, depth = begins.end(), 1
    while depth and (found := _IN_CLASS.search(expression, place)):
        depth += {"[": 1, "]": -1}.get(found[0], 0)
        place = found.end()
    place = len(expression) if depth else place
    text = expression[start:place]
    if _MANY.search(text):
        return characters(MORE_LEADS), place
    is_ascii = text.isascii() and "[^" not in text and "[:^" not in text and "\\" not in text
    return characters(1 if is_ascii else LEADS), place

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
)

_SIGN = re.compile(
    r"""(?P<many>\\[pPwWdDsS](?:\{[^}]*\}|(?<=[pP]).)?)
    | (?P<place>\\[bBAzZ<>](?:\{[a-z-]*\})?|[\^$])
    | (?P<escaped>\\(?:[xuU]\{[^}]*\}|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|.|$))
    | (?P<flags>\(\?(?P<set>[a-zA-Z]*)-?[a-zA-Z]*\))
    | (?P<open>\((?:\?(?:P?<[^>]*>|(?P<set_in>[a-zA-Z]*)-?[a-zA-Z]*:))?)
    | (?P<close>\)) | (?P<or>\|)
    | (?P<times>(?:[*+?]|\{\s*(?P<low>\d*)\s*(?:,\s*\d*\s*)?\})\??)
    | (?P<class>\[) | (?P<any>\.) | (?P<blank>\s|\#[^\n]*) | (?P<other>.)""",
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
        kind = "open" if kind == "set_in" else "flags" if kind == "set" else kind
        kind = "times" if kind == "low" else kind
        if kind == "blank" and not is_verbose:
            kind, place = "other", found.start() + 1
        if kind == "open":
            groups.append((options, items, is_verbose))
            options, items = [], []
            is_verbose |= "x" in (found["set_in"] or "")
        elif kind == "close" and groups:
            made = one_of([*options, in_a_row(items)])
            options, items, is_verbose = groups.pop()
            items.append(made)
        elif kind == "or":
            options.append(in_a_row(items))
            items = []
        elif kind == "times" and items:
            low = found["low"] if found["low"] is not None else "1" if found[0][0] == "+" else "0"
            items[-1] = repeated(items[-1], int(low[:9] or 0))
        elif kind == "class":
            shape, place = _class(expression, found.start())
            items.append(shape)
        elif kind == "flags":
            is_verbose |= "x" in found["set"]
        elif kind != "blank":
            items.append(_ONE.get(kind) or characters())
    return one_of([*options, in_a_row(items)])


_ONE = {"many": characters(MORE_LEADS), "place": EMPTY, "any": characters(LEADS)}


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

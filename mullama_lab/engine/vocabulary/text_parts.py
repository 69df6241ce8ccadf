"""A long text in parts that llama.cpp takes apart as it would take the whole.

Before it tokenizes, llama.cpp cuts a text at the tokens that it finds by their names: the control
tokens, and in some vocabularies every run of spaces or line ends (gemma has over 6000 such names).
It walks along the list of pieces for each of them, so the time grows with the square of their
number: 100 000 characters of code took half a minute for gemma, and nothing can end the call. A
text with many of them is given to it in parts, each ending behind such a name: there it begins
anew in any case.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from mullama_lab.engine.native import model as native
from mullama_lab.engine.vocabulary.marks import Mark, fragments, marks_of

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

SHORT = 4000  # characters that have no time to be lost in
MOST = 500  # names in a part


def parts_of(model: Model, text: str, parse_special: bool) -> list[str]:
    """The parts; tokenized one by one without the ends of a text, they give the text's tokens."""
    if len(text) <= SHORT:
        return [text]
    named = marks_of(model)
    if not parse_special:
        named = tuple(mark for mark in named if not mark.attributes & native.STEERING)
    there = [mark for mark in named if mark.name in text]
    if not there or _is_ambiguous(there):
        return [text]
    parts, start, n = [], 0, 0
    found = fragments(text, there, ())
    for fragment, following in pairwise(found):
        if fragment.mark is None:
            continue
        n += 1
        if n == MOST:
            parts.append(text[start : fragment.end])
            start, n = following.start, 0
    return [*parts, text[start : found[-1].end]]


def _is_ambiguous(marks: Iterable[Mark]) -> bool:
    """Whether two names of one length can overlap: which is found then, llama.cpp's sort says."""
    names = {mark.name for mark in marks}
    endings: dict[tuple[int, str], set[str]] = {}
    for name in names:
        for i in range(1, len(name)):
            endings.setdefault((len(name.encode()), name[i:]), set()).add(name)
    if any("\N{REPLACEMENT CHARACTER}" in name for name in names):  # bytes that are no text
        return True
    return any(
        endings.get((len(name.encode()), name[:i]), set()) - {name}
        for name in names
        for i in range(1, len(name))
    )

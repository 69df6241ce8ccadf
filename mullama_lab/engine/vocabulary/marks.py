"""Which tokens a chat's text is read as: the template's marks steer, what people say is text.

"<|im_start|>" in a template is the token of that name. In a message it is eleven characters that
somebody typed: before a message reaches the template, such names in it are put between two
private characters, and where these come out, the name in between is tokenized as plain text.
transformers does the same (`sanitize_control_tokens`).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from mullama_lab.engine.native import model as native
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.glyphs import one_line, visible

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

_SPACES = " \t\n\v\f\r"  # C's isspace
_PRIVATE = range(0xF0000, 0xFFFFE)  # a plane of characters that mean nothing


class Mark(NamedTuple):
    """A token that llama.cpp finds in a text by its name."""

    name: str
    token: int
    attributes: int

    @property
    def is_text(self) -> bool:
        """Whether it is found in plain text too."""
        return bool(self.attributes & native.USER_DEFINED)


@once_per_model
def marks_of(model: Model) -> tuple[Mark, ...]:
    """The marks of a vocabulary, in the order in which llama.cpp looks for them."""
    with model._memory.in_use() as vocabulary:
        found = native.special_texts(vocabulary)
    found.sort(key=lambda mark: -len(mark[0]))
    return tuple(Mark(name.decode("utf-8", "replace"), *rest) for name, *rest in found if name)


def private_letters(n: int, text: str) -> str:
    """Private characters that are not in a text."""
    taken = {c for c in text if ord(c) >= _PRIVATE.start}
    letters = (c for c in map(chr, _PRIVATE) if c not in taken)
    return "".join(next(letters) for _ in range(n))


def shown(text: str) -> str:
    """A text in an error or a list: no private characters, and nothing hidden."""
    return one_line(visible("".join(c for c in text if ord(c) not in _PRIVATE)))


class Guard:
    """Puts the names of marks in what people say between two private characters.

    Args:
        marks: of the model.
        template: the marks that a plain text may hold too are guarded if it uses them.
        said: all that people say, to look up once which marks are in it.
        letters: the two characters.
    """

    def __init__(self, marks: Iterable[Mark], template: str, said: str, letters: str) -> None:
        there = [mark for mark in marks if mark.name in said]
        steering = [m.name for m in there if not m.is_text]
        shared = [m.name for m in there if m.is_text and m.name in template and m.name.strip()]
        self._letters = letters
        self._in_all = _pattern_of([*steering, *shared])
        self._in_answers = _pattern_of(steering)

    def guarded(self, value: Any, *, own: bool = False) -> Any:
        """Plain data with its texts guarded; `own` is what the model said itself.

        What it said may hold marks that are text too, such as "</think>": templates look for it.
        """
        if isinstance(value, str):
            names = self._in_answers if own else self._in_all
            if names is None:
                return value
            before, after = self._letters
            return names.sub(lambda found: f"{before}{found[0]}{after}", value)
        if isinstance(value, dict):
            return {
                self.guarded(key, own=own): self.guarded(item, own=own)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.guarded(item, own=own) for item in value]
        return value


def _pattern_of(names: list[str]) -> re.Pattern[str] | None:
    ordered = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def unguarded(text: str, marks: Sequence[Mark], letters: str) -> tuple[str, list[tuple[int, int]]]:
    """A text without the private characters, and where in it a name is what somebody said.

    A template may cut a text between the two: then the name beside the one that is left counts.
    """
    before, after = letters
    if before not in text and after not in text:
        return text, []
    there = [mark.name for mark in marks if mark.name in text]
    names = _pattern_of(there)
    kept: list[str] = []
    said: list[tuple[int, int]] = []
    n, opened, last = 0, None, ""
    for piece in re.split(f"([{before}{after}])", text):
        if piece == before:
            opened = n
        elif piece == after:
            ending = max((len(name) for name in there if last.endswith(name)), default=0)
            said.append((n - ending if opened is None else opened, n))
            opened = None
        else:
            if opened is not None and names is not None and (found := names.match(piece)):
                said.append((n, n + found.end()))
            kept.append(piece)
            n, last = n + len(piece), piece
    return "".join(kept), _merged(said)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap made one, empty ones left out."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif start < end:
            joined.append((start, end))
    return joined


class Fragment(NamedTuple):
    """A part of a text as llama.cpp takes it apart: a mark, or the text between two."""

    start: int
    end: int
    mark: Mark | None


def fragments(text: str, marks: Sequence[Mark], said: Sequence[tuple[int, int]]) -> list[Fragment]:
    """Take a text apart at its marks, which `said` hides, as `llama_tokenize` does."""
    letter = private_letters(1, text)
    bounds = [0, *(bound for span in said for bound in span), len(text)]
    pieces = [text[start:end] for start, end in pairwise(bounds)]
    hidden = "".join(letter * len(p) if i % 2 else p for i, p in enumerate(pieces))
    parts = [Fragment(0, len(text), None)] if text else []
    for mark in marks:
        if mark.name in hidden:
            parts = [new for part in parts for new in _split_at_mark(hidden, part, mark)]
    return parts


def _split_at_mark(text: str, part: Fragment, mark: Mark) -> Iterator[Fragment]:
    start, end, found = part
    while found is None and (at := text.find(mark.name, start, end)) >= 0:
        left = at
        while mark.attributes & native.STRIPS_LEFT and left > start and text[left - 1] in _SPACES:
            left -= 1
        if left > start:
            yield Fragment(start, left, None)
        start = at + len(mark.name)
        yield Fragment(at, start, mark)
        while mark.attributes & native.STRIPS_RIGHT and start < end and text[start] in _SPACES:
            start += 1
    if start < end:
        yield Fragment(start, end, found)


def tokens_of(model: Model, text: str, said: Sequence[tuple[int, int]]) -> list[int]:
    """The tokens of a text whose marks are read as tokens, but for the spans that were said."""
    if not said:
        return model.tokenize(text, add_special=False, parse_special=True)
    return [t for _, tokens in fragment_tokens(model, text, said) for t in tokens]


def fragment_tokens(
    model: Model, text: str, said: Sequence[tuple[int, int]]
) -> Iterator[tuple[Fragment, list[int]]]:
    """The tokens of each fragment of a text."""
    marks = marks_of(model)
    names = [mark.name for mark in marks if mark.is_text and mark.name in text]
    steering = {mark.token for mark in marks if mark.attributes & native.CONTROL}
    cuts = sorted(
        {
            start + found.start() + 1
            for start, end in said
            for name in names
            for found in re.finditer(re.escape(name), text[start:end])
        }
    )
    for part in fragments(text, marks, said):
        if part.mark is not None:
            yield part, [part.mark.token]
        else:
            inside = cuts[bisect_right(cuts, part.start) : bisect_left(cuts, part.end)]
            tokens = _plain_tokens(model, text, [part.start, *inside, part.end])
            if said and not steering.isdisjoint(tokens):  # SentencePiece may join letters to a mark
                letters = (n for a, b in said for n in range(a, b + 1) if part.start < n < part.end)
                tokens = _plain_tokens(model, text, [part.start, *sorted({*letters}), part.end])
            if said and not steering.isdisjoint(tokens):
                raise ValueError(
                    f"a message has the name of a control token that {model.name} reads as that "
                    "token in plain text too. Leave it out, or pass parse_special=True."
                )
            yield part, tokens


def _plain_tokens(model: Model, text: str, bounds: Sequence[int]) -> list[int]:
    """The tokens of a text, taken apart at bounds, so that no name across one is a mark.

    llama.cpp finds a mark that is text too in plain text, if it is there in one piece.
    """
    first, *others = pairwise(bounds)
    tokens = model.tokenize(text[slice(*first)], add_special=False)
    for start, end in others:
        tokens += _continuation_tokens(model, text[start:end])
    return tokens


def _continuation_tokens(model: Model, text: str) -> list[int]:
    """The tokens of a text that goes on: without the space that is put before a beginning."""
    if model.vocabulary.adds_space:
        letter = private_letters(1, text)
        with suppress(ValueError):  # a vocabulary may not know the letter
            alone = model.tokenize(letter, add_special=False)
            after = model.tokenize(letter + text, add_special=False)
            if after[: len(alone)] == alone:
                return after[len(alone) :]
    return model.tokenize(text, add_special=False)

"""The lexemes of a text in Lark, as far as rows of parts that may be empty need them.

A regular expression in a rule is a lexeme by itself. A terminal is one with all that it names, and
so is a rule with attributes, as `text[stop="."]`. Nothing is refused here: what is no Lark,
llguidance says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mullama_lab.engine.grammar.matching.expressions import shape_of_expression
from mullama_lab.engine.grammar.matching.nullable_rows import (
    EMPTY,
    LEADS,
    Shape,
    characters,
    in_a_row,
    one_of,
    repeated,
    times,
)

# A quote goes on to the end of its line where it is not closed, and a regular expression to the end
# of the text: so no text is read twice.
_SIGN = re.compile(
    r"""(?P<blank>(?:\#|//)[^\n]*|[ \t\r]+) | (?P<line>\n)
    | (?P<text>"(?:\\.|[^"\\\n])*(?:"i?|\\?\Z|(?=\n)))
    | (?P<regex>/(?:\\.|[^/\\])+(?:/[imslux]*|\\?\Z))
    | (?P<json>%(?:json|regex|llguidance)) | (?P<word>%[a-z]+)
    | (?P<name>!?[_?]?[a-z][\w-]*|_?[A-Z][\w-]*) | (?P<token><[^<>\s]+>|@[\w-]+)
    | (?P<times>[*+?]|\{[\s\d,]*\}|~\s*\d+(?:\s*\.\.\s*\d+)?)
    | (?P<sign>->|\.\.|::|.)""",
    re.S | re.X,
)


class Sign(NamedTuple):
    """A name, an operator or what else Lark is written in."""

    kind: str
    text: str


_OR = Sign("sign", "|")


class LarkLexemes:
    """What a text in Lark gives a lexer.

    Attributes:
        shapes: of its lexemes; of a terminal that others name, where they do.
        schemas: the JSON Schemas within it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.schemas: list[Any] = []
        self._bodies: dict[str, list[Sign]] = {}  # of terminals
        self._shapes: dict[str, Shape] = {}
        alone: list[Sign] = []
        signs = list(self._signs())
        starts = [at for at in range(len(signs)) if at == 0 or _begins(signs, at)]
        for start, end in zip(starts, [*starts, len(signs)][1:], strict=True):
            name, body = signs[start].text.lstrip("!?"), signs[start + 1 : end]
            if not _is_lexeme(name, body):
                alone += body
            elif name in self._bodies:  # as of an inner grammar
                self._bodies[name] += [_OR, *body]
            else:
                self._bodies[name] = body
        named = {name for body in self._bodies.values() for name in _names(body)}
        self.shapes = [self._shape_of(name) for name in self._bodies if name not in named]
        self.shapes += [shape_of_regex(sign.text) for sign in alone if sign.kind == "regex"]

    def _signs(self) -> Iterator[Sign]:
        place = 0
        while found := _SIGN.match(self.text, place):
            kind, place = str(found.lastgroup), found.end()
            if kind == "json":
                place = self._skip_json(found[0], place)
            if kind != "blank":
                yield Sign(kind, found[0])

    def _skip_json(self, word: str, place: int) -> int:
        while self.text[place : place + 1].isspace():
            place += 1
        try:
            value, place = json.JSONDecoder().raw_decode(self.text, place)
        except (ValueError, RecursionError):
            return len(self.text)  # no JSON, so no Lark
        if word == "%json":
            self.schemas.append(value)
        return place

    def _shape_of(self, name: str) -> Shape:
        """The rows of a terminal, or of one that is not here, as `%import` names them."""
        order = [name]
        while order:
            one = order[-1]
            self._shapes.setdefault(one, characters(LEADS))  # for one that names itself
            body = self._bodies.get(one, [])
            missing = [other for other in _names(body) if other not in self._shapes]
            order += missing
            if not missing:
                order.pop()
                if body:
                    self._shapes[one] = self._shape_of_body(body)
                    self._bodies[one] = []  # read once, however often it is in `order`
        return self._shapes[name]

    def _shape_of_body(self, body: list[Sign]) -> Shape:
        groups: list[tuple[list[Shape], list[Shape], str]] = []
        options: list[Shape] = []
        items: list[Shape] = []
        before = ""  # a sign that changes what is after it
        for kind, text in body:
            made = None
            if text in ("(", "["):
                groups.append((options, items, before))
                options, items = [], []
            elif text in (")", "]") and groups:
                made = one_of([*options, in_a_row(items)])
                options, items, before = groups.pop()
                made = repeated(made, 0, 1) if text == "]" else made
            elif text in ("|", "&"):
                options.append(in_a_row(items))
                items = []
            elif kind == "times" and items:
                items[-1] = repeated(items[-1], *times(text))
            elif kind == "regex":
                made = shape_of_regex(text)
            elif kind == "text" and before != "..":
                made = EMPTY if text.rstrip("i") == '""' else characters()
            elif kind == "name":
                made = self._shapes[text]
            if made is not None:
                items.append(repeated(made, 0, 1) if before == "~" else made)
            before = text if text in ("~", "..") else ""
        return one_of([*options, in_a_row(items)])


def shape_of_regex(text: str) -> Shape:
    """The rows of `/.../flags`."""
    end = text.rindex("/")
    return shape_of_expression(text[1:end], text[end + 1 :])


def _names(body: list[Sign]) -> set[str]:
    return {sign.text for sign in body if sign.kind == "name"}


def _begins(signs: list[Sign], at: int) -> bool:
    """Whether a definition or a directive begins there: at that of a line or an inner grammar."""
    if signs[at - 1].kind != "line" and signs[at - 1].text != "{":
        return False
    after = signs[at + 1].text if at + 1 < len(signs) else ""
    is_name = signs[at].kind == "name" and after in (":", "[", ".", "{", "::")
    return is_name or signs[at].kind == "word"


def _is_lexeme(name: str, body: list[Sign]) -> bool:
    is_terminal = name.lstrip("_")[:1].isupper()
    return is_terminal or name == "%ignore" or (bool(body) and body[0].text == "[")

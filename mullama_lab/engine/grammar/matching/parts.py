"""What llguidance says of JSON Schema, a regular expression or Lark when it becomes a grammar."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from mullama_lab.engine.grammar.deep_stack import on_deep_stack
from mullama_lab.engine.grammar.matching.errors import in_words
from mullama_lab.engine.grammar.matching.expressions import shape_of_expression
from mullama_lab.engine.grammar.matching.lark_lexemes import LarkLexemes
from mullama_lab.engine.grammar.matching.nullable_rows import Shape, too_dear
from mullama_lab.engine.grammar.nodes import Part
from mullama_lab.engine.grammar.schema.check import said_of_schema
from mullama_lab.engine.grammar.schema.subschemas import NAMED
from mullama_lab.engine.grammar.schema.values import ends_in_escape
from mullama_lab.engine.grammar.text_places import error_at
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

_NAMES = {"json_schema": "JSON Schema", "regex": "regular expression", "lark": "Lark grammar"}
_PLACE = re.compile(r"(?:at )?(\d+)\((\d+)\): (.*)", re.S)
_EXPRESSION = re.compile(r"regex parse error:\n.*\n {4}([ ^]*)\nerror: (.*)")
_IN_LARK = {"\n": "n", "\r": "r", "\t": "t", "/": "/"}  # written after a backslash
_VALUES = ("const", "enum", "default", "examples")  # keywords whose values are no schemas
LONGEST_PART = 300_000  # characters
_VERBOSE = re.compile(r"(?:^|[^\\])(?:\\\\)*(?P<flag>\(\?[a-zA-Z]{0,9}x[a-zA-Z-]{0,9}[:)])")
_SHOWN = re.compile(r"\n\s*\d+ \| .*", re.S)  # the lines that llguidance quotes


def checked_part(part: Part) -> Part:
    """The part itself, when llguidance can read it.

    Raises:
        GrammarError: it cannot; with line, column and caret where it says them.
    """
    text = part.text
    if len(text) > LONGEST_PART:
        raise GrammarError(
            f"the {_NAMES[part.kind]} has {len(text)} characters and may have {LONGEST_PART}."
        )
    for sign, what in (("\0", "a NUL"), *((c, "half of a character") for c in _halves(text))):
        if sign in text:
            raise error_at(text, text.index(sign), f"{what} is in no text.")
    if part.kind == "regex":
        _must_survive_lark(text)
    _must_be_quick(part)
    if part.kind == "json_schema":
        if said := said_of_schema(text):
            raise GrammarError(f"no JSON Schema that can be carried out: {said}")
    elif error := _error_of(part):
        place = _PLACE.match(error)
        said = in_words(_SHOWN.sub("", place[3] if place else error))
        if place and part.kind == "lark":
            lines = text.split("\n")
            line, column = int(place[1]), int(place[2])
            if line <= len(lines):
                start = sum(len(each) + 1 for each in lines[: line - 1])
                raise error_at(text, min(start + column - 1, len(text)), f"{said}.")
        if part.kind == "regex" and (shown := _EXPRESSION.search(error)):
            at = _place_in(text, shown[1])
            raise error_at(text, at, f"no regular expression: {shown[2]}.")
        raise GrammarError(f"no {_NAMES[part.kind]} that llguidance takes: {said}.")
    return part


def _must_survive_lark(expression: str) -> None:
    """Refuse what llguidance loses of a regular expression when it makes Lark of it."""
    if ends_in_escape(expression):
        raise error_at(expression, len(expression) - 1, "nothing is after this backslash.")
    if "\n" in expression and (flag := _VERBOSE.search(expression)):
        raise error_at(
            expression, flag.start("flag"), "(?x) is not for several lines here. Write it in one."
        )


def _must_be_quick(part: Part) -> None:
    """Refuse what llguidance would work on for seconds, also after Ctrl-C ended the wait."""
    if part.kind == "regex":
        shapes = [shape_of_expression(part.text)]
    elif part.kind == "lark":
        lark = LarkLexemes(part.text)
        shapes = lark.shapes + _shapes_of_patterns(lark.schemas)
    else:
        shapes = _shapes_of_patterns(json.loads(part.text))
    if said := too_dear(f"the {_NAMES[part.kind]}", shapes):
        raise GrammarError(said)


def _shapes_of_patterns(schema: Any) -> list[Shape]:
    """The rows of each regular expression in a JSON Schema."""
    found: dict[str, None] = {}
    todo, values, refs = [schema], [], [""]
    while todo:
        one = todo.pop()
        todo += one if isinstance(one, list) else ()
        for key, value in one.items() if isinstance(one, dict) else ():
            if key in NAMED and isinstance(value, dict):
                found |= dict.fromkeys(value if key == "patternProperties" else ())
                todo += value.values()
            elif key in _VALUES:
                values.append(value)
            elif not isinstance(value, str):
                todo.append(value)
            elif key == "pattern":
                found[value] = None
            elif key == "$ref":
                refs.append(unquote(value))
        if not todo and any(f"/{key}" in ref for key in _VALUES for ref in refs):
            todo, values = values, []  # which llguidance reads as schemas then
    return [shape_of_expression(pattern) for pattern in found]


def _place_in(expression: str, marks: str) -> int:
    """The place in a regular expression of the last of the marks below what llguidance shows.

    It shows the expression as it is written in Lark, where some characters become two.
    """
    wanted, is_escaped, n = marks.rfind(" ^") + 1, False, 0
    for place, sign in enumerate(expression):
        if n >= wanted:
            return place
        n += 2 if sign in _IN_LARK and not is_escaped else 1
        is_escaped = sign == "\\" and not is_escaped
    return len(expression)


def _halves(text: str) -> set[str]:
    return set(re.findall("[\ud800-\udfff]", text))


def _error_of(part: Part) -> str:
    """What llguidance has against a part; empty if nothing."""
    from llguidance import LLMatcher

    if part.kind == "lark":
        grammar = LLMatcher.grammar_from_lark(part.text)
    else:
        grammar = LLMatcher.grammar_from_regex(part.text)
    is_error, said = on_deep_stack(lambda: LLMatcher.validate_grammar_with_warnings(grammar))
    return said[0] if is_error else ""


def part_of(kind: str, text: object) -> Part:
    """A regular expression or a Lark grammar that a caller gives."""
    if not isinstance(text, str):
        raise TypeError(f"a {_NAMES[kind]} is a text, not {brief(text)}.")
    assert kind in ("regex", "lark")
    return checked_part(Part(kind, text))  # type: ignore[arg-type]

"""What grammars are read from: GBNF, files, schemas, classes and texts, as rules and nodes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mullama_lab.engine.grammar.classes import name_of, schema_of
from mullama_lab.engine.grammar.gbnf.left_recursion import left_recursive
from mullama_lab.engine.grammar.gbnf.reader import LONGEST_TEXT, read_gbnf, rule_place
from mullama_lab.engine.grammar.matching.parts import checked_part
from mullama_lab.engine.grammar.nodes import NOTHING, Literal, Node, Part, choice
from mullama_lab.engine.grammar.schema.schema import schema_text
from mullama_lab.engine.grammar.text_places import error_at
from mullama_lab.engine.options import listed, utf8
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

MOST_CHOICES = 100_000
_LEFT_RECURSIVE = (
    "rule {name!r} may begin with itself, which is left recursion: a reader would go round for "
    "ever. Instead of `{name} ::= {name} x | y` write `{name} ::= y x*`."
)


def must_not_loop(rules: Mapping[str, Node], text: str | None = None) -> None:
    """Refuse rules with left recursion; with the place in the text that they were read from."""
    if name := left_recursive(rules):
        said = _LEFT_RECURSIVE.format(name=name)
        raise GrammarError(said) if text is None else error_at(text, rule_place(text, name), said)


def gbnf_rules(text: str) -> dict[str, Node]:
    """The rules of a text in GBNF."""
    rules = read_gbnf(text)
    must_not_loop(rules, text)
    return rules


def text_of_file(path: str | os.PathLike[str]) -> str:
    """What a file in UTF-8 holds, as far as a grammar may be long."""
    with Path(path).open("rb") as file:
        data = file.read(4 * LONGEST_TEXT + 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GrammarError(
            f"{path} is no UTF-8: its byte {error.start} is {data[error.start]:#04x}."
        ) from None


def schema_part(schema: Mapping[str, Any]) -> Part:
    """The part that a JSON Schema is."""
    return checked_part(Part("json_schema", schema_text(schema)))


def class_part(kind: Any) -> Part:
    """The part that the JSON Schema of a class is."""
    schema = schema_of(kind)
    try:
        return schema_part(schema)
    except GrammarError as error:
        raise GrammarError(f"the JSON Schema of {name_of(kind)}: {error}") from None


def choice_of(texts: Iterable[str]) -> Node:
    """One of some texts."""
    return choice([text_node(text) for text in texts])


def some_texts(name: str, values: Iterable[str]) -> list[str]:
    """Texts in order, each once."""
    found = dict.fromkeys(map(_plain, listed(name, values, "texts")))
    if not 1 <= len(found) <= MOST_CHOICES:
        raise ValueError(f"a choice is of 1 to {MOST_CHOICES} texts, not {len(found)}.")
    return list(found)


def _plain(text: object) -> str:
    """A text as Python has it, which of numpy's are of another class."""
    if not isinstance(text, str):
        raise TypeError(
            f"{brief(text)} is no text. Of a table's column, .dropna() leaves out what is missing, "
            "and .astype(str) makes texts of numbers."
        )
    return str(text)


def text_node(text: object) -> Node:
    """A text that stands for itself."""
    if not isinstance(text, str):
        raise TypeError(f"{brief(text)} is no text.")
    utf8(f"the text {brief(text)}", text)
    if "\0" in text:
        raise ValueError(f"the text {brief(text)} has a NUL, and no text of a grammar holds one.")
    return Literal(text) if text else NOTHING

"""A grammar as somebody types it in an editor: GBNF, a JSON Schema or a regular expression."""

from __future__ import annotations

import json
import re
from typing import Any

from mullama_lab.engine.grammar.grammar import Grammar
from mullama_lab.engine.grammar.schema.schema import CARRIED_OUT, SAYING_NOTHING
from mullama_lab.engine.grammar.text_places import error_at
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

SYNTAX = "GBNF, a JSON Schema, or a /regular expression/"
MOST_NAMED = 3  # words or keys that an error repeats
_TYPES = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def read_grammar(text: str) -> Grammar:
    """The grammar of a text that was typed.

    >>> read_grammar('"yes" | "no"')
    Grammar.gbnf('root ::= "yes" | "no"\\n')
    >>> read_grammar('{"type": "integer"}')
    Grammar.json_schema({'type': 'integer'})
    >>> read_grammar("/[0-9]+/")
    Grammar.regex('[0-9]+')

    Raises:
        GrammarError: it cannot be read; with line, column and a caret.
    """
    typed = text.strip()
    if typed.startswith("{"):
        return Grammar.json_schema(_schema(text))
    if len(typed) > 1 and typed[0] == typed[-1] == "/":
        return Grammar.regex(typed[1:-1])
    if "::=" in text:
        return Grammar.gbnf(text)
    try:
        return Grammar.choice([""]).override(root=text)
    except GrammarError as error:
        if words := _words(text):
            place = text.index(words[0])
            quoted = " | ".join(f'"{word}"' for word in words[:MOST_NAMED])
            more = " | …" * (len(words) > MOST_NAMED)
            raise error_at(text, place, f"put words in quotes: {quoted}{more}") from error
        raise


def write_grammar(grammar: Grammar) -> str | None:
    """The text that `read_grammar` reads back; None if there is none.

    >>> write_grammar(Grammar.choice(["yes", "no"]))
    '"yes" | "no"'
    """
    parts = grammar.to_dict()["parts"]
    if not parts:
        rules = grammar.rules
        return rules["root"] if len(rules) == 1 else str(grammar).rstrip()
    ((kind, text),) = parts.get("root", {"": ""}).items()
    if kind == "json_schema":
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    return f"/{text}/" if kind == "regex" else None


def _words(text: str) -> list[str]:
    """The words of a list that was typed without quotes or bars; none where it is no list."""
    between = r"[,;\n]" if '"' in text else r"[,;|\n]"
    words = [word.strip(" \t\r'\"") for word in re.split(between, text)]
    words = [word for word in words if word]
    return words if all(re.fullmatch(r"\w[\w' -]*", word) for word in words) else []


def _schema(text: str) -> dict[str, Any]:
    """The schema of a text; an object that is none is told how its schema would begin."""
    schema = _json(text)
    if schema and not schema.keys() & (CARRIED_OUT | SAYING_NOTHING):
        keys = list(schema)[:MOST_NAMED]
        types = {key: {"type": _TYPES.get(type(schema[key]), "string")} for key in keys}
        like = json.dumps({"type": "object", "properties": types}, ensure_ascii=False)
        raise GrammarError(
            f"{brief(keys[0])} at # is no keyword of a JSON Schema. For such an object write {like}"
        )
    return schema


def _json(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise error_at(text, error.pos, f"no JSON: {error.msg}.") from None

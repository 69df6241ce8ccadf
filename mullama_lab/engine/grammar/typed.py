"""A grammar as somebody types it in an editor: GBNF, a JSON Schema or a regular expression."""

from __future__ import annotations

import json

from mullama_lab.engine.grammar.grammar import Grammar
from mullama_lab.engine.grammar.text_places import error_at

SYNTAX = "GBNF, a JSON Schema, or a /regular expression/"


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
        return Grammar.json_schema(_json(text))
    if len(typed) > 1 and typed[0] == typed[-1] == "/":
        return Grammar.regex(typed[1:-1])
    if "::=" in text:
        return Grammar.gbnf(text)
    return Grammar.choice([""]).override(root=text)


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


def _json(text: str) -> dict[str, object]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise error_at(text, error.pos, f"no JSON: {error.msg}.") from None

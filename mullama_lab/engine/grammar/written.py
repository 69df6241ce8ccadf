"""Rules written out, for a person, as GBNF and as plain values; and read back from those."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mullama_lab.engine.grammar.gbnf.reader import read_gbnf
from mullama_lab.engine.grammar.gbnf.writer import right_side, write_gbnf
from mullama_lab.engine.grammar.matching.parts import checked_part, part_of
from mullama_lab.engine.grammar.nodes import Node, Part
from mullama_lab.engine.grammar.schema.schema import schema_text
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

Rules = dict[str, Node]


def shown(node: Node) -> str:
    """The right side of a rule as a person reads it."""
    return f"{node.kind}({node.text!r})" if isinstance(node, Part) else right_side(node)


def must_be_gbnf(name: str, node: Node) -> None:
    if isinstance(node, Part):
        kind = node.kind.replace("_", " ")
        raise GrammarError(
            f"rule {name!r} is {kind}, which is not written as GBNF; llguidance alone reads it."
        )


def gbnf_of(rules: Rules) -> str:
    """The text in GBNF, as llama.cpp reads it too; `GrammarError` if it would not."""
    for name, node in rules.items():
        must_be_gbnf(name, node)
    text = write_gbnf(rules)
    try:
        read_gbnf(text, longest=None)
    except GrammarError as error:
        raise GrammarError(f"llama.cpp would not read it: {error}") from None
    return text


def dict_of_rules(rules: Rules) -> dict[str, Any]:
    """Plain values that `rules_of_dict` reads back."""
    parts = {name: node for name, node in rules.items() if isinstance(node, Part)}
    return {
        "rules": list(rules),
        "gbnf": write_gbnf({name: node for name, node in rules.items() if name not in parts}),
        "parts": {name: {part.kind: part.text} for name, part in parts.items()},
    }


def rules_of_dict(data: Mapping[str, Any]) -> Rules:
    """The rules that `dict_of_rules` wrote."""
    wanted = {"rules", "gbnf", "parts"}
    if not isinstance(data, Mapping) or set(data) - {"reads"} != wanted:
        raise ValueError(f"a grammar is a dict with 'rules', 'gbnf' and 'parts', not {brief(data)}")
    if not isinstance(data["parts"], Mapping) or not isinstance(data["rules"], list):
        raise ValueError("the parts of a grammar are a dict, and its rules a list of names.")
    parts: Rules = {str(name): _part(value) for name, value in data["parts"].items()}
    found = read_gbnf(data["gbnf"], parts=parts, longest=None) if data["gbnf"] else {}
    found |= parts
    if sorted(map(str, data["rules"])) != sorted(found) or "root" not in found:
        raise ValueError("the names of a grammar's rules are not those of its rules.")
    return {name: found[name] for name in data["rules"]}


def _part(value: Any) -> Part:
    if isinstance(value, Mapping) and len(value) == 1:
        ((kind, text),) = value.items()
        if kind in ("regex", "lark"):
            return part_of(kind, text)
        if kind == "json_schema" and isinstance(text, str):
            try:
                schema = json.loads(text)
            except RecursionError:
                raise ValueError(f"{brief(text)} is too deep to be a JSON Schema.") from None
            return checked_part(Part("json_schema", schema_text(schema)))
    raise ValueError(f"{brief(value)} is no part of a grammar.")

"""The rows of parts that may be empty in the lexemes that GBNF was cut into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mullama_lab.engine.grammar.matching.nullable_rows import (
    LEADS,
    Shape,
    characters,
    in_a_row,
    one_of,
    repeated,
    too_dear,
)
from mullama_lab.engine.grammar.nodes import Chars, Choice, Literal, Node, Ref, Repeat, Sequence
from mullama_lab.errors import GrammarError


def must_be_quick(lexemes: Iterable[Node], rules: Mapping[str, Node]) -> None:
    """Refuse lexemes that llguidance would work on for seconds."""
    known: dict[str, Shape] = {}
    shapes = [_shape(node, rules, known) for node in lexemes]
    if said := too_dear("the grammar", shapes):
        raise GrammarError(said)


def _shape(node: Node, rules: Mapping[str, Node], known: dict[str, Shape]) -> Shape:
    """The rows of a node that is regular; `known` keeps those of the rules that it names."""
    if isinstance(node, Ref):
        if node.name not in known:
            known[node.name] = _shape(rules[node.name], rules, known)
        return known[node.name]
    if isinstance(node, Chars):
        return characters(1 if node.ranges and node.ranges[-1][1] < 128 else LEADS)
    if isinstance(node, Repeat):
        return repeated(_shape(node.item, rules, known), node.low, node.high)
    if isinstance(node, Choice):
        return one_of(_shape(item, rules, known) for item in node.items)
    if isinstance(node, Sequence):
        return in_a_row(_shape(item, rules, known) for item in node.items)
    assert isinstance(node, Literal)
    return characters()

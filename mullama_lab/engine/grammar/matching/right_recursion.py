"""Right recursion as repetition: `list ::= x list | y` has the texts of `list ::= x* y`.

Where a rule that ends with itself comes to its end, llguidance goes through all the copies of it
that are open, and takes no more than 2000. Of a repetition there is one.
"""

from __future__ import annotations

from collections.abc import Mapping

from mullama_lab.engine.grammar.nodes import (
    NOTHING,
    Choice,
    Node,
    Ref,
    Repeat,
    Sequence,
    choice,
    sequence,
)


def with_repetitions(rules: Mapping[str, Node]) -> dict[str, Node]:
    """The rules, of which none ends with itself, with the same texts."""
    return {name: _repeated(node, Ref(name)) for name, node in rules.items()}


def _repeated(node: Node, itself: Ref) -> Node:
    again, ends = _cut(node, itself)
    again = [one for one in again if one != NOTHING]
    if not again or not ends:
        return node
    return _in_a_row((Repeat(choice(again), 0, None),), ends)


def _cut(node: Node, itself: Ref) -> tuple[list[Node], list[Node]]:
    """What comes before the rule itself at the end of a node, and what it is that has it not."""
    if node == itself:
        return [NOTHING], []
    if isinstance(node, Sequence) and node.items:
        again, ends = _cut(node.items[-1], itself)
        head = node.items[:-1]
        if again:
            return [_in_a_row(head, again)], [_in_a_row(head, ends)] if ends else []
    if isinstance(node, Choice):
        cuts = [_cut(item, itself) for item in node.items]
        return [x for again, _ in cuts for x in again], [x for _, ends in cuts for x in ends]
    if isinstance(node, Repeat) and (node.low, node.high) == (0, 1):
        again, ends = _cut(node.item, itself)
        if again:
            return again, [*ends, NOTHING]
    return [], [node]


def _in_a_row(head: tuple[Node, ...], ends: list[Node]) -> Node:
    last = choice(ends)
    return sequence([*head, *(last.items if isinstance(last, Sequence) else (last,))])

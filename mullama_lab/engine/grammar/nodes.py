"""The tree of a grammar: what stands right of `::=`.

Nodes are values. A literal and a class stand for characters, `Token` for one token of the model,
`Ref` for another rule. A `Part` is all of a rule: JSON Schema, a regular expression or Lark, which
llguidance reads and we do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import TypeAlias

from mullama_lab.engine.grammar.charset import Ranges


@dataclass(frozen=True, slots=True)
class Literal:
    """A text of one character or more."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Token:
    """One token, whatever its text; or, if `negated`, any other one.

    Attributes:
        name: its text with the angle brackets, as in "<think>", or its id.
    """

    name: str | int
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """What another rule stands for."""

    name: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Items one after the other; none of them is the empty text."""

    items: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some items."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """An item `low` to `high` times; None is any number of times."""

    item: Node
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """All of a rule, in a language that llguidance reads.

    Attributes:
        text: JSON, the expression, or a Lark grammar whose first rule is `start`.
    """

    kind: OneOf["json_schema", "regex", "lark"]
    text: str


@dataclass(frozen=True, slots=True)
class Lexeme:
    """What a lexer reads as one; only in a grammar that was cut into lexemes."""

    node: Node


Node: TypeAlias = Literal | Chars | Token | Ref | Sequence | Choice | Repeat | Part | Lexeme
Rules: TypeAlias = Mapping[str, Node]

NOTHING = Sequence()


def sequence(items: list[Node]) -> Node:
    """Items one after the other, with no sequence of one."""
    return items[0] if len(items) == 1 else Sequence(tuple(items))


def choice(items: list[Node]) -> Node:
    """One of some items, with no choice of one."""
    return items[0] if len(items) == 1 else Choice(tuple(items))


def inner(node: Node) -> tuple[Node, ...]:
    """The nodes of which a node is made."""
    if isinstance(node, (Sequence, Choice)):
        return node.items
    return (node.item,) if isinstance(node, Repeat) else ()


def walk(node: Node) -> Iterator[Node]:
    """A node and all that are in it, in the order of the text."""
    todo = [node]
    while todo:
        node = todo.pop()
        yield node
        todo.extend(reversed(inner(node)))


def refs(node: Node) -> Iterator[str]:
    """The names of the rules that a node refers to."""
    return (found.name for found in walk(node) if isinstance(found, Ref))


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with other names for the rules it refers to."""
    if isinstance(node, Ref):
        return Ref(names.get(node.name, node.name))
    if isinstance(node, Repeat):
        return Repeat(renamed(node.item, names), node.low, node.high)
    if isinstance(node, (Sequence, Choice)):
        return type(node)(tuple(renamed(item, names) for item in node.items))
    return node


def reached(rules: Rules, start: str) -> dict[str, Node]:
    """The rules that can be reached from one, in the order in which they are met."""
    found: dict[str, Node] = {}
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = rules[name]
            todo.extend(reversed(list(refs(rules[name]))))
    return found

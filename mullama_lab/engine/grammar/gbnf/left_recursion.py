"""Left recursion: a rule that may begin with itself, which llama.cpp cannot work out.

Two rules are kept. llama.cpp's own, which finds a rule that begins with itself past items that
have an empty alternative. And one for what that does not see, and would never come back from: a
rule that begins with itself past items that may be empty in a longer way, with something after it.

Repetitions and groups are rules in this, as they are in llama.cpp. It refuses `"a"?*` and takes
`("a"?)*`, which is the same: so does the reader take both, and the writer writes the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from mullama_lab.engine.grammar.nodes import (
    Choice,
    Literal,
    Node,
    Part,
    Ref,
    Repeat,
    Sequence,
)

Element: TypeAlias = int | None  # a rule by its number, or something that takes a character
Edges: TypeAlias = list[list[tuple[int, bool]]]  # rules that one may begin with; is that all of it


@dataclass
class Flat:
    """Rules as llama.cpp has them, with the copies left out that change nothing here.

    Attributes:
        owners: the name of the rule in whose text each rule stands.
        bodies: the alternatives of each.
    """

    owners: list[str] = field(default_factory=list)
    bodies: list[list[list[Element]]] = field(default_factory=list)

    @classmethod
    def of(cls, rules: Mapping[str, Node]) -> Flat:
        flat = cls(list(rules), [[] for _ in rules])
        numbers = {name: number for number, name in enumerate(rules)}
        for name, node in rules.items():
            flat.bodies[numbers[name]] = flat._alternatives(node, name, numbers)
        return flat

    def _alternatives(self, node: Node, owner: str, numbers: dict[str, int]) -> list[list[Element]]:
        items = node.items if isinstance(node, Choice) else (node,)
        return [self._elements(item, owner, numbers) for item in items]

    def _elements(self, node: Node, owner: str, numbers: dict[str, int]) -> list[Element]:
        if isinstance(node, Sequence):
            return [x for item in node.items for x in self._elements(item, owner, numbers)]
        if isinstance(node, Ref):
            number: Element = numbers[node.name]
            return [number]
        if isinstance(node, Choice):
            made: Element = self._new(owner, self._alternatives(node, owner, numbers))
            return [made]
        if isinstance(node, Repeat):
            return self._repeated(node, owner, numbers)
        if isinstance(node, Part):
            return [None]
        return [None, None] if isinstance(node, Literal) and len(node.text) > 1 else [None]

    def _repeated(self, node: Repeat, owner: str, numbers: dict[str, int]) -> list[Element]:
        inside = node.item
        item: list[Element]
        item = self._elements(inside, owner, numbers)
        if node.high is None or isinstance(inside, Sequence):  # a group
            item = [self._new(owner, [item])]
        found = item * min(node.low, 2)
        if node.high is None:
            again = self._new(owner, [])
            self.bodies[again] = [[*item, again], []]
            return [*found, again]
        last: Element = None
        for n in range(min(node.high - node.low, 2)):
            more: list[Element] = [*item, last] if n else item
            last = self._new(owner, [more, []])
        return [*found, last] if node.high > node.low else found

    def _new(self, owner: str, body: list[list[Element]]) -> int:
        self.owners.append(owner)
        self.bodies.append(body)
        return len(self.bodies) - 1


def left_recursive(rules: Mapping[str, Node]) -> str | None:
    """The name of a rule in whose text there is left recursion."""
    flat = Flat.of(rules)
    plainly = [any(not items for items in body) for body in flat.bodies]
    somehow = nullable(flat)
    for loop in _loops(_edges(flat, plainly)):
        return flat.owners[loop[0]]
    edges = _edges(flat, somehow)
    for loop in _loops(edges):
        members = set(loop)
        if any(to in members and not ends for rule in loop for to, ends in edges[rule]):
            return flat.owners[loop[0]]
    return None


def nullable(flat: Flat) -> list[bool]:
    """Which rules can be the empty text."""
    users: list[list[int]] = [[] for _ in flat.bodies]  # alternatives by number
    missing: list[int] = []  # of each alternative: how many items are not known to be empty
    owners: list[int] = []
    todo: list[int] = []
    for rule, body in enumerate(flat.bodies):
        for items in body:
            inside = [item for item in items if item is not None]
            if len(inside) < len(items):
                continue
            for item in inside:
                users[item].append(len(missing))
            missing.append(len(inside))
            owners.append(rule)
            if not inside:
                todo.append(rule)
    found = [False] * len(flat.bodies)
    while todo:
        rule = todo.pop()
        if found[rule]:
            continue
        found[rule] = True
        for one in users[rule]:
            missing[one] -= 1
            if not missing[one]:
                todo.append(owners[one])
    return found


def _edges(flat: Flat, may_be_empty: list[bool]) -> Edges:
    edges: Edges = []
    for body in flat.bodies:
        found = []
        for items in body:
            for place, item in enumerate(items):
                if item is None:
                    break
                found.append((item, place == len(items) - 1))
                if not may_be_empty[item]:
                    break
        edges.append(found)
    return edges


def _loops(edges: Edges) -> Iterator[list[int]]:
    """Rules from each of which every other one can be reached, or that reach themselves.

    Tarjan's strongly connected components, with a stack of our own: rules may be a long line.
    """
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for start in range(len(edges)):
        if start in order:
            continue
        work = [(start, iter(edges[start]))]
        order[start] = low[start] = len(order)
        stack.append(start)
        on_stack.add(start)
        while work:
            rule, rest = work[-1]
            for to, _ in rest:
                if to not in order:
                    order[to] = low[to] = len(order)
                    stack.append(to)
                    on_stack.add(to)
                    work.append((to, iter(edges[to])))
                    break
                if to in on_stack:
                    low[rule] = min(low[rule], order[to])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[rule])
                if low[rule] == order[rule]:
                    loop = []
                    while not loop or loop[-1] != rule:
                        loop.append(stack.pop())
                        on_stack.discard(loop[-1])
                    if len(loop) > 1 or any(to == rule for to, _ in edges[rule]):
                        yield loop[::-1]

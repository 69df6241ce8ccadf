"""The spots of a grammar: each node where it stands, with the rule that it stands in.

Nodes are values, so two that look alike are one; a reader that says where in the grammar a text is
needs to tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping

from mullama_lab.engine.grammar import charset
from mullama_lab.engine.grammar.charset import Ranges
from mullama_lab.engine.grammar.matching.byte_matcher import ByteMatcher, byte_matcher
from mullama_lab.engine.grammar.nodes import (
    Chars,
    Choice,
    Literal,
    Node,
    Part,
    Ref,
    Repeat,
    Sequence,
    reached,
)

FORBIDDEN, WHOLE = -1, -2  # what a byte makes of a character: none of these; all of it


class Spots:
    """The nodes of the rules that can be reached from root, each with a number; 0 is root itself.

    A rule has a spot of its own, with its right side in it, and what refers to it has that spot
    inside.

    Attributes:
        nodes: the node of each spot; None for that of a rule.
        rule_of: the name of the rule it stands in; for a rule's own spot, its name.
        inside: the spots of which each is made.
        literals: the bytes of each Literal.
        empty: whether each may be nothing; if it is a choice, by which of its alternatives first.
    """

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self.nodes: list[Node | None] = []
        self.rule_of: list[str] = []
        self.inside: list[tuple[int, ...]] = []
        self.literals: dict[int, bytes] = {}
        self._steps: dict[tuple[int, int, int], int] = {}
        self._parts: dict[int, ByteMatcher] = {}
        rules = reached(rules, "root")
        self.rule_spots = {name: self._new(None, name) for name in rules}
        for name, body in rules.items():
            self.inside[self.rule_spots[name]] = (self._add(body, name),)
        self.empty = self._find_empty()

    def _new(self, node: Node | None, rule: str) -> int:
        self.nodes.append(node)
        self.rule_of.append(rule)
        self.inside.append(())
        return len(self.nodes) - 1

    def _add(self, node: Node, rule: str) -> int:
        if isinstance(node, Ref):
            return self.rule_spots[node.name]
        spot = self._new(node, rule)
        if isinstance(node, (Sequence, Choice)):
            self.inside[spot] = tuple([self._add(item, rule) for item in node.items])
        elif isinstance(node, Repeat):
            self.inside[spot] = (self._add(node.item, rule),)
        elif isinstance(node, Literal):
            self.literals[spot] = node.text.encode()
        return spot

    def part(self, spot: int) -> ByteMatcher:
        """A matcher of what a Part allows, at its beginning; not to be moved."""
        if spot not in self._parts:
            node = self.nodes[spot]
            assert isinstance(node, Part)
            self._parts[spot] = byte_matcher({"root": node})
        return self._parts[spot]

    # What may be nothing.

    def _find_empty(self) -> dict[int, int | None]:
        users: list[list[int]] = [[] for _ in self.nodes]
        for spot, inside in enumerate(self.inside):
            for one in inside:
                users[one].append(spot)
        found: dict[int, int | None] = {}
        todo = list(range(len(self.nodes)))
        while todo:
            spot = todo.pop()
            if spot not in found and self._may_be_nothing(spot, found):
                inside = self.inside[spot]
                is_choice = isinstance(self.nodes[spot], Choice)
                found[spot] = next(one for one in inside if one in found) if is_choice else None
                todo.extend(users[spot])
        return found

    def _may_be_nothing(self, spot: int, known: Mapping[int, int | None]) -> bool:
        node, inside = self.nodes[spot], self.inside[spot]
        if isinstance(node, Choice):
            return any(one in known for one in inside)
        if isinstance(node, Repeat):
            return node.low == 0 or inside[0] in known
        if isinstance(node, Part):
            return self.part(spot).is_complete
        return (node is None or isinstance(node, Sequence)) and all(one in known for one in inside)

    # Characters, byte by byte.

    def step(self, spot: int, so_far: int, byte: int) -> int:
        """What a byte makes of a character of a class.

        Args:
            so_far: its bytes before, as one number; 0 at its beginning.

        Returns:
            Its bytes so far, or WHOLE or FORBIDDEN.
        """
        key = spot, so_far, byte
        if key not in self._steps:
            node = self.nodes[spot]
            assert isinstance(node, Chars)
            self._steps[key] = _step(node.ranges, so_far, byte)
        return self._steps[key]


_LEADS = (  # first and last byte that begins a character, its bytes, its first and last code point
    (0x00, 0x7F, 1, 0x0, 0x7F),
    (0xC2, 0xDF, 2, 0x80, 0x7FF),
    (0xE0, 0xEF, 3, 0x800, 0xFFFF),
    (0xF0, 0xF4, 4, 0x10000, charset.LAST),
)


def _step(ranges: Ranges, so_far: int, byte: int) -> int:
    data = so_far << 8 | byte
    known = data.to_bytes((data.bit_length() + 7) // 8 or 1, "big")
    for first, last, size, low, high in _LEADS:
        if first <= known[0] <= last and len(known) <= size:
            if any(not 0x80 <= one < 0xC0 for one in known[1:]):
                return FORBIDDEN
            code = known[0] & (0x7F if size == 1 else 0x7F >> size)
            for one in known[1:]:
                code = code << 6 | one & 0x3F
            bits = 6 * (size - len(known))
            span = max(low, code << bits), min(high, (code + 1 << bits) - 1)
            if span[0] > span[1] or not charset.meet(ranges, (span,)):
                return FORBIDDEN
            return WHOLE if bits == 0 else data
    return FORBIDDEN

"""Which characters may come after each lexeme of a grammar that was cut."""

from __future__ import annotations

from collections.abc import Mapping

from mullama_lab.engine.grammar.charset import EMPTY, EVERY, Ranges, either
from mullama_lab.engine.grammar.nodes import (
    Choice,
    Lexeme,
    Node,
    Part,
    Ref,
    Repeat,
    Sequence,
    Token,
    refs,
)


def characters_after(cut: Mapping[str, Node], first: Mapping[Node, Ranges]) -> dict[Node, Ranges]:
    """The characters that may come right after each lexeme, whatever stands before it.

    Args:
        first: those with which each lexeme may begin.
    """
    return _Follow(cut, first).after


class _Follow:
    """Sets of characters that grow until they are what they are, as in any book on compilers."""

    def __init__(self, cut: Mapping[str, Node], first: Mapping[Node, Ranges]) -> None:
        self.cut, self.first_of = cut, first
        self.users: dict[str, set[str]] = {name: set() for name in cut}
        for name, body in cut.items():
            for used in refs(body):
                self.users[used].add(name)
        self.begins: dict[str, Ranges] = dict.fromkeys(cut, EMPTY)
        self.empty: dict[str, bool] = dict.fromkeys(cut, False)
        self._find_beginnings()
        self.after: dict[Node, Ranges] = dict.fromkeys(first, EMPTY)
        self.after_rule: dict[str, Ranges] = dict.fromkeys(cut, EMPTY)
        self._find_what_follows()

    def _find_beginnings(self) -> None:
        todo = dict.fromkeys(reversed(list(self.cut)))
        while todo:
            name, _ = todo.popitem()
            known = self.begins[name], self.empty[name]
            self.begins[name], self.empty[name] = self.beginning(self.cut[name])
            if (self.begins[name], self.empty[name]) != known:
                todo.update(dict.fromkeys(self.users[name]))

    def beginning(self, node: Node) -> tuple[Ranges, bool]:
        """The characters with which a node may begin, and whether it may be nothing."""
        if isinstance(node, Lexeme):
            return self.first_of[node.node], False
        if isinstance(node, Ref):
            return self.begins[node.name], self.empty[node.name]
        if isinstance(node, Part):
            return EVERY, True  # whatever it is
        if isinstance(node, Token):
            return EMPTY, False
        if isinstance(node, Repeat):
            begins, empty = self.beginning(node.item)
            return begins, empty or node.low == 0
        if isinstance(node, Choice):
            found = [self.beginning(item) for item in node.items]
            begins = EMPTY
            for more, _ in found:
                begins = either(begins, more)
            return begins, any(empty for _, empty in found)
        assert isinstance(node, Sequence)
        begins = EMPTY
        for item in node.items:
            more, empty = self.beginning(item)
            begins = either(begins, more)
            if not empty:
                return begins, False
        return begins, True

    def _find_what_follows(self) -> None:
        todo = dict.fromkeys(reversed(list(self.cut)))
        while todo:
            name, _ = todo.popitem()
            grown: dict[str, None] = {}
            self.note(self.cut[name], self.after_rule[name], grown)
            todo.update(grown)

    def note(self, node: Node, follows: Ranges, grown: dict[str, None]) -> None:
        """Take note that these characters may come after a node."""
        if isinstance(node, Lexeme):
            self.after[node.node] = either(self.after[node.node], follows)
        elif isinstance(node, Ref):
            more = either(self.after_rule[node.name], follows)
            if more != self.after_rule[node.name]:
                self.after_rule[node.name] = more
                grown[node.name] = None
        elif isinstance(node, Choice):
            for item in node.items:
                self.note(item, follows, grown)
        elif isinstance(node, Repeat):
            if node.high != 1:
                follows = either(self.beginning(node.item)[0], follows)
            self.note(node.item, follows, grown)
        elif isinstance(node, Sequence):
            for item in reversed(node.items):
                self.note(item, follows, grown)
                begins, empty = self.beginning(item)
                follows = either(begins, follows) if empty else begins

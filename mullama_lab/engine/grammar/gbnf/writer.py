"""Write a grammar's rules as GBNF that llama.cpp reads, and `gbnf_reader.py` too."""

from __future__ import annotations

from collections.abc import Container, Mapping

from mullama_lab.engine.grammar import charset
from mullama_lab.engine.grammar.charset import Ranges
from mullama_lab.engine.grammar.gbnf.reader import MOST_SIGNS
from mullama_lab.engine.grammar.nodes import (
    NOTHING,
    Chars,
    Choice,
    Lexeme,
    Literal,
    Node,
    Part,
    Ref,
    Repeat,
    Sequence,
    Token,
)

_SIGNS = {(0, None): "*", (1, None): "+", (0, 1): "?"}
_ESCAPES = {"\t": "\\t", "\r": "\\r", "\n": "\\n", "\\": "\\\\"}


def write_gbnf(rules: Mapping[str, Node], *, negations: bool = True) -> str:
    """The text of rules, one a line, none of them a Part.

    Args:
        negations: whether a class may be written as `[^...]` or `.`. Of `[^é]` llama.cpp refuses
            the first byte of "è", since "é" has it too; and `.` takes halves of characters.
    """
    writer = _Writer(negations, {name for name, node in rules.items() if _is_plainly_empty(node)})
    return "".join(f"{name} ::= {writer.alternatives(node)}\n" for name, node in rules.items())


def right_side(node: Node) -> str:
    """What stands right of `::=`."""
    return _Writer(True, ()).alternatives(node)


def _is_plainly_empty(node: Node) -> bool:
    """Whether one of the alternatives is nothing, as it stands there."""
    return NOTHING in (node.items if isinstance(node, Choice) else (node,))


class _Writer:
    def __init__(self, negations: bool, empty: Container[str]) -> None:
        self.negations, self.empty = negations, empty

    def alternatives(self, node: Node) -> str:
        """A node where any may stand: at the right of `::=` or in parentheses."""
        if isinstance(node, Choice):
            return " | ".join(map(self.items, node.items))
        return self.items(node)

    def items(self, node: Node) -> str:
        """A node where items may stand one after the other."""
        if isinstance(node, Sequence):
            return " ".join(map(self.item, node.items)) or '""'
        return self.item(node)

    def item(self, node: Node) -> str:
        """A node that a sign behind it would repeat as a whole."""
        if isinstance(node, Literal):
            return '"' + "".join(_escaped(c, '"') for c in node.text) + '"'
        if isinstance(node, Chars):
            return self.char_class(node.ranges)
        if isinstance(node, Ref):
            return node.name
        if isinstance(node, Token):
            name = node.name if isinstance(node.name, str) else f"<[{node.name}]>"
            return f"!{name}" if node.negated else name
        if isinstance(node, Repeat):
            item, times = self.item(node.item), _times(node.low, node.high)
            n_signs = _n_signs(node.item)
            is_full = bool(times and n_signs) and n_signs % MOST_SIGNS == 0
            if is_full or (node.high is None and self.is_refused(node.item)):
                item = f"({item})"
            return item + times
        assert not isinstance(node, (Part, Lexeme))
        return f"({self.alternatives(node)})"

    def is_refused(self, node: Node) -> bool:
        """Whether llama.cpp would take an endless repetition of it for left recursion."""
        if isinstance(node, Ref):
            return node.name in self.empty
        return isinstance(node, Repeat) or _is_plainly_empty(node)

    def char_class(self, ranges: Ranges) -> str:
        if self.negations and ranges == charset.EVERY:
            return "."
        others = charset.all_but(ranges)
        is_shorter = len(others) <= len(ranges) and charset.holds(ranges, charset.LAST)
        if self.negations and is_shorter:
            return f"[^{_members(others)}]"
        return f"[{_members(ranges)}]"


def _n_signs(node: Node) -> int:
    """How many repetitions a node is, one right inside the other."""
    n = 0
    while isinstance(node, Repeat):
        n += bool(_times(node.low, node.high))
        node = node.item
    return n


def _times(low: int, high: int | None) -> str:
    if (low, high) == (1, 1):
        return ""
    if sign := _SIGNS.get((low, high)):
        return sign
    return f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}"


def _members(ranges: Ranges) -> str:
    return "".join(
        _in_class(first) + (f"-{_in_class(last)}" if last > first else "") for first, last in ranges
    )


def _in_class(code: int) -> str:
    return f"\\x{code:02X}" if chr(code) == "^" else _escaped(chr(code), "[]-")


def _escaped(character: str, special: str) -> str:
    """One character as GBNF spells it, in a text or a class; what cannot be seen by its number."""
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character in special:
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"

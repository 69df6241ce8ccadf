"""What a lexer knows of one lexeme: which characters may come in it, one after the other.

A lexeme is a node without recursion, tokens and parts. Its automaton is made by Glushkov's way
and determined on the fly. Where an item is repeated many times, the count is let go: the automaton
then reads more than the lexeme does, never less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mullama_lab.engine.grammar import charset
from mullama_lab.engine.grammar.charset import Ranges
from mullama_lab.engine.grammar.nodes import Chars, Choice, Literal, Node, Ref, Repeat, Sequence

MOST_WORK = 30_000  # places looked at for all states of an automaton
MOST_JOINED = 30_000_000  # pairs of places, one after the other: many, where much may be empty
MOST_PAIRS = 10_000  # of states of two automata
COUNTED = 64  # places up to which copies are told apart


class TooLarge(Exception):
    """A lexeme has more states than are worth their while."""


class Move(NamedTuple):
    """A range of characters, and the state to which each of them leads."""

    first: int
    last: int
    to: int


@dataclass
class Automaton:
    """The states of a lexeme; 0 is before its first character.

    Attributes:
        moves: out of each state, in order of the characters.
        ends: whether the lexeme may end in each state.
    """

    moves: list[list[Move]]
    ends: list[bool]


class _Ends(NamedTuple):
    """Where a part of a lexeme begins and ends, in places; and whether it may be empty."""

    empty: bool
    first: frozenset[int]
    last: frozenset[int]


NO_PLACE: frozenset[int] = frozenset()
EMPTY = _Ends(True, NO_PLACE, NO_PLACE)


@dataclass
class _Places:
    """The characters of a lexeme, each a place, and which may come after which."""

    rules: Mapping[str, Node]
    chars: list[Ranges] = field(default_factory=list)
    following: list[set[int]] = field(default_factory=list)
    n_joined: int = 0

    def of(self, node: Node) -> _Ends:
        if isinstance(node, Chars):
            return self._place(node.ranges)
        if isinstance(node, Literal):
            return self._in_a_row(self._place(((ord(c), ord(c)),)) for c in node.text)
        if isinstance(node, Ref):
            return self.of(self.rules[node.name])
        if isinstance(node, Sequence):
            return self._in_a_row(map(self.of, node.items))
        if isinstance(node, Choice):
            return _one_of([self.of(item) for item in node.items])
        assert isinstance(node, Repeat)
        return self._repeated(node)

    def _place(self, ranges: Ranges) -> _Ends:
        self.chars.append(ranges)
        self.following.append(set())
        here = frozenset([len(self.chars) - 1])
        return _Ends(False, here, here)

    def _in_a_row(self, items: Iterator[_Ends]) -> _Ends:
        whole = EMPTY
        for item in items:
            self._join(whole.last, item.first)
            whole = _Ends(
                whole.empty and item.empty,
                whole.first | item.first if whole.empty else whole.first,
                whole.last | item.last if item.empty else item.last,
            )
        return whole

    def _repeated(self, node: Repeat) -> _Ends:
        low, high = node.low, node.high
        before = len(self.chars)
        item = self.of(node.item)
        size = len(self.chars) - before
        if high is not None and size * high <= COUNTED:
            copies = [item, *(self.of(node.item) for _ in range(high - 1))]
            needed = (
                copy if number < low else copy._replace(empty=True)
                for number, copy in enumerate(copies[:high])
            )
            return self._in_a_row(needed)
        if high != 1:
            self._join(item.last, item.first)
        return item._replace(empty=item.empty or low == 0)

    def _join(self, before: frozenset[int], after: frozenset[int]) -> None:
        self.n_joined += len(before) * len(after)
        if self.n_joined > MOST_JOINED:
            raise TooLarge
        for place in before:
            self.following[place].update(after)


def _one_of(items: list[_Ends]) -> _Ends:
    return _Ends(
        any(item.empty for item in items),
        NO_PLACE.union(*(item.first for item in items)),
        NO_PLACE.union(*(item.last for item in items)),
    )


def beginning(node: Node, rules: Mapping[str, Node]) -> Ranges:
    """The characters with which a lexeme may begin."""
    return _Beginnings(rules).of(node)[0]


@dataclass
class _Beginnings:
    """The characters with which each part of a lexeme may begin, and whether it may be empty."""

    rules: Mapping[str, Node]
    known: dict[str, tuple[Ranges, bool]] = field(default_factory=dict)

    def of(self, node: Node) -> tuple[Ranges, bool]:
        if isinstance(node, Chars):
            return node.ranges, False
        if isinstance(node, Literal):
            first = ord(node.text[0]) if node.text else None
            return (((first, first),), False) if first is not None else ((), True)
        if isinstance(node, Ref):
            if node.name not in self.known:
                self.known[node.name] = self.of(self.rules[node.name])
            return self.known[node.name]
        if isinstance(node, Repeat):
            first, empty = self.of(node.item)
            return (first, empty or node.low == 0) if node.high != 0 else ((), True)
        assert isinstance(node, (Sequence, Choice))
        found: list[tuple[Ranges, bool]] = []
        for item in node.items:
            found.append(self.of(item))
            if isinstance(node, Sequence) and not found[-1][1]:
                break
        together = all if isinstance(node, Sequence) else any
        ranges = charset.of_ranges(one for first, _ in found for one in first)
        return ranges, together(empty for _, empty in found)


def automaton(node: Node, rules: Mapping[str, Node]) -> Automaton:
    """The automaton of a lexeme; `TooLarge` if it has too many states."""
    places = _Places(rules)
    ends = places.of(node)
    numbers: dict[frozenset[int], int] = {NO_PLACE: 0}  # before the first character
    todo = [NO_PLACE]
    found = Automaton([], [ends.empty])
    work = 0
    while len(found.moves) < len(todo):
        state = todo[len(found.moves)]
        nexts = NO_PLACE.union(*(places.following[place] for place in state)) if state else None
        nexts = ends.first if nexts is None else nexts
        work += 1 + len(state) + sum(len(places.chars[place]) for place in nexts)
        if work > MOST_WORK:
            raise TooLarge
        moves = []
        for first, last, to in _split({place: places.chars[place] for place in nexts}):
            if to not in numbers:
                numbers[to] = len(todo)
                todo.append(to)
                found.ends.append(not to.isdisjoint(ends.last))
            moves.append(Move(first, last, numbers[to]))
        found.moves.append(moves)
    return found


def _split(chars: Mapping[int, Ranges]) -> Iterator[tuple[int, int, frozenset[int]]]:
    """Ranges in which the same places are met by each character, with those places."""
    starts: dict[int, list[int]] = {}
    stops: dict[int, list[int]] = {}
    for place, ranges in chars.items():
        for first, last in ranges:
            starts.setdefault(first, []).append(place)
            stops.setdefault(last + 1, []).append(place)
    here: set[int] = set()
    begun = 0
    for border in sorted(starts.keys() | stops.keys()):
        if here:
            yield begun, border - 1, frozenset(here)
        here.difference_update(stops.get(border, ()))
        here.update(starts.get(border, ()))
        begun = border


def read_on(a: Automaton, b: Automaton, after_a: Ranges) -> bool:
    """Whether a lexer that reads `b` as far as it goes may miss that `a` has ended.

    That is so where a text of `a` is the beginning of one of `b`, and goes on there with a
    character whose first byte may also come after `a`, for a lexer reads bytes. True as well if
    there are too many ways to look at.
    """
    after_a = charset.alike_at_first(after_a)
    seen = {(0, 0)}
    todo = [(0, 0)]
    while todo:
        in_a, in_b = todo.pop()
        if len(seen) > MOST_PAIRS:
            return True
        if a.ends[in_a] and any(
            charset.meet(((move.first, move.last),), after_a) for move in b.moves[in_b]
        ):
            return True
        moves_a, moves_b = a.moves[in_a], b.moves[in_b]
        i = j = 0
        while i < len(moves_a) and j < len(moves_b):
            x, y = moves_a[i], moves_b[j]
            if max(x.first, y.first) <= min(x.last, y.last) and (x.to, y.to) not in seen:
                seen.add((x.to, y.to))
                todo.append((x.to, y.to))
            if x.last < y.last:
                i += 1
            else:
                j += 1
    return False

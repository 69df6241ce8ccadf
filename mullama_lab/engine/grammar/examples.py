"""Texts drawn from a grammar, short ones rather than long ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from mullama_lab.engine.grammar import charset
from mullama_lab.engine.grammar.charset import Ranges
from mullama_lab.engine.grammar.matching.byte_matcher import ByteMatcher, byte_matcher
from mullama_lab.engine.grammar.nodes import (
    Chars,
    Choice,
    Literal,
    Node,
    Part,
    Repeat,
    Token,
)
from mullama_lab.engine.grammar.sizes import Sizes
from mullama_lab.engine.grammar.spots import Spots
from mullama_lab.engine.grammar.walk.reading import ROOT
from mullama_lab.errors import GrammarError

USUAL = 30  # characters by which a text is longer than the shortest one, on average
LONGEST = 100_000  # characters of the shortest text
MOST_EXPANDED = 20_000  # spots written at random before only the shortest texts are
MOST_TRIES = 10  # for each text
LONGEST_WALK = 5000  # bytes of a text that a part is in
PLAIN: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A))
SEEN: Ranges = ((0x21, 0x7E),)
CLOSING = b"\"}])>'"


def drawn(rules: Mapping[str, Node], seed: int) -> Iterator[str]:
    """Texts of a grammar without end, some of them alike.

    Raises:
        GrammarError: it has no text that ends, or none that is short enough; it names a token by
            its id, or any other one; or none was found of its parts.
    """
    chance, spots = random.Random(seed), Spots(rules)
    has_parts = any(isinstance(node, Part) for node in spots.nodes)
    return _walked(byte_matcher(rules), chance) if has_parts else _written(spots, chance)


def _written(spots: Spots, chance: random.Random) -> Iterator[str]:
    sizes = Sizes(spots)
    if ROOT not in sizes.shortest:
        raise GrammarError("the grammar has no text that ends. Its warnings say by which rules.")
    if sizes.shortest[ROOT] > LONGEST:
        raise GrammarError(f"the shortest text of the grammar has over {LONGEST} characters.")
    while True:
        yield _Writer(spots, sizes, chance).text()


class _Writer:
    """Writes one text from the left, in no more characters than it was given.

    Attributes:
        slack: characters that are left beyond the shortest text of what is still to be written.
    """

    def __init__(self, spots: Spots, sizes: Sizes, chance: random.Random) -> None:
        self.spots, self.sizes, self.chance = spots, sizes, chance
        self.slack = int(chance.expovariate(1 / USUAL))

    def text(self) -> str:
        todo, pieces, n = [ROOT], [], 0
        while todo:
            spot = todo.pop()
            n += 1
            node = self.spots.nodes[spot]
            if n > MOST_EXPANDED and not self.sizes.shortest[spot]:
                continue
            if isinstance(node, (Literal, Chars, Token)):
                pieces.append(self.piece(node))
            elif isinstance(node, Choice):
                todo.append(self.sizes.by[spot] if n > MOST_EXPANDED else self.chosen(spot))
            elif isinstance(node, Repeat):
                more = 0 if n > MOST_EXPANDED else self.more(spot, node)
                todo.extend(self.spots.inside[spot] * (node.low + more))
            else:
                todo.extend(reversed(self.spots.inside[spot]))
        return "".join(pieces)

    def chosen(self, spot: int) -> int:
        """One of the alternatives for which there is room."""
        shortest = self.sizes.shortest
        room = shortest[spot] + self.slack
        inside = self.spots.inside[spot]
        one = self.chance.choice([x for x in inside if shortest.get(x, room + 1) <= room])
        self.slack -= shortest[one] - shortest[spot]
        return one

    def more(self, spot: int, node: Repeat) -> int:
        """How many times more than it must be there is something to be repeated."""
        size = self.sizes.shortest.get(self.spots.inside[spot][0])
        most = (LONGEST if node.high is None else node.high) - node.low
        n = 0
        while size is not None and n < most and size <= self.slack and self.chance.random() < 0.6:
            n += 1
            self.slack -= size
        return n

    def piece(self, node: Literal | Chars | Token) -> str:
        if isinstance(node, Literal):
            return node.text
        if isinstance(node, Chars):
            return self.character(node.ranges)
        if node.negated or not isinstance(node.name, str):
            raise GrammarError("the grammar names tokens that have no text without a model.")
        return node.name

    def character(self, ranges: Ranges) -> str:
        plain, seen = charset.both(ranges, PLAIN), charset.both(ranges, SEEN)
        usual = self.chance.random()
        ranges = plain if plain and usual < 0.8 else seen if seen and usual < 0.95 else ranges
        first, last = self.chance.choice(ranges)
        return chr(self.chance.randint(first, min(last, first + 500)))


# Where a part is in it, llguidance says which byte may come.


def _walked(first: ByteMatcher, chance: random.Random) -> Iterator[str]:
    there = first
    while True:
        for _ in range(MOST_TRIES):
            text = _walk(there := first.copy(), chance)
            if text is not None:
                break
        else:
            why = f", as {there.error}" if there.error else ""
            raise GrammarError(f"no text was found that ends within {LONGEST_WALK} bytes{why}.")
        yield text


def _walk(there: ByteMatcher, chance: random.Random) -> str | None:
    data, usual = bytearray(), int(chance.expovariate(1 / USUAL))
    while len(data) < LONGEST_WALK:
        allowed = there.allowed().tolist()
        is_long = len(data) >= usual
        if there.is_complete and (is_long or not allowed or chance.random() < 0.2):
            return data.decode()
        if not allowed:
            return None
        byte = _byte(allowed, is_long, chance)
        data.append(byte)
        there.take(bytes([byte]))
    return None


def _byte(allowed: list[int], is_long: bool, chance: random.Random) -> int:
    closing = [byte for byte in allowed if byte in CLOSING]
    if closing and chance.random() < (0.9 if is_long else 0.3):
        return chance.choice(closing)
    plain = [byte for byte in allowed if charset.holds(PLAIN, byte)]
    if plain and chance.random() < 0.8:
        return chance.choice(plain)
    seen = [byte for byte in allowed if charset.holds(SEEN, byte) and byte != ord("\\")]
    return chance.choice(seen if seen and chance.random() < 0.9 else allowed)

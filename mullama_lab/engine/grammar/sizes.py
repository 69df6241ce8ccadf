"""The shortest text of each spot of a grammar, in characters."""

from __future__ import annotations

import heapq

from mullama_lab.engine.grammar.nodes import Chars, Choice, Literal, Part, Repeat, Token
from mullama_lab.engine.grammar.spots import Spots

MOST = 10**9  # longer ones count as so long


class Sizes:
    """How long the shortest text of each spot is, as far as it has one that ends.

    Found from the shortest up (Knuth 1977, "A generalization of Dijkstra's algorithm").

    Attributes:
        shortest: by spot; a spot that is not in it has no text that ends.
        by: the alternative of each choice that its shortest text is of.
    """

    def __init__(self, spots: Spots) -> None:
        self._spots = spots
        self.shortest: dict[int, int] = {}
        self.by: dict[int, int] = {}
        users: list[list[int]] = [[] for _ in spots.nodes]
        self._missing = [len(inside) for inside in spots.inside]
        for spot, inside in enumerate(spots.inside):
            for one in inside:
                users[one].append(spot)
        self._heap: list[tuple[int, int]] = []
        for spot in range(len(spots.nodes)):
            self._try(spot)
        while self._heap:
            size, spot = heapq.heappop(self._heap)
            if spot in self.shortest:
                continue
            self.shortest[spot] = size
            for user in users[spot]:
                self._missing[user] -= 1
                if isinstance(spots.nodes[user], Choice) and user not in self.by:
                    self.by[user] = spot
                self._try(user)

    def _try(self, spot: int) -> None:
        """Note how short a spot is, if what is in it tells."""
        node, inside = self._spots.nodes[spot], self._spots.inside[spot]
        if spot in self.shortest:
            return
        if isinstance(node, Literal):
            size = len(node.text)
        elif isinstance(node, Token):
            size = len(node.name) if isinstance(node.name, str) else 1
        elif isinstance(node, Part):
            size = 0 if self._spots.part(spot).is_complete else 1
        elif isinstance(node, Chars):
            size = 1
        elif isinstance(node, Repeat) and node.low == 0:
            size = 0
        elif isinstance(node, Choice) and spot in self.by:
            size = self.shortest[self.by[spot]]
        elif self._missing[spot] or isinstance(node, Choice):
            return
        else:
            size = sum(self.shortest[one] for one in inside)
            size *= node.low if isinstance(node, Repeat) else 1
        heapq.heappush(self._heap, (min(size, MOST), spot))

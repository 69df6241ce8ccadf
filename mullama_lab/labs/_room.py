"""How many tokens some paths take together, what they begin with alike counted once."""

from __future__ import annotations

from collections.abc import Iterable

from mullama_lab.engine.tree_nodes import Branch


class Room:
    """The tokens of some branches of one prompt; branches can be taken out one by one.

    Attributes:
        n: how many there are, the prompt's included.
    """

    def __init__(self, branches: Iterable[Branch]) -> None:
        self.n = 0
        self._ids: dict[tuple[int, int], int] = {}  # (place before, token) -> place
        self._uses: list[int] = [0]  # branches through each place
        self._paths: dict[int, list[int]] = {}
        for branch in branches:
            self._add(branch)

    def remove(self, branch: Branch) -> None:
        """Take a branch out."""
        for place in self._paths.pop(branch.number):
            self._uses[place] -= 1
            self.n -= self._uses[place] == 0

    def _add(self, branch: Branch) -> None:
        path, place = [], 0
        for token in branch.trace.history(len(branch)).tolist():
            place = self._ids.setdefault((place, token), len(self._uses))
            if place == len(self._uses):
                self._uses.append(0)
            self.n += self._uses[place] == 0
            self._uses[place] += 1
            path.append(place)
        self._paths[branch.number] = path

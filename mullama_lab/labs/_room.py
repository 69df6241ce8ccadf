"""How many tokens the branches of a tree take in the context; a shared beginning counts once.

And which branches to prune, so that the others fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.nodes import Branch


class Room:
    """The tokens of some branches of one prompt, as a prefix tree; branches can be taken out.

    Attributes:
        n: how many they are, those of the prompt included and shared ones counted once.
    """

    def __init__(self, branches: Iterable[Branch]) -> None:
        self.n = 0
        self._nodes: dict[tuple[int, int], int] = {}  # (node before, token) -> node
        self._uses: list[int] = [0]  # branches through each node
        self._paths: dict[int, list[int]] = {}
        for branch in branches:
            self._add(branch)

    def remove(self, branch: Branch) -> None:
        """Take a branch out."""
        for node in self._paths.pop(branch.number):
            self._uses[node] -= 1
            self.n -= self._uses[node] == 0

    def _add(self, branch: Branch) -> None:
        path, node = [], 0
        for token in branch.trace.history(len(branch)).tolist():
            node = self._nodes.setdefault((node, token), len(self._uses))
            if node == len(self._uses):
                self._uses.append(0)
            self.n += self._uses[node] == 0
            self._uses[node] += 1
            path.append(node)
        self._paths[branch.number] = path


def to_prune(tree: Tree, n_tokens: int, kept: Sequence[int]) -> list[int]:
    """The branches to prune until a tree fits so many tokens, the least likely per token first.

    Args:
        kept: numbers of branches that stay, as do those with a name.

    Raises:
        ValueError: it does not fit, and all of them stay.
    """
    spare = [branch for branch in tree if not branch.name and branch.number not in kept]
    spare.sort(key=lambda branch: branch.logprob / max(1, len(branch)))
    room, gone = Room(tree), list[int]()
    for branch in spare:
        if room.n <= n_tokens:
            break
        room.remove(branch)
        gone.append(branch.number)
    if not gone and room.n > n_tokens:
        raise ValueError("every branch has a name or is selected. Prune some of them yourself.")
    return gone

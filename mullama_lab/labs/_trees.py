"""The trees of a lab, one for each prompt. One of them is shown.

It knows no session and no view; any thread may ask it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.nodes import Node

MOST_AFTER = 12  # tokens that say how a path ends


class Trees:
    """Trees by the tokens of their prompt.

    Args:
        shown: gives the tree on screen; one that is still empty becomes that of the next prompt.
    """

    def __init__(self, shown: Callable[[], Tree]) -> None:
        self._shown = shown
        self._trees: dict[tuple[int, ...], Tree] = {}
        self._lock = threading.Lock()

    @property
    def all(self) -> list[Tree]:
        """Those that have paths."""
        with self._lock:
            return [tree for tree in self._trees.values() if len(tree)]

    def keep(self, tree: Tree) -> None:
        """Take a tree that has paths already."""
        with self._lock:
            self._trees[tuple(tree.prompt_tokens.tolist())] = tree

    def of(self, trace: Trace) -> Tree:
        """The tree of a trace's prompt; for a new prompt the empty one on screen, or a new one."""
        key = tuple(trace.prompt_tokens.tolist())
        with self._lock:
            if key not in self._trees:
                shown = self._shown()
                is_anothers = any(tree is shown for tree in self._trees.values())
                is_fresh = not len(shown.prompt_tokens) and not is_anothers
                self._trees[key] = shown if is_fresh else Tree()
            return self._trees[key]

    def known(self, prompt_tokens: Sequence[int]) -> Tree | None:
        """The tree of a prompt, if there is one."""
        with self._lock:
            return self._trees.get(tuple(prompt_tokens))


def ending_of(node: Node) -> str:
    """The last tokens of the path to a node, as text; "" at the root of an empty tree."""
    if node.trace is None:
        return ""
    pieces = node.trace.pieces[: node.stop]
    cut = "…" if len(pieces) > MOST_AFTER else ""
    return cut + b"".join(pieces[-MOST_AFTER:]).decode("utf-8", "replace")

"""What a tree was, is, and may be again: undo and redo.

A tree between two changes is a value that never alters, so going back is taking an older one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mullama_lab.engine.tree.nodes import Branch, Node, nodes_of

MOST_UNDO = 100


@dataclass(frozen=True, eq=False)
class State:
    """The branches between two changes, oldest first; `change` says which one led here."""

    branches: tuple[Branch, ...] = ()
    count: int = 0  # numbers given so far: none is given twice
    change: str = ""

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, in reading order."""
        return nodes_of(self.branches)

    @cached_property
    def by_key(self) -> dict[str, Node]:
        """Every node by its key."""
        return {node.key: node for node in self.nodes}


class Changes:
    """The state a tree is in, those before it, and those that were taken back.

    `now` may be read by any thread; only one at a time may change it.
    """

    def __init__(self, now: State | None = None) -> None:
        self.now = now or State()
        self._past: list[State] = []
        self._future: list[State] = []

    def become(self, state: State) -> None:
        """Go on to another state; what was taken back is forgotten."""
        self._past = [*self._past, self.now][-MOST_UNDO:]
        self._future = []
        self.now = state

    def undo(self) -> str:
        """Take the last change back; says which one. ValueError if there is none."""
        change = self.to_undo
        self._step(self._past, self._future, "undo")
        return change

    def redo(self) -> str:
        """Make the change again that was taken back last; says which one."""
        change = self.to_redo
        self._step(self._future, self._past, "redo")
        return change

    @property
    def to_undo(self) -> str:
        """The change that `undo` would take back, "" if there is none."""
        return self.now.change if self._past else ""

    @property
    def to_redo(self) -> str:
        """The change that `redo` would make again, "" if there is none."""
        return self._future[-1].change if self._future else ""

    def any_branch(self) -> Branch | None:
        """One of now, or of a state that can come back."""
        states = (self.now, *reversed(self._past), *self._future)
        return next((state.branches[0] for state in states if state.branches), None)

    def _step(self, source: list[State], other: list[State], verb: str) -> None:
        if not source:
            raise ValueError(f"there is nothing to {verb}.")
        other.append(self.now)
        self.now = source.pop()

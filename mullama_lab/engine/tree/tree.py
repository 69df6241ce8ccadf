"""Tree: branches from one prompt, as a record whose every change can be undone.

A Tree holds whole Traces that share a prompt, and no structure: its nodes follow from where the
paths of tokens part. It decodes nothing, owns no native memory and outlives every session.
Any thread may change it; who watches it is told on the thread that did.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.options import listed, whole
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import n_shared
from mullama_lab.engine.tree import file as tree_file
from mullama_lab.engine.tree import text as tree_text
from mullama_lab.engine.tree.changes import Changes, State
from mullama_lab.engine.tree.nodes import Branch, Node, checked_name, path_of, shortened
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    import pandas


class Tree:
    """Branches from one prompt: Traces that share their first tokens, each of which is there once.

        tree = Tree([first])
        tree.add(session.branch(first, step=3, token=42, max_tokens=20), name="other city")
        tree.branch(2).logprob, tree.node("2.3").text, tree.mass
        tree.prune(2); tree.undo()

    `len(tree)` is how many branches there are, and iterating gives them, oldest first.

    Args:
        traces: finished Traces that begin with the same prompt.
    Raises:
        ValueError: a prompt differs from the first one, or a trace is still running.
    """

    def __init__(self, traces: Iterable[Trace] = ()) -> None:
        self._lock = threading.RLock()
        self._watchers: list[Callable[[], None]] = []
        self._prompt: NDArray[np.int32] | None = None
        self._changes = Changes()
        self.add_many(traces)
        self._changes = Changes(self._now)  # what it begins with is not undone

    # What there is.

    @property
    def _now(self) -> State:
        return self._changes.now

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Oldest first."""
        return self._now.branches

    @property
    def nodes(self) -> tuple[Node, ...]:
        """In reading order: what turns off a path stands before what goes on with it."""
        return self._now.nodes

    @property
    def root(self) -> Node:
        """The prompt."""
        return self.nodes[0]

    @property
    def leaves(self) -> tuple[Node, ...]:
        """The nodes after which nothing comes."""
        return tuple(node for node in self.nodes if node.ends and not node.children)

    @property
    def mass(self) -> float:
        """The probability of all leaves together, before the chain: from 0 to 1."""
        return float(sum(np.exp(leaf.logprob) for leaf in self.leaves))

    @property
    def prompt_tokens(self) -> NDArray[np.int32]:
        """The prompt's token ids; none before the first branch."""
        return np.zeros(0, np.int32) if self._prompt is None else self._prompt

    @property
    def prompt(self) -> str:
        """The prompt as text, control tokens written out; "" before the first branch."""
        branch = self._changes.any_branch()
        if branch is None:
            return ""
        pieces = [branch.trace.piece(token) for token in self.prompt_tokens]
        return b"".join(pieces).decode("utf-8", "replace")

    def branch(self, number: int) -> Branch:
        """The branch with a number; ValueError if there is none."""
        number = whole("number", number, 1, 2**31)
        for branch in self.branches:
            if branch.number == number:
                return branch
        raise ValueError(f"there is no branch {brief(number)}. There are {self._numbers()}.")

    def node(self, key: str) -> Node:
        """The node with a key such as "2.14" or "root"; ValueError if there is none."""
        node = self._now.by_key.get(key) if isinstance(key, str) else None
        if node is None:
            known = list(self._now.by_key)
            some = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            raise ValueError(f"there is no node {shortened(key)}. There are {some}.")
        return node

    def find(self, trace: Trace) -> Branch | None:
        """The branch whose path is that of a trace, if there is one."""
        if not isinstance(trace, Trace):
            raise TypeError(f"trace={brief(trace)}: it must be a Trace.")
        if self._prompt is None or not np.array_equal(self._prompt, trace.prompt_tokens):
            return None
        path = path_of(trace)
        return next((branch for branch in self.branches if branch.path == path), None)

    def path(self, key: str) -> Trace:
        """The steps from the prompt to the end of a node."""
        node = self.node(key)
        trace = node.trace
        if trace is None:
            raise ValueError("the tree is empty: add a trace first.")
        return trace if node.stop == len(trace) else trace[: node.stop]

    # Changing it.

    def add(self, trace: Trace, name: str = "") -> Branch:
        """Add a path; one that is there already is given back as it is, with its own name.

        Raises:
            ValueError: another prompt, a trace that still runs, or a name that cannot be one.
        """
        name = checked_name(name)
        with self._lock:
            self._check_trace(trace)
            known = self.find(trace)
            if known is not None:
                return known
            new = Branch(self._now.count + 1, trace, name)
            self._grow([new], f"{new.label} added")
        self._tell()
        return new

    def add_many(self, traces: Iterable[Trace], said: str = "") -> list[Branch]:
        """Add paths as one change; the new ones, without those that were there already.

        Args:
            said: what `undo` calls the change; "" counts them.

        Raises:
            ValueError: as `add`, and then none is added.
        """
        traces = listed("traces", traces, "Traces")
        with self._lock:
            for trace in traces:
                self._check_trace(trace, traces[0])
            now, new = self._now, list[Branch]()
            paths = {branch.path for branch in now.branches}
            for trace in traces:
                path = path_of(trace)
                if path not in paths:
                    paths.add(path)
                    new.append(Branch(now.count + len(new) + 1, trace))
            if new:
                said = said or (f"{len(new)} branches" if len(new) > 1 else new[0].label)
                self._grow(new, f"{said} added")
        if new:
            self._tell()
        return new

    def extend(self, number: int, trace: Trace) -> Branch:
        """Let a branch go on: a trace that begins with the branch's tokens takes its place."""
        with self._lock:
            self._check_trace(trace)
            old = self.branch(number)
            n = len(old)
            if len(trace) <= n or n_shared(old.trace.tokens, trace.tokens) < n:
                raise ValueError(
                    f"the trace does not go on from branch {number}: it must begin with that "
                    f"branch's {n} tokens and have more. Add it as a branch of its own."
                )
            if (same := self.find(trace)) is not None:
                raise ValueError(f"that path is {same.label} already. Prune one of the two first.")
            new = replace(old, trace=trace)
            self._swap(old, new, f"{old.label} went on")
        self._tell()
        return new

    def prune(self, what: int | str | Branch | Node | Iterable[int]) -> tuple[Branch, ...]:
        """Take away a branch (by its number), some, or every branch through a node (by its key).

        Returns what was taken away; `undo` brings it back at once.
        """
        with self._lock:
            gone = self._meant(what)
            kept = tuple(branch for branch in self.branches if branch not in gone)
            if gone:
                said = gone[0].label if len(gone) == 1 else f"{len(gone)} branches"
                pruned = replace(self._now, branches=kept, change=f"{said} pruned")
                self._changes.become(pruned)
        if gone:
            self._tell()
        return gone

    def rename(self, number: int, name: str) -> Branch:
        """Give a branch another name; "" takes the name away."""
        name = checked_name(name)
        with self._lock:
            old = self.branch(number)
            if name == old.name:
                return old
            new = replace(old, name=name)
            self._swap(old, new, f"{old.label} renamed")
        self._tell()
        return new

    def undo(self) -> str:
        """Take the last change back; says which one. ValueError if there is none."""
        with self._lock:
            change = self._changes.undo()
        self._tell()
        return change

    def redo(self) -> str:
        """Make the change again that was taken back last; says which one."""
        with self._lock:
            change = self._changes.redo()
        self._tell()
        return change

    @property
    def to_undo(self) -> str:
        """The change that `undo` would take back, "" if there is none."""
        return self._changes.to_undo

    @property
    def to_redo(self) -> str:
        """The change that `redo` would make again, "" if there is none."""
        return self._changes.to_redo

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback()` after every change; returns what undoes it."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    # Out and in again.

    def to_pandas(self) -> pandas.DataFrame:
        """A table with one row a node, in reading order; needs pandas.

        `p` and `p_after` are those of the path from the prompt to the node's end.
        """
        import pandas as pd

        nodes, names = self.nodes, {branch.number: branch.name for branch in self.branches}
        table = pd.DataFrame(
            {
                "node": [node.key for node in nodes],
                "parent": [node.parent for node in nodes],
                "start": [node.start for node in nodes],
                "stop": [node.stop for node in nodes],
                "text": [node.text for node in nodes],
                "n_branches": [len(node.branches) for node in nodes],
                "ends": [node.ends[0] if node.ends else 0 for node in nodes],
                "name": [names[node.ends[0]] if node.ends else "" for node in nodes],
                "logprob": [node.logprob for node in nodes],
                "logprob_after": [node.logprob_after for node in nodes],
            }
        )
        table["p"], table["p_after"] = np.exp(table["logprob"]), np.exp(table["logprob_after"])
        return table.set_index("node")

    def to_dict(self) -> dict[str, Any]:
        """Plain values that survive JSON; steps that branches share are in it once."""
        with self._lock:
            return tree_file.packed(self.prompt_tokens.tolist(), self._now.count, self.branches)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tree:
        """The tree a dict describes, with nothing to undo.

        Raises:
            ValueError: the dict is not one that `to_dict` made.
        """
        count, branches = tree_file.unpacked(data)
        tree = cls()
        if branches:
            tree._prompt = branches[0].trace.prompt_tokens
        tree._changes = Changes(State(tuple(branches), count))
        return tree

    # Inside.

    def _check_trace(self, trace: Trace, like: Trace | None = None) -> None:
        if not isinstance(trace, Trace):
            raise TypeError(f"a tree takes Traces, not {type(trace).__name__}.")
        if not trace.finish_reason:
            raise ValueError("the trace is still running. Add it when its run has ended.")
        prompt = self._prompt
        if prompt is None and like is not None:
            prompt = like.prompt_tokens
        if prompt is not None and not np.array_equal(prompt, trace.prompt_tokens):
            n = n_shared(prompt, trace.prompt_tokens)
            raise ValueError(
                f"the trace has another prompt: it has {len(trace.prompt_tokens)} tokens, the "
                f"tree's has {len(prompt)}, and they are alike for {n}. Start another Tree."
            )

    def _meant(self, what: int | str | Branch | Node | Iterable[int]) -> tuple[Branch, ...]:
        if isinstance(what, Node):
            what = what.key
        if isinstance(what, str):
            through = set(self.node(what).branches)
            return tuple(branch for branch in self.branches if branch.number in through)
        if isinstance(what, Iterable):
            chosen = map(self.branch, listed("what", what, "numbers of branches"))
            return tuple({branch.number: branch for branch in chosen}.values())
        return (self.branch(what.number if isinstance(what, Branch) else what),)

    def _swap(self, old: Branch, new: Branch, change: str) -> None:
        branches = tuple(new if branch is old else branch for branch in self.branches)
        self._changes.become(replace(self._now, branches=branches, change=change))

    def _grow(self, new: list[Branch], change: str) -> None:
        """Add branches that are not there yet; the first one of all brings the prompt."""
        if self._prompt is None:
            self._prompt = new[0].trace.prompt_tokens
        branches = (*self.branches, *new)
        self._changes.become(State(branches, new[-1].number, change))

    def _tell(self) -> None:
        for watch in list(self._watchers):
            watch()

    def _numbers(self) -> str:
        numbers = [str(branch.number) for branch in self.branches]
        return ", ".join(numbers[:20]) + (", …" if len(numbers) > 20 else "") or "none"

    def __len__(self) -> int:
        return len(self.branches)

    def __iter__(self) -> Iterator[Branch]:
        return iter(self.branches)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tree):
            return NotImplemented
        if not np.array_equal(self.prompt_tokens, other.prompt_tokens):
            return False
        return [(b.number, b.name, b.trace) for b in self] == [
            (b.number, b.name, b.trace) for b in other
        ]

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lock": None, "_watchers": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        return tree_text.outline(self)

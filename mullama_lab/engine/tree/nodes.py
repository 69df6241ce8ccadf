"""The nodes of a tree, read off its branches: segments of tokens that the same branches share.

Nothing here is stored. A node is known by the branch with the lowest number that goes through
it and the step at which it begins ("2.14"), so a key outlives what is added elsewhere.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import n_shared
from mullama_lab.glyphs import brief

ROOT = "root"
LONGEST_NAME = 80  # characters

# Characters that would change how the text around a name is laid out.
_UNFIT = {"Cc", "Cs", "Zl", "Zp"}
_BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, eq=False)
class Branch:
    """One path of a tree: a whole Trace from the prompt, with its number and its name."""

    number: int
    trace: Trace
    name: str = ""

    def __len__(self) -> int:
        return len(self.trace)

    @cached_property
    def path(self) -> bytes:
        """Its tokens as bytes, which compare at once with those of another."""
        return path_of(self.trace)

    @property
    def label(self) -> str:
        """The name, or "branch 3" where there is none."""
        return self.name or f"branch {self.number}"

    @property
    def logprob(self) -> float:
        """ln of the path's probability in the model, before the chain: the sum over its steps."""
        return path_logprob(self.trace)

    @property
    def logprob_after(self) -> float:
        """The same after the chain; -inf where a forced token is one the chain had removed."""
        return path_logprob(self.trace, after=True)

    def __repr__(self) -> str:
        return f"Branch({self.number}, {self.label!r}: {self.trace!r})"


@dataclass(frozen=True, eq=False)
class Node:
    """A segment: the tokens of steps `start` to `stop`, which `branches` share.

    Attributes:
        key: what `Tree.node` finds it by.
        parent: the key of the node before it, None at the root, which is the prompt.
        children: keys, in reading order: the likeliest first, and last the one that goes on in
            the column of this node, which is the oldest that was drawn, or the least likely.
        level: nodes before it. indent: how often its path turned off an older one.
        turns: whether this node is such a turn.
        branches: numbers of the branches through it. ends: of those that end with it.
        trace: what its steps are read from, of the first of `branches`; None in an empty tree.
    """

    key: str
    parent: str | None
    children: tuple[str, ...]
    level: int
    indent: int
    turns: bool
    start: int
    stop: int
    branches: tuple[int, ...]
    ends: tuple[int, ...]
    trace: Trace | None

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Token ids of the segment, none at the root."""
        none = np.zeros(0, np.int32)
        return none if self.trace is None else self.trace.tokens[self.start : self.stop]

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each token; a character may begin in one node and end in the next."""
        return [] if self.trace is None else self.trace.pieces[self.start : self.stop]

    @property
    def text(self) -> str:
        """The segment as text; bytes that are no character become U+FFFD."""
        return b"".join(self.pieces).decode("utf-8", "replace")

    @property
    def logprob(self) -> float:
        """ln of the probability of the path from the prompt to the node's end, before the chain."""
        return 0.0 if self.trace is None else path_logprob(self.trace, self.stop)

    @property
    def logprob_after(self) -> float:
        """The same after the chain."""
        return 0.0 if self.trace is None else path_logprob(self.trace, self.stop, after=True)

    def __len__(self) -> int:
        return self.stop - self.start

    def __repr__(self) -> str:
        return f"Node({self.key!r}, steps {self.start} to {self.stop}: {self.text[:60]!r})"


def checked_name(name: Any) -> str:
    """A name that fits on a line: at most 80 characters, none that breaks or turns the line."""
    if not isinstance(name, str):
        raise TypeError(f"a name is a text, not {type(name).__name__}.")
    name = name.strip()
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"the name {shortened(name)} has {len(name)} characters; the most is {LONGEST_NAME}. "
            "Give a shorter one."
        )
    for character in name:
        if unicodedata.category(character) in _UNFIT or character in _BIDI:
            raise ValueError(
                f"the name {shortened(name)} has a U+{ord(character):04X}, which breaks or turns "
                "a line of text. Leave it out."
            )
    return name


def shortened(value: object) -> str:
    """A value as code, cut to fit a message."""
    text = brief(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def path_of(trace: Trace) -> bytes:
    """The tokens of a trace as bytes."""
    return trace.tokens.tobytes()


def path_logprob(trace: Trace, stop: int | None = None, *, after: bool = False) -> float:
    """The sum of the log-probabilities of the steps before `stop`, in nats."""
    column = trace.logprob_after if after else trace.logprob
    return float(column[:stop].sum(dtype=np.float64))


def nodes_of(branches: Sequence[Branch]) -> tuple[Node, ...]:
    """Every node, parents first, in reading order: what turns off stands before what goes on.

    What turns off stands with the likeliest first. The oldest path that was drawn goes on; where
    all were given, as those of an exploration are, the least likely one does.
    """
    order = sorted(branches, key=lambda branch: branch.number)
    paths = [branch.trace.tokens for branch in order]
    traces = [branch.trace for branch in order]
    nodes: list[Node] = []
    open_groups = [_Group(list(range(len(order))), None, 0)]
    while open_groups:
        group = open_groups.pop()
        stop = group.start if group.parent is None else _common_end(paths, group)
        ends = [i for i in group.members if len(paths[i]) == stop]
        children = _in_reading_order(traces, _split(paths, group.members, stop), stop)
        key = ROOT if group.parent is None else _key(order, group.members, group.start)
        nodes.append(
            Node(
                key=key,
                parent=group.parent,
                children=tuple(_key(order, members, stop) for members in children),
                level=group.level,
                indent=group.indent,
                turns=group.turns,
                start=group.start,
                stop=stop,
                branches=tuple(order[i].number for i in group.members),
                ends=tuple(order[i].number for i in ends),
                trace=order[group.members[0]].trace if group.members else None,
            )
        )
        for place, members in reversed(
            list(enumerate(children, start=1))
        ):  # the last is read first
            turns = place < len(children)
            indent = group.indent + turns
            open_groups.append(_Group(members, key, stop, group.level + 1, indent, turns))
    return tuple(nodes)


@dataclass(frozen=True)
class _Group:
    """Branches, by place, that share their tokens up to `start` and the one after."""

    members: list[int]
    parent: str | None
    start: int
    level: int = 0
    indent: int = 0
    turns: bool = False


def _key(order: Sequence[Branch], members: list[int], start: int) -> str:
    return f"{order[members[0]].number}.{start}"


def _common_end(paths: Sequence[NDArray[np.int32]], group: _Group) -> int:
    first = paths[group.members[0]][group.start :]
    ends = [n_shared(first, paths[i][group.start :]) for i in group.members]
    return group.start + min(ends)


def _in_reading_order(
    traces: Sequence[Trace], children: list[list[int]], stop: int
) -> list[list[int]]:
    """The likeliest first, last the one that goes on; equal ones by their age."""

    def chance(members: list[int]) -> float:
        p = float(traces[members[0]].logprob[stop])
        return -math.inf if math.isnan(p) else p

    likeliest_first = sorted(children, key=chance, reverse=True)
    drawn = [one for one in children if not all(traces[i].forced[stop] for i in one)]
    if drawn:
        likeliest_first.remove(drawn[0])
        likeliest_first.append(drawn[0])
    return likeliest_first


def _split(paths: Sequence[NDArray[np.int32]], members: list[int], stop: int) -> list[list[int]]:
    """The branches that go on, by their next token; the oldest first."""
    groups: dict[int, list[int]] = {}
    for i in members:
        if len(paths[i]) > stop:
            groups.setdefault(int(paths[i][stop]), []).append(i)
    return list(groups.values())

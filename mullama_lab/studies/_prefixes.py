"""Continuations as nodes of a tree of tokens, and which of them noise may have put in order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mullama_lab.engine.noise_floor import NoiseFloor


@dataclass(frozen=True, eq=False)
class Prefix:
    """A continuation that was found, as a node of a tree of tokens.

    Attributes:
        token, rank: its last token, and how many the model finds likelier there.
        logprob: ln of its probability after the start, in nats.
        before: the prefix without that token, None for the start itself.
        n_tokens: how many tokens it has.
        ended: whether its last token ends the text.
    """

    token: int
    rank: int
    logprob: float
    before: Prefix | None
    n_tokens: int
    ended: bool

    @property
    def tokens(self) -> list[int]:
        """Its token ids, after the start."""
        return [prefix.token for prefix in self._line()]

    def _line(self) -> list[Prefix]:
        line: list[Prefix] = []
        prefix: Prefix | None = self
        while prefix is not None and prefix.before is not None:
            line.append(prefix)
            prefix = prefix.before
        return line[::-1]


def tied(ranked: Sequence[Prefix], floor: NoiseFloor | None) -> list[bool | None]:
    """Whether no more than noise puts each prefix behind the one before it; None if not known.

    Each token that the two do not share may be off by the floor. A prefix is behind its own
    beginning whatever the noise.
    """
    if floor is None:
        return [None] * len(ranked)
    behind = (_tied(first, second, floor) for first, second in itertools.pairwise(ranked))
    return [False, *behind] if ranked else []


def _tied(first: Prefix, second: Prefix, floor: NoiseFloor) -> bool:
    a, b = first.tokens, second.tokens
    shared = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    n_own = max(len(a), len(b)) - shared
    return shared < min(len(a), len(b)) and floor.within((first.logprob - second.logprob) / n_own)

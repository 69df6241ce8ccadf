"""What a model or a session takes of the memory, as one value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mullama_lab.counted import size_in_words
from mullama_lab.engine.memory.buffers import Buffers
from mullama_lab.engine.memory.process import ProcessMemory

Spans = Iterable[tuple[int, int]]  # (span of cells, how many of its first cells)


@dataclass(frozen=True, repr=False)
class Memory(Buffers):
    """Where the memory went; all numbers are bytes.

    Buffers are as they were when the model or the session was opened, all else is as it is now.
    `session.memory` and `model.memory` give one. That of a session has the weights of its model
    too, which all sessions on it share. Reading it takes some 80 ms on Linux, which lists what is
    mapped page by page.

    Attributes:
        process: what the whole process takes.
        sequences: by sequence of the cache, the part of the KV cache, and the state, that it
            alone holds; without those that hold nothing.
        shared_bytes: the part that more than one of them hold, counted once.

    Source: llama.cpp's log when it opened them, which rounds to 0.01 MiB.
    """

    process: ProcessMemory
    sequences: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    shared_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of the cache that are in use: those of all sequences, and what they share once."""
        return sum(self.sequences.values()) + self.shared_bytes

    def __repr__(self) -> str:
        used = f"; {size_in_words(self.used_bytes)} of the cache in use" if self.used_bytes else ""
        return f"<Memory: {self._in_words()}{used}>"


def by_sequence(
    spans: Mapping[int, Spans], cell_bytes: float, state_bytes: float
) -> tuple[Mapping[int, int], int]:
    """(bytes that each sequence alone holds, bytes that several hold).

    Args:
        spans: the cells of each sequence that holds something.
        cell_bytes: what one cell takes.
        state_bytes: what the state of one sequence takes.

    >>> by_sequence({0: [(7, 10)], 1: [(7, 4), (8, 2)]}, 100.0, 0.0)
    (mappingproxy({0: 600, 1: 200}), 400)
    """
    holders: dict[int, list[tuple[int, int]]] = {}
    for sequence, theirs in spans.items():
        for span, n in theirs:
            holders.setdefault(span, []).append((n, sequence))
    own, n_shared = Counter(dict.fromkeys(spans, 0)), 0
    for held in holders.values():
        held.sort(reverse=True)
        (longest, sequence), (second, _) = [*held, (0, 0)][:2]
        own[sequence] += longest - second
        n_shared += second
    sizes = {s: round(n * cell_bytes + state_bytes) for s, n in sorted(own.items())}
    return MappingProxyType(sizes), round(n_shared * cell_bytes)

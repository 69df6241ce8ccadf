"""Which text each sequence of a cache holds, and how many cells they take together.

Plain bookkeeping, without a call of llama.cpp: a position that was decoded takes one cell, and a
sequence that was copied from another one shares its cells for as long as their texts are the same.
Which of them new work may overwrite, and what fits, is for `room.py` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from mullama_lab.engine.cache.cuts import Provenance
from mullama_lab.engine.text import Text


@dataclass(slots=True)
class Held:
    """One sequence: its text, and the spans of cells that it lies in.

    A span is cells that one sequence decoded in a row. Whoever shares it holds its beginning.
    """

    text: Text = field(default_factory=Text)
    provenance: Provenance = field(default_factory=Provenance)
    spans: list[tuple[int, int]] = field(default_factory=list)  # (span, cells of it)
    extends_last_span: bool = False  # nobody shares it, so that it grows with the sequence
    kept: bool = False  # a caller keeps it
    needed_by: set[object] = field(default_factory=set)  # work that goes on from it
    at_work: bool = False
    last_use: int = 0
    lost: Text | None = None  # what it held, while it is kept and does not

    @property
    def must_stay(self) -> bool:
        """Whether other work may not overwrite it."""
        return self.kept or self.at_work or bool(self.needed_by)


class Sequences:
    """The sequences of one cache, by id.

    Args:
        n_ctx: cells there are; of each sequence, if they share none.
        n_max: how many sequences there may be.
        shared: whether sequences share cells.
    """

    def __init__(self, n_ctx: int, n_max: int, *, shared: bool) -> None:
        self.n_ctx, self.n_max, self.shared = n_ctx, n_max, shared
        self.held: dict[int, Held] = {0: Held()}
        self.n_cells = 0  # that all of them take together
        self._uses, self._spans = count(), count()

    def clear(self) -> None:
        self.held = {0: Held()}
        self.n_cells = 0

    # What there is.

    @property
    def n_cells_max(self) -> int:
        """Cells that all of them may take together."""
        return self.n_ctx if self.shared else self.n_ctx * self.n_max

    def __getitem__(self, sequence: int) -> Held:
        return self.held[sequence]

    def __contains__(self, sequence: int) -> bool:
        return sequence in self.held

    def room(self, sequence: int) -> int:
        """How many more tokens fit in a sequence as things are."""
        used = self.n_cells if self.shared else len(self.held[sequence].text)
        return self.n_ctx - used

    def n_cells_of(self, sequences: Iterable[int], *, beginning: tuple[int, int] = (0, 0)) -> int:
        """Cells that some sequences take, what they share once; and one's first n tokens."""
        spans: dict[int, int] = {}
        parts = [self.held[s].spans for s in sequences]
        if beginning[1]:
            parts.append(_cut(self.held[beginning[0]].spans, beginning[1]))
        for part in parts:
            for span, n in part:
                spans[span] = max(n, spans.get(span, 0))
        return sum(spans.values())

    def longest(self, text: Text, among: Iterable[int]) -> tuple[int, int]:
        """Which sequence begins most like a text, and for how many; the first of equals."""
        best = (0, 0)
        for sequence in among:
            n = self.held[sequence].text.n_common(text)
            if n > best[1]:
                best = (sequence, n)
        return best

    # What changes.

    def use(self, sequence: int) -> Held:
        """The sequence, noted as the one used last."""
        held = self.held.setdefault(sequence, Held())
        held.last_use = next(self._uses)
        return held

    def extend(self, sequence: int, tokens: Sequence[int], *, generated: bool) -> None:
        """Note that a sequence decoded these tokens."""
        held = self.held[sequence]
        before = len(held.text)
        held.text.extend(tokens, generated=generated)
        n = len(held.text) - before
        if held.extends_last_span:
            span, size = held.spans[-1]
            held.spans[-1] = (span, size + n)
        else:
            held.spans.append((next(self._spans), n))
            held.extends_last_span = True
        self.n_cells += n

    def cut(self, sequence: int, n: int) -> None:
        """Note that only the first n positions of a sequence are left."""
        held = self.held[sequence]
        held.text.cut(n)
        held.provenance.cut(n)
        held.spans = _cut(held.spans, n)
        spans = held.spans
        held.extends_last_span = bool(spans) and not self._is_shared(sequence, spans[-1][0])
        self._count()

    def copy(self, source: int, sequence: int, n: int) -> None:
        """Note that an empty sequence now holds the first n positions of another one."""
        theirs, held = self.held[source], self.held[sequence]
        held.text, held.provenance = theirs.text.first(n), theirs.provenance.copied()
        held.provenance.cut(n)
        held.spans, held.extends_last_span = _cut(theirs.spans, n), False
        self._count()

    def empty(self) -> None:
        """Note that every sequence lost what it held."""
        for held in self.held.values():
            if held.kept and held.lost is None and held.text:
                held.lost = held.text.first(len(held.text))
            held.text.cut(0)
            held.provenance.cut(0)
            held.spans.clear()
            held.extends_last_span = False
        self.n_cells = 0

    def remove(self, sequence: int) -> None:
        """Forget a sequence; 0 is then empty, as at the beginning."""
        del self.held[sequence]
        self.held.setdefault(0, Held())
        self._count()

    def copied(self) -> dict[int, Held]:
        """The sequences as they are now, none of them at work."""
        return {
            s: Held(
                held.text.first(len(held.text)),
                held.provenance.copied(),
                list(held.spans),
                held.extends_last_span,
                held.kept,
            )
            for s, held in sorted(self.held.items())
        }

    def restore(self, held: Mapping[int, Held]) -> None:
        """Be again what `copied` gave."""
        self.held = dict(held)
        spans = (span for theirs in held.values() for span, _ in theirs.spans)
        self._spans = count(max(spans, default=-1) + 1)
        self._count()

    def _count(self) -> None:
        self.n_cells = self.n_cells_of(self.held)

    def _is_shared(self, sequence: int, span: int) -> bool:
        others = (held for s, held in self.held.items() if s != sequence)
        return any(span == theirs for held in others for theirs, _ in held.spans)


def _cut(spans: Sequence[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """The spans of the first n positions."""
    kept = []
    for span, size in spans:
        if n <= 0:
            break
        kept.append((span, min(size, n)))
        n -= size
    return kept

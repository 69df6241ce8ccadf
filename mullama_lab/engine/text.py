"""Text: what a sequence of a cache holds, or shall hold.

It is made of segments. A given one was in a prompt and is decoded many tokens at a time; a
generated one came token by token. The two may be computed with different rounding, so what is
held counts as the beginning of another text only as far as that is known to be the same.

Positions and cells are counted here and nowhere else: a segment that is no list of tokens may
take more or fewer of them than it has entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

COMPARED_AT_ONCE = 256  # tokens
MIXED = "mixed "  # how the epoch of a text begins that several weights computed


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens in a row that came about in the same way."""

    tokens: tuple[int, ...]
    generated: bool


class Text:
    """Tokens in order, how each came about, and which weights compute them.

    Args:
        tokens: given ones.
        epoch: a name for the weights that compute it, "" for the model's own; what other weights
            computed is no beginning of this.

    Attributes:
        tokens: all of them; change it by `extend` and `cut` alone.
    """

    __slots__ = ("_ends", "epoch", "tokens")

    def __init__(self, tokens: Sequence[int] = (), epoch: str = "") -> None:
        self.tokens = list(tokens)
        self.epoch = epoch
        self._ends = [(len(self.tokens), False)] if self.tokens else []

    def __len__(self) -> int:
        """How many positions it takes, which is how many cells too."""
        return len(self.tokens)

    @property
    def n_given(self) -> int:
        """Tokens of the prompt: those before the first that was generated."""
        return self._ends[0][0] if self._ends and not self._ends[0][1] else 0

    @property
    def segments(self) -> Iterator[Segment]:
        """The segments in order."""
        start = 0
        for end, generated in self._ends:
            yield Segment(tuple(self.tokens[start:end]), generated)
            start = end

    def extend(self, tokens: Sequence[int], *, generated: bool) -> None:
        """Add tokens at the end."""
        if not tokens:
            return
        self.tokens.extend(tokens)
        ends = self._ends
        if ends and ends[-1][1] is generated:
            ends.pop()
        ends.append((len(self.tokens), generated))

    def cut(self, n: int) -> None:
        """Keep the first n positions."""
        del self.tokens[n:]
        kept = [end for end in self._ends if end[0] < n]
        if len(kept) < len(self._ends) and n > (kept[-1][0] if kept else 0):
            kept.append((len(self.tokens), self._ends[len(kept)][1]))
        self._ends = kept

    def first(self, n: int) -> Text:
        """A text of its first n positions."""
        text = Text(epoch=self.epoch)
        text.tokens, text._ends = self.tokens[:], self._ends[:]
        text.cut(n)
        return text

    def change_weights(self, epoch: str) -> None:
        """Say that other weights compute what is added from here on.

        What two of them computed is a text like no other, unless it goes on in the same way.
        """
        if self.tokens and epoch != self.epoch:
            both = f"{self.epoch} {len(self)} {epoch}"
            epoch = MIXED + hashlib.sha256(both.encode()).hexdigest()[:16]
        self.epoch = epoch

    @property
    def is_mixed(self) -> bool:
        """Whether several weights computed it."""
        return self.epoch.startswith(MIXED)

    def n_common(self, other: Text) -> int:
        """How many positions two texts have in common at their beginning; none across epochs."""
        return n_common(self.tokens, other.tokens) if self.epoch == other.epoch else 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Text):
            return NotImplemented
        return (self.epoch, self.tokens) == (other.epoch, other.tokens)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Text of {len(self)} positions, {self.n_given} of them given>"


def n_common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two lists have in common at their beginning."""
    end = min(len(a), len(b))
    n = 0
    while n < end and a[n : n + COMPARED_AT_ONCE] == b[n : n + COMPARED_AT_ONCE]:
        n += COMPARED_AT_ONCE
    n = min(n, end)
    while n < end and a[n] == b[n]:
        n += 1
    return n

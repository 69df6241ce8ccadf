"""Where a prompt is cut for llama.cpp, so that the same prompt is always cut in the same places.

A row of logits depends on how its batch was cut: llama.cpp adds in another order for another
number of tokens at once. So a prompt has these pieces, whatever of it is in the cache already:

- whole blocks of 64 tokens, as many at once as a batch takes (a CPU computes a token of any
  batch of 64 and more alike: measured, bit for bit);
- the last whole block together with what is left over, so that no piece is a small one;
- its last token alone, as every token after it is.

A prompt of less than two blocks is one piece, and its last token. What the cache holds is
reused up to where a piece of the new prompt begins; one that was cut in the very same places is
reused whole. A text that goes on from all that is held, or from generated text, which came token
by token, reuses it as it is: to compute it anew would cost more than the difference is worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mullama_lab.engine.text import Text

BLOCK = 64  # tokens: from so many at once on, ggml's flash attention works on tiles
WORTH_KEEPING = 16  # tokens of a text that another one goes on from


class Piece(NamedTuple):
    """Positions that are decoded at once, and whether the rows after them are wanted."""

    start: int
    stop: int
    wanted: bool


@dataclass(slots=True)
class Provenance:
    """How what a sequence holds was computed.

    Attributes:
        prompt_end: where its prompt was cut for the last time: before the last token of it.
        n_canonical: the first positions that are bit for bit as a session that does nothing else
            computes them.
    """

    prompt_end: int = 0
    n_canonical: int = 0

    def cut(self, n: int) -> None:
        """Only the first n positions are left."""
        self.n_canonical = min(self.n_canonical, n)

    def copied(self) -> Provenance:
        return Provenance(self.prompt_end, self.n_canonical)


def prompt_end(text: Text, first_row: int) -> int:
    """Up to where a text is cut as a prompt: from there on rows are wanted, or it is generated."""
    return max(0, min(text.n_given - 1, first_row))


def n_reusable(
    held: Text, provenance: Provenance, text: Text, first_row: int, *, canonical: bool = False
) -> int:
    """How much of what a sequence holds can be taken for the beginning of a text.

    Args:
        first_row: the first position whose row is wanted, which has to be decoded.
        canonical: only what would be computed anew just so.
    """
    n = min(held.n_common(text), first_row)
    end = prompt_end(text, first_row)
    if n >= end == provenance.prompt_end <= provenance.n_canonical:
        return min(n, provenance.n_canonical) if canonical else n  # the same cuts
    is_whole = provenance.prompt_end < len(held)  # not cut within its prompt since
    goes_on = n > held.n_given or (n == len(held) >= WORTH_KEEPING and is_whole)
    if goes_on and not canonical:
        return n
    blocks = min(n, provenance.prompt_end, provenance.n_canonical) // BLOCK * BLOCK
    return min(blocks, _last_piece(end))


def pieces(
    text: Text,
    start: int,
    first_row: int,
    n_batch: int,
    n_rows: int,
    *,
    one_by_one: bool = False,
) -> Iterator[Piece]:
    """The pieces of a text from a position on.

    Args:
        first_row: the first position whose row is wanted; the text's length if none is.
        n_batch: most tokens at once, and `n_rows` where the rows of all of them are wanted.
        one_by_one: cut what was generated as it was when it was drawn.
    """
    end = prompt_end(text, first_row)
    in_blocks = n_batch // BLOCK * BLOCK or n_batch
    rest = 1 if one_by_one and text.n_given < len(text) else n_batch
    at = start
    for stop, most in ((_last_piece(end), in_blocks), (end, n_batch), (first_row, rest)):
        while at < stop:
            n = min(most, stop - at)
            yield Piece(at, at + n, False)
            at += n
    while at < len(text):
        n = min(n_rows, len(text) - at)
        yield Piece(at, at + n, True)
        at += n


def _last_piece(end: int) -> int:
    """Where the last piece begins of a prompt that is cut as far as `end`."""
    return max(0, end // BLOCK - 1) * BLOCK

"""Let a sequence and the text of its lane agree again, where one of them went ahead or was lost."""

from __future__ import annotations

from typing import Any

from mullama_lab.engine.cache import Cache
from mullama_lab.engine.loop.lane import Lane


def take_back(cache: Cache, lane: Lane[Any]) -> None:
    """Let the sequence of a lane hold no more than it has done, where the cache can forget that.

    Where it cannot, as behind a sliding window, the lane decodes its text again. One that has ended
    leaves more in the sequence, for the next one to see to.
    """
    sequence = lane.sequence
    if cache.can_cut(sequence, lane.n_done):
        cache.cut(sequence, lane.n_done)
    elif not lane.ended:
        cache.cut(sequence, 0)
    if not lane.ended and not cache.sequences[sequence].text:
        decode_again(cache, lane)


def decode_again(cache: Cache, lane: Lane[Any]) -> None:
    """Have a lane's text decoded anew, which its sequence has lost; it had the rows before."""
    lane.first_row = max(lane.first_row, lane.n_done)
    pieces = cache.pieces(lane.text, lane.sequence, lane.first_row)
    lane.begin_decoding(0, pieces, canonical=lane.canonical)

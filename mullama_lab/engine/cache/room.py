"""Room for new work: which sequences it may overwrite, and what fits beside the others.

Plain bookkeeping over `Sequences`, without a call of llama.cpp: `Cache` does the forgetting. What
a caller keeps, and what is at work, is never overwritten; sequence 0, which no caller can keep, is
taken last.
"""

from __future__ import annotations

from collections.abc import Mapping

from mullama_lab.engine.cache.sequences import Sequences
from mullama_lab.engine.text import Text
from mullama_lab.errors import ContextFull, SessionError

# Which sequence.


def free_id(known: Sequences) -> int | None:
    """An id that holds nothing; 0 only if it is the last."""
    for sequence in (*range(1, known.n_max), 0):
        held = known.held.get(sequence)
        if held is None or not (held.text or held.must_stay):
            return sequence
    return None


def replaceable(known: Sequences) -> list[int]:
    """Ids that later work may take, the longest unused first, and 0 last."""
    ids = [s for s, held in known.held.items() if not held.must_stay]
    return sorted(ids, key=lambda s: (s == 0, known[s].last_use))


def untouchable(known: Sequences, besides: int = -1) -> list[int]:
    """Ids that work in another sequence must leave alone."""
    return [s for s, held in known.held.items() if s != besides and held.must_stay]


def id_to_work_in(known: Sequences, text: Text) -> int:
    """An id that holds nothing, or the one that was not used for longest.

    The sequence that the text can be copied from is left as it is if another will do.

    Raises:
        SessionError: all of them are kept or at work.
    """
    free = free_id(known)
    if free is None and (victims := replaceable(known)):
        source = known.longest(text, known.held)[0]
        free = next((s for s in victims if s not in (0, source)), victims[0])
    if free is None:
        raise SessionError(
            f"all {known.n_max} sequences of the session are kept, so there is none "
            "to work in. Remove one with session.remove(sequence)."
        )
    return free


def id_for_fork(known: Sequences, source: int) -> int:
    """An id for a fork of a sequence, which the caller keeps.

    Raises:
        SessionError: all of them are kept or at work.
    """
    sequence = free_id(known)
    if not sequence:  # 0 cannot be kept
        victims = [s for s in replaceable(known) if s not in (0, source)]
        if not victims:
            raise SessionError(
                f"no sequence is free: the session has n_seq_max={known.n_max}. "
                "Remove one with session.remove(sequence), or open the session with a larger "
                "n_seq_max."
            )
        sequence = victims[0]
    return sequence


# What fits.


def n_free_beside(known: Sequences, text: Text) -> int:
    """Cells left for a new sequence with this text, beside what may not be overwritten."""
    if not known.shared:
        return known.n_ctx - len(text)
    staying = untouchable(known)
    new = len(text) - known.longest(text, staying)[1]
    return known.n_ctx - known.n_cells_of(staying) - new


def without_room(known: Sequences, wanted: Mapping[int, int]) -> list[int]:
    """Which sequences cannot have so many more positions each, as things are."""
    if not known.shared:
        return [s for s, n in wanted.items() if known.room(s) < n]
    left, full = known.n_ctx - known.n_cells, []
    for sequence, more in wanted.items():
        if more <= left:
            left -= more
        else:
            full.append(sequence)
    return full


def must_fit(known: Sequences, text: Text, sequence: int, source: int, n: int) -> None:
    """Refuse a text that does not fit in a sequence, its first n tokens taken from a source.

    Raises:
        ContextFull: it is longer than the context, or the rest does not fit beside what stays.
    """
    if len(text) > known.n_ctx:
        raise ContextFull(
            f"{len(text)} tokens do not fit in a context of {known.n_ctx}. "
            "Open the session with a larger n_ctx, or shorten the prompt."
        )
    if not known.shared or len(known.held) == 1:
        return
    staying = untouchable(known, besides=sequence)
    free = known.n_ctx - known.n_cells_of(staying, beginning=(source, n))
    if len(text) - n > free:
        raise ContextFull(
            f"{len(text) - n} more tokens do not fit: {free} of the {known.n_ctx} cells of "
            f"the context are free beside the {len(staying)} other sequences that are kept. "
            "Remove one with session.remove(sequence), or open the session with a larger n_ctx."
        )

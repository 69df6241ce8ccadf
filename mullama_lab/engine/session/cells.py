"""What a caller does with the sequences of the cache: list, fork, rewind, remove."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.cache.room import free_id, replaceable
from mullama_lab.engine.loop.given import Fork, Hold
from mullama_lab.engine.loop.lane import Lane
from mullama_lab.engine.memory import Buffers, Memory
from mullama_lab.engine.memory.buffers import cell_bytes, must_be_heard, read
from mullama_lab.engine.memory.memory import by_sequence
from mullama_lab.engine.options import whole
from mullama_lab.engine.text import Text
from mullama_lab.errors import ContextFull

if TYPE_CHECKING:
    from mullama_lab.engine.session.session import Session

T = TypeVar("T")


def checked_sequence(session: Session, sequence: int) -> int:
    """A sequence that there is; naming one keeps it. ValueError if there is none of that id."""
    sequence = whole("sequence", sequence, 0, session.n_seq_max - 1)
    known = session._cache.sequences.held
    held = known.get(sequence)
    if held is None:
        ids = ", ".join(map(str, sorted(known)))
        raise ValueError(
            f"there is no sequence {sequence}. There are {ids}; session.fork() makes another."
        )
    if sequence:
        held.kept = True
    return sequence


def sequences(session: Session) -> Mapping[int, NDArray[np.int32]]:
    """What `Session.sequences` gives."""
    return MappingProxyType(
        {
            sequence: np.array((held.lost or held.text).tokens, np.int32)
            for sequence, held in sorted(session._cache.sequences.held.items())
            if held.text or held.kept or sequence == 0
        }
    )


def memory(session: Session) -> Memory:
    """What `Session.memory` gives."""
    session.must_be_open()
    said = session._said_of_sizes
    buffers = Buffers(read(said))
    must_be_heard(buffers.buffers, "compute")
    held = dict(session._cache.sequences.held)
    spans = {s: list(theirs.spans) for s, theirs in sorted(held.items()) if theirs.text}
    each = buffers.state_bytes / session.n_seq_max
    sequences, shared_bytes = by_sequence(spans, cell_bytes(said), each)
    model = session.model.memory
    return Memory(model.buffers + buffers.buffers, model.process, sequences, shared_bytes)


def fork(session: Session, sequence: int, n_tokens: int | None) -> int:
    """What `Session.fork` does."""
    recover(session)
    sequence = checked_sequence(session, sequence)
    lane = Fork(lambda: _first(session, sequence, n_tokens), session, place=sequence)
    try:
        return _done(session, lane)
    except ContextFull as error:
        n, n_held = len(lane.text), len(_first(session, sequence, None))
        raise ContextFull(
            f"this cache knows sequence {sequence} only as it is at its end, so a fork of {n} of "
            f"its {n_held} tokens decodes them again, and they do not fit beside "
            "it. Fork all of its tokens, or open the session with a larger n_ctx."
        ) from error


def rewind(session: Session, sequence: int, n_tokens: int) -> None:
    """What `Session.rewind` does."""
    recover(session)
    sequence = checked_sequence(session, sequence)
    _hold(session, lambda: _first(session, sequence, n_tokens), sequence)


def remove(session: Session, sequence: int) -> None:
    """What `Session.remove` does."""
    sequence = checked_sequence(session, sequence)
    session._do_with_cells(
        lambda: session._cache.remove(checked_sequence(session, sequence)), sequence
    )


def recover(session: Session) -> None:
    """Decode again what kept sequences lost when a recurrent model was stopped."""
    for sequence, held in list(session._cache.sequences.held.items()):
        if held.lost is not None:
            _hold(session, partial(_whole, session, sequence), sequence)


@contextmanager
def kept(session: Session, sequence: int) -> Iterator[None]:
    """Keep a sequence from being overwritten meanwhile, if there is another one to work in."""
    known, user = session._cache.sequences, object()

    def keep() -> None:
        held = known.held.get(sequence)
        if held is not None and (free_id(known) is not None or replaceable(known) != [sequence]):
            held.needed_by.add(user)

    try:
        session._do_with_cells(keep, sequence)
        yield
    finally:
        for held in list(known.held.values()):
            held.needed_by.discard(user)


def _first(session: Session, sequence: int, n_tokens: int | None) -> Text:
    """A copy of what a sequence holds, or of its first tokens."""
    text = session._cache.sequences[checked_sequence(session, sequence)].text
    n = len(text)
    return text.first(n if n_tokens is None else whole("n_tokens", n_tokens, 0, n))


def _whole(session: Session, sequence: int) -> Text:
    """What a sequence should hold: it may have lost it."""
    held = session._cache.sequences[checked_sequence(session, sequence)]
    text = held.text if held.lost is None else held.lost
    return text.first(len(text))


def _hold(session: Session, text: Callable[[], Text], sequence: int) -> None:
    """Let a sequence hold a text, after a stop in between if it is kept."""
    lane = Hold(text, session, place=sequence)
    try:
        _done(session, lane)
    except BaseException:
        held = session._cache.sequences.held.get(sequence)
        if held is not None and held.kept and len(held.text) < len(lane.text):
            held.lost = lane.text
        raise


def _done(session: Session, lane: Lane[T]) -> T:
    session.must_be_open()
    with lane.stopped_on_error():
        session._worker.submit(lane)
        return lane.result()

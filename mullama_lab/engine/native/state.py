"""A context's whole state as bytes, and back.

llama.cpp checks what it reads against the sizes of the context, and gives up with a log line.
It knows no checksum: only bytes that are known to be what was saved may come here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native.library import C
from mullama_lab.engine.native.log import complaints
from mullama_lab.errors import SessionError, SessionFileError

STATE_VERSION: int = C.LLAMA_SESSION_VERSION  # llama.cpp raises it when the layout changes
_BYTES = ctypes.POINTER(ctypes.c_uint8)


def state_of(context: Any) -> NDArray[np.uint8]:
    """The cells of every sequence; a cell that sequences share is there once."""
    with complaints() as heard:
        state = np.empty(C.llama_state_get_size(context), np.uint8)
        n = C.llama_state_get_data(context, state.ctypes.data_as(_BYTES), state.nbytes)
    if n == 0 or n > state.nbytes:
        raise SessionError(f"llama.cpp could not give the state of the context: {heard.reason()}.")
    return state[:n]


def set_state(context: Any, state: NDArray[np.uint8]) -> None:
    """Let an empty context be what `state_of` gave.

    Raises:
        SessionFileError: llama.cpp did not take all of it; the context must be closed.
    """
    state = np.ascontiguousarray(state)
    _must_be_of_this_architecture(state, state_of(context))
    with complaints() as heard:
        n = C.llama_state_set_data(context, state.ctypes.data_as(_BYTES), state.nbytes)
        is_whole = n == state.nbytes and C.llama_state_get_size(context) == n
    if not is_whole:
        raise SessionFileError(
            "llama.cpp does not take the cache in this file: "
            f"{heard.reason(otherwise=f'it read {n} of {state.nbytes} bytes')}. "
            "It was made by another program or version; save the session again."
        )


def _must_be_of_this_architecture(state: NDArray[np.uint8], own: NDArray[np.uint8]) -> None:
    """Both begin with the architecture: llama.cpp takes as much memory as its length says."""
    n = 4 + int.from_bytes(own[:4].tobytes(), "little")
    if state[:n].tobytes() != own[:n].tobytes():
        raise SessionFileError(
            "the cache in this file is of no network of this architecture. "
            "It was made by another program or version; save the session again."
        )


def keep_windows(context: Any, lengths: Mapping[int, int], free: Sequence[int]) -> None:
    """Let what is decoded next after `set_state` take empty cells.

    llama.cpp looks for cells from its newest on, but after a restore from the first: with a
    sliding window it would overwrite cells that have left the window, and the sequence could not
    be rewound any more. So one cell is put in while a second sequence holds all others, which
    makes them untouchable. Nothing is decoded. Needs a unified cache.

    Args:
        lengths: tokens of each sequence that has some.
        free: two sequences that have none.
    """
    memory, (holder, last), (s, n) = C.llama_get_memory(context), free, next(iter(lengths.items()))
    C.llama_memory_seq_cp(memory, s, last, n - 1, n)
    with complaints():  # it complains where no cell is empty, and then none can be overwritten
        cell = np.empty(C.llama_state_seq_get_size(context, last), np.uint8)
        place = cell.ctypes.data_as(_BYTES)
        size = C.llama_state_seq_get_data(context, place, cell.nbytes, last)
        C.llama_memory_seq_rm(memory, last, -1, -1)
        for sequence in lengths:
            C.llama_memory_seq_cp(memory, sequence, holder, -1, -1)
        C.llama_state_seq_set_data(context, place, size, last)
        C.llama_memory_seq_rm(memory, last, -1, -1)
        C.llama_memory_seq_rm(memory, holder, -1, -1)


def last_position(context: Any, seq_id: int) -> int:
    """The last position of a sequence; -1 if it holds nothing."""
    return C.llama_memory_seq_pos_max(C.llama_get_memory(context), seq_id)


def sequence_state(context: Any, seq_id: int) -> NDArray[np.uint8]:
    """The cells of one sequence."""
    with complaints() as heard:
        state = np.empty(C.llama_state_seq_get_size(context, seq_id), np.uint8)
        place = state.ctypes.data_as(_BYTES)
        n = C.llama_state_seq_get_data(context, place, state.nbytes, seq_id)
    if n == 0 or n > state.nbytes:
        raise SessionError(f"llama.cpp could not give the state of a sequence: {heard.reason()}.")
    return state[:n]


def set_sequence_state(context: Any, state: NDArray[np.uint8], seq_id: int) -> None:
    """Let an empty sequence be what `sequence_state` gave, on a context with the same settings."""
    place = state.ctypes.data_as(_BYTES)
    with complaints() as heard:
        n = C.llama_state_seq_set_data(context, place, state.nbytes, seq_id)
    if n == 0:
        raise SessionError(f"llama.cpp did not take the state of a sequence: {heard.reason()}.")

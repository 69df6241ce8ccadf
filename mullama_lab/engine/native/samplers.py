"""llama.cpp's samplers, and the candidates of a row that they work on."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native.library import C

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


@lru_cache(maxsize=4)
def _all_ids(n_vocab: int) -> NDArray[np.int32]:
    ids = np.arange(n_vocab, dtype=np.int32)
    ids.flags.writeable = False  # it is everybody's
    return ids


class _ArrayFields(ctypes.Structure):
    """`llama_token_data_array` with a plain address, which is quick to read."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    ]


class Candidates:
    """The candidates of one row: what llama.cpp calls `llama_token_data_array`.

    Samplers shorten it, reorder it, and XTC even moves its start; `window` is what is left.

    Attributes:
        n_left_out: candidates that are there too but were not loaded, since the next stage would
            take them out whatever they are.
    """

    n_left_out = 0

    def __init__(self, n_vocab: int) -> None:
        self.table = np.empty(n_vocab, CANDIDATE)
        self._all_ids = _all_ids(n_vocab)
        self._start = self.table.ctypes.data
        self.array = C.llama_token_data_array()
        self.fields = _ArrayFields.from_buffer(self.array)
        self.ref = ctypes.byref(self.array)

    def load(self, row: NDArray[np.float32]) -> None:
        """Start again from a whole row of logits, in vocabulary order."""
        self.table["id"] = self._all_ids
        self.table["logit"] = row
        fields = self.fields
        fields.data, fields.size = self._start, len(self.table)
        fields.selected, fields.sorted = -1, False

    def load_some(self, ids: NDArray[np.integer], logits: NDArray[np.float32]) -> None:
        """Start again from some tokens of a row, in the order given."""
        n, fields = len(ids), self.fields
        self.table["id"][:n] = ids
        self.table["logit"][:n] = logits
        fields.data, fields.size = self._start, n
        fields.selected, fields.sorted = -1, False

    def saved(self) -> tuple[NDArray[np.void], bool]:
        """What there is now, for `restore`: a copy of the window, and whether it is sorted."""
        bytes_of_it = self.window.view(np.uint8)  # records one by one would take 20 times as long
        return bytes_of_it.copy().view(CANDIDATE), bool(self.fields.sorted)

    def restore(self, saved: tuple[NDArray[np.void], bool]) -> None:
        """Be again what `saved` gave."""
        window, is_sorted = saved
        self.table[: len(window)].view(np.uint8)[:] = window.view(np.uint8)
        self.fields.data, self.fields.size = self._start, len(window)
        self.fields.selected, self.fields.sorted = -1, is_sorted

    @property
    def size(self) -> int:
        return self.fields.size

    @property
    def window(self) -> NDArray[np.void]:
        first = (self.fields.data - self._start) // CANDIDATE.itemsize
        return self.table[first : first + self.fields.size]

    def keep(self, positions: NDArray[np.integer], *, is_sorted: bool) -> None:
        """Keep the candidates at `positions` of the window, in that order."""
        window = self.window
        window[: len(positions)] = window[positions]
        self.fields.size, self.fields.sorted = len(positions), is_sorted

    def n_possible(self) -> int:
        """How many candidates are not masked with minus infinity."""
        return int(np.count_nonzero(self.window["logit"] > -np.inf))


class NativeSampler:
    """One `llama_sampler`, freed with this object. `accept` exactly once per token."""

    __slots__ = ("_pointer",)

    def __init__(self, pointer: Any) -> None:
        if not pointer:
            raise ValueError("llama.cpp could not build this sampler from its settings.")
        self._pointer = pointer

    def apply(self, candidates: Candidates) -> None:
        C.llama_sampler_apply(self._pointer, candidates.ref)

    def accept(self, token: int) -> None:
        C.llama_sampler_accept(self._pointer, token)

    def clone(self) -> NativeSampler:
        return NativeSampler(C.llama_sampler_clone(self._pointer))

    def __del__(self) -> None:
        if getattr(self, "_pointer", None) and C is not None:
            C.llama_sampler_free(self._pointer)
            self._pointer = None


def sampler(name: str, *args: Any) -> NativeSampler:
    """Build llama.cpp's sampler `llama_sampler_init_<name>`."""
    return NativeSampler(getattr(C, f"llama_sampler_init_{name}")(*args))


def dry_sampler(
    vocab: Any,
    multiplier: float,
    base: float,
    allowed_length: int,
    last_n: int,
    breakers: Sequence[str],
) -> NativeSampler:
    """llama.cpp's DRY; it reads the whole vocabulary for its breakers, so clone, don't rebuild."""
    words = (ctypes.c_char_p * max(1, len(breakers)))(*(b.encode() for b in breakers))
    return sampler("dry", vocab, multiplier, base, allowed_length, last_n, words, len(breakers))


def logit_bias_sampler(n_vocab: int, biases: Sequence[tuple[int, float]]) -> NativeSampler:
    """llama.cpp's logit bias; it copies the pairs."""
    pairs = (C.llama_logit_bias * max(1, len(biases)))(*biases)
    return sampler("logit_bias", n_vocab, len(biases), pairs)

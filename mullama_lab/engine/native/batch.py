"""Tokens that llama.cpp computes together, and the rows of logits that come of them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native.library import C
from mullama_lab.errors import DecodeError

_logits_address = C._lib["llama_get_logits_ith"]  # a number, where llama_cpp makes an object
_logits_address.argtypes = [ctypes.c_void_p, ctypes.c_int32]
_logits_address.restype = ctypes.c_void_p
_MOST_VIEWS = 512


class Batch:
    """A reusable batch of at most `capacity` tokens.

    Attributes:
        token, pos, seq: int32, shape (capacity,): the id of each token, its position, and the
            sequence it belongs to.
        wanted: int8, shape (capacity,): whether logits or a vector are wanted for it.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.token = np.zeros(capacity, np.int32)
        self.pos = np.zeros(capacity, np.int32)
        self.seq = np.zeros(capacity, np.int32)
        self.wanted = np.zeros(capacity, np.int8)
        self._n_seq = np.ones(capacity, np.int32)
        seq_rows = (self.seq.ctypes.data + 4 * np.arange(capacity)).astype(np.uintp)
        self._seq_rows = np.ascontiguousarray(seq_rows)
        self._struct = C.llama_batch()
        for field, array, kind in (
            ("token", self.token, C.llama_token),
            ("pos", self.pos, C.llama_pos),
            ("n_seq_id", self._n_seq, ctypes.c_int32),
            ("seq_id", self._seq_rows, ctypes.POINTER(C.llama_seq_id)),
            ("logits", self.wanted, ctypes.c_int8),
        ):
            setattr(self._struct, field, array.ctypes.data_as(ctypes.POINTER(kind)))

    def decode(self, context: Any, n_tokens: int) -> bool:
        """Decode the first `n_tokens`; False when the stop flag ended it early."""
        self._struct.n_tokens = n_tokens
        code = C.llama_decode(context, self._struct)
        if code == 0:
            return True
        if code == 1:
            raise DecodeError(
                f"llama.cpp found no room in the KV cache for {n_tokens} tokens. "
                "Open the session with a larger n_ctx, or remove a sequence."
            )
        return self._ended("llama_decode", code)

    def encode(self, context: Any, n_tokens: int) -> bool:
        """Encode the first `n_tokens`, for a network without a cache; False when stopped."""
        self._struct.n_tokens = n_tokens
        return self._ended("llama_encode", C.llama_encode(context, self._struct))

    def _ended(self, function: str, code: int) -> bool:
        if code not in (0, 2):
            n_tokens = self._struct.n_tokens
            raise DecodeError(
                f"{function} failed with code {code} on a batch of {n_tokens} tokens."
            )
        return code == 0


class LogitRows:
    """The rows of logits of a context's last batch: views of llama.cpp's memory, no copies.

    A view is made once for each place in that memory and belongs to this object, which must go
    with its context: no row may be looked at after the context was freed.

    Args:
        context: the native context; open for as long as this is used.
        n_vocab: numbers in a row.
    """

    def __init__(self, context: Any, n_vocab: int) -> None:
        self._context = context
        self._row_type: Any = ctypes.c_float * n_vocab
        self._views: dict[int, NDArray[np.float32]] = {}  # by address

    def __getitem__(self, place: int) -> NDArray[np.float32]:
        """The row of the token at a place of the batch, float32, shape (n_vocab,); -1 is the last.

        Raises:
            DecodeError: no logits were wanted there.
        """
        address = _logits_address(self._context, place)
        view = self._views.get(address)
        return view if view is not None else self._new_view(address, place)

    def _new_view(self, address: int | None, place: int) -> NDArray[np.float32]:
        if not address:
            raise DecodeError(f"llama.cpp has no logits at position {place} of the last batch.")
        if len(self._views) >= _MOST_VIEWS:  # its buffer moves when it grows
            self._views.clear()
        view = np.frombuffer(self._row_type.from_address(address), np.float32)
        self._views[address] = view
        return view

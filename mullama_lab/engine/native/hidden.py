"""Checked calls of llama.cpp on contexts that give what the layers of a network pass on.

llama.cpp names the residual stream after each layer `l_out` and shows every tensor that it
computes to a callback (`tensors`), which copies those here. After the last one that is wanted the
callback ends the computation, so that no logits are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native.batch import Batch
from mullama_lab.engine.native.context import StopFlag, clear_memory, free_context, new_context
from mullama_lab.engine.native.library import C
from mullama_lab.engine.native.tensors import TensorCallback, get_values, n_bytes, tensor_name
from mullama_lab.errors import DecodeError


class HiddenContext:
    """A context that gives the residual stream after some layers. Not thread-safe.

    Args:
        model: the native model; must stay open for as long as this does.
        layers: which, in rising order, from 0 on.
        n_embd: numbers of one token.
        n_ctx: most tokens of a text.
        n_batch: most tokens of one batch.
        n_threads: CPU threads.
        stop: ends a batch early.
    """

    def __init__(
        self,
        model: Any,
        *,
        layers: Sequence[int],
        n_embd: int,
        n_ctx: int,
        n_batch: int,
        n_threads: int,
        stop: StopFlag,
    ) -> None:
        self._places = {f"l_out-{layer}".encode(): i for i, layer in enumerate(layers)}
        self._n_embd, self._layers = n_embd, list(layers)
        self._rows = np.empty((0, 0, n_embd), np.float32)
        self._n_had = np.zeros(len(layers), np.int64)
        self._callback = TensorCallback(self._shown)
        self.handle = new_context(
            model,
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_ubatch=n_batch,
            n_threads=n_threads,
            n_seq_max=1,
            stop=stop,
            gives_vectors=True,
            on_tensor=self._callback.native,
        )
        self._batch = Batch(C.llama_n_batch(self.handle))

    @property
    def n_batch(self) -> int:
        return self._batch.capacity

    def forget(self) -> None:
        """Empty the memory: the next text begins."""
        clear_memory(self.handle)

    def states(self, tokens: Sequence[int], first: int) -> NDArray[np.float32] | None:
        """The streams of some tokens, which go on from the `first` before; None when stopped.

        Returns:
            a new array, float32, (n_layers, n_tokens, n_embd).

        Raises:
            DecodeError: llama.cpp failed, or names no such layer of this architecture.
        """
        n, batch = len(tokens), self._batch
        batch.token[:n], batch.pos[:n] = tokens, range(first, first + n)
        batch.seq[:n], batch.wanted[:n] = 0, True
        self._rows = np.empty((len(self._places), n, self._n_embd), np.float32)
        self._n_had[:] = 0
        finished = batch.decode(self.handle, n)
        self._callback.raise_error()
        if not finished:
            return None
        if (self._n_had != n).any():
            missing = self._layers[int(np.argmax(self._n_had != n))]
            raise DecodeError(
                f"llama.cpp shows no stream after layer {missing} of this architecture, so "
                "its hidden states cannot be read."
            )
        return self._rows

    def close(self) -> None:
        """Free the context."""
        if self.handle is not None:
            free_context(self.handle)
            self.handle = None

    def _shown(self, tensor: int, ask: bool) -> bool:
        """Whether a tensor is wanted, and once it is there, whether to go on."""
        place = self._places.get(tensor_name(tensor))
        if ask or place is None:
            return place is not None
        self._copy(tensor, place)
        return place < len(self._places) - 1

    def _copy(self, tensor: int, place: int) -> None:
        had, rows = int(self._n_had[place]), self._rows[place]
        n, left_over = divmod(n_bytes(tensor), 4 * self._n_embd)
        if left_over or had + n > len(rows):
            raise DecodeError("the stream after a layer is of another size than the model says.")
        get_values(tensor, rows[had:].ctypes.data, 0, n * 4 * self._n_embd)
        self._n_had[place] += n

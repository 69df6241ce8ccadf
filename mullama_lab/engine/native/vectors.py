"""Checked calls of llama.cpp on contexts that give a vector for each token.

The rules are those of the package. A network with a memory decodes, one without (a BERT) encodes;
llama.cpp aborts when it is asked for the other, or for more tokens than a batch has room for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native.batch import Batch
from mullama_lab.engine.native.context import StopFlag, clear_memory, new_context
from mullama_lab.engine.native.library import C
from mullama_lab.errors import ClosedError, DecodeError

MOST_SEQUENCES = 256  # of one batch, in llama.cpp


def vector_width(model: Any) -> int:
    """How many numbers the vector of a token has."""
    return C.llama_model_n_embd_out(model)


class TokenVectors:
    """A context that gives the vectors of all tokens of a batch. Not thread-safe.

    Args:
        model: the native model; must stay open for as long as this does.
        n_ctx: tokens that the memory holds, if there is one; at least n_batch.
        n_batch: most tokens of one batch.
        n_texts: most texts of one batch.
        n_threads: CPU threads.
        stop: ends a batch early.
    """

    def __init__(
        self,
        model: Any,
        *,
        n_ctx: int,
        n_batch: int,
        n_texts: int,
        n_threads: int,
        stop: StopFlag,
    ) -> None:
        n_texts = min(n_texts, n_batch, MOST_SEQUENCES)  # llama.cpp aborts on more
        self._context = new_context(
            model,
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_ubatch=n_batch,
            n_threads=n_threads,
            n_seq_max=n_texts,
            stop=stop,
            gives_vectors=True,
        )
        self.width = vector_width(model)
        self.n_texts = n_texts
        self.has_memory = bool(C.llama_get_memory(self._context))
        self._batch = Batch(C.llama_n_batch(self._context))
        self._n_vocab = C.llama_vocab_n_tokens(C.llama_model_get_vocab(model))

    @property
    def n_batch(self) -> int:
        """Tokens that one batch has room for."""
        return self._batch.capacity

    def forget(self) -> None:
        """Empty the memory."""
        if self.has_memory:
            clear_memory(self._context)

    def vectors(self, texts: Sequence[Sequence[int]], first: int = 0) -> NDArray[np.float32] | None:
        """The vectors of all tokens of some texts, one text after the other, in a new array.

        Args:
            texts: token ids. Each text is read by itself.
            first: the position of the first token, where a text goes on that the memory holds.

        Returns:
            shape (n_tokens, width); None when the stop flag ended it.
        """
        if not self._context:
            raise ClosedError("this context was freed. Open another one.")
        lengths = [len(text) for text in texts]
        n = sum(lengths)
        tokens = np.fromiter((token for text in texts for token in text), np.int64, n)
        self._check(tokens, len(texts), n)
        batch = self._batch
        batch.token[:n] = tokens
        batch.pos[:n] = np.concatenate([np.arange(first, first + length) for length in lengths])
        batch.seq[:n] = np.repeat(np.arange(len(texts)), lengths)
        batch.wanted[:n] = True
        run = batch.decode if self.has_memory else batch.encode
        if not run(self._context, n):
            return None
        pointer = C.llama_get_embeddings(self._context)
        if not pointer:
            raise DecodeError("llama.cpp has no vectors for the tokens of the last batch.")
        address = ctypes.addressof(pointer.contents)
        buffer: Any = (ctypes.c_float * (n * self.width)).from_address(address)
        return np.frombuffer(buffer, np.float32).reshape(n, self.width).copy()

    def _check(self, tokens: NDArray[np.int64], n_texts: int, n: int) -> None:
        if not 0 < n <= self.n_batch:
            raise ValueError(f"{n} tokens: a batch has 1 to {self.n_batch}.")
        if n_texts > self.n_texts:
            raise ValueError(f"{n_texts} texts: a batch has at most {self.n_texts}.")
        if tokens.min() < 0 or tokens.max() >= self._n_vocab:
            raise ValueError(f"a token is outside the vocabulary, 0 to {self._n_vocab - 1}.")

    def close(self) -> None:
        """Free the context."""
        if self._context:
            C.llama_free(self._context)
            self._context = None

"""The network of a model, opened to give a vector for each token.

Many texts go through it side by side, each by itself, and a long one in pieces. It knows token
ids and vectors. It does not know prefixes, or which of the vectors are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.encoder.presets import is_causal
from mullama_lab.engine.gguf import projection
from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.native.context import StopFlag
from mullama_lab.engine.native.vectors import MOST_SEQUENCES, TokenVectors, vector_width
from mullama_lab.engine.options import whole
from mullama_lab.errors import ModelLoadError
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.encoder.input import Input
    from mullama_lab.engine.model import Model

BATCH_TOKENS = 512
LOGITS_BYTES = 64 << 20  # a generative network computes logits too, which nobody asked for


class Network:
    """A context that gives vectors. Not thread-safe.

    Args:
        model: one that `must_encode` lets through; must stay open for as long as this does.
        batch_tokens: most tokens of one pass, and of one text; None takes 512 where it can.
        n_threads: CPU threads.
        stop: ends a pass early.

    Attributes:
        window: most tokens of one text.
        n_batch: most tokens of one pass; a longer text goes through in pieces.
        n_texts: most texts of one pass.
        dim: how many numbers a vector has.
    """

    def __init__(
        self, model: Model, *, batch_tokens: int | None, n_threads: int, stop: StopFlag
    ) -> None:
        longest = model.n_ctx_train or BATCH_TOKENS
        if batch_tokens is None:
            batch_tokens = min(longest, BATCH_TOKENS)
        self.window = n_batch = min(longest, whole("batch_tokens", batch_tokens, 8, 1 << 16))
        # A text that is read from left to right may come in pieces, so no batch need be large.
        if is_causal(model) and not model.has_encoder:
            n_batch = min(n_batch, max(8, LOGITS_BYTES // (4 * model.n_vocab)))
        _must_fit_memory(model, self.window, n_batch)
        self._weights = model._weight_files
        self._context = TokenVectors(
            model._handle,
            n_ctx=self.window,
            n_batch=n_batch,
            n_texts=1 if model.is_recurrent else MOST_SEQUENCES,
            n_threads=n_threads,
            stop=stop,
        )
        self.n_batch = self._context.n_batch
        self.n_texts = self._context.n_texts
        self.dim = self._context.width

    def passes(self, inputs: Sequence[Input]) -> Iterator[list[Input]]:
        """Texts that go through the network together, in their order."""
        group: list[Input] = []
        n_tokens = 0
        for made in inputs:
            over = n_tokens + len(made.ids) > self.n_batch
            if group and (over or len(group) == self.n_texts):
                yield group
                group, n_tokens = [], 0
            group.append(made)
            n_tokens += len(made.ids)
        if group:
            yield group

    def vectors(self, texts: Sequence[list[int]]) -> NDArray[np.float32] | None:
        """The vectors of all tokens of some texts; None if it was stopped."""
        context = self._context
        if not texts:
            return np.empty((0, self.dim), np.float32)
        context.forget()
        self._weights.must_be_whole()
        if sum(map(len, texts)) <= self.n_batch:
            return context.vectors(texts)
        (text,) = texts  # longer than a batch
        found = []
        for first in range(0, len(text), self.n_batch):
            self._weights.must_be_whole()
            piece = context.vectors([text[first : first + self.n_batch]], first)
            if piece is None:
                return None
            found.append(piece)
        return np.concatenate(found)

    def close(self) -> None:
        """Free the context."""
        self._context.close()


def must_encode(model: Model) -> None:
    """Refuse models whose tokens have no vectors, or that llama.cpp would abort on."""
    if not hasattr(model, "must_be_open") or isinstance(model, type):
        raise TypeError(f"model={brief(model)}: it must be a Model.")
    model.must_be_open()
    if model.vocab_only:
        raise ModelLoadError(
            f"{model.name} was loaded with vocab_only=True, so it has no weights. "
            "Load it without vocab_only to encode."
        )
    if model.n_vocab == 0 or model.vocab_type == "NONE":
        raise ModelLoadError(f"{model.name} has no vocabulary, so it cannot read a text.")
    if model.has_encoder and model.has_decoder:
        raise ModelLoadError(
            f"{model.name} ({model.architecture}) has an encoder and a decoder; its vectors are "
            "not those of a text alone. Use an embedding model or a decoder-only one."
        )
    with model._memory.in_use():
        width = vector_width(model._handle)
    wrong = projection.problem(model.projection, model.n_embd, width)
    if wrong:
        raise ModelLoadError(
            f"{model.name} has no vectors that can be read: {wrong}. "
            "Fetch another conversion of the model."
        )


def _must_fit_memory(model: Model, window: int, n_batch: int) -> None:
    """Refuse a batch that would not fit: the system may kill the process when it fills."""
    seen = 4 * window * n_batch  # what each token of a batch may look at
    size = seen + 4 * n_batch * (model.n_vocab + 16 * model.n_embd)
    _, free = total_and_free()
    if size > free:
        raise ValueError(
            f"batch_tokens={window}: it would take about {size / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free. Use a smaller batch_tokens."
        )

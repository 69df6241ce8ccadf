"""One llama.cpp context and what its cache holds. Not thread-safe: one worker owns it.

It knows token ids, positions and rows. It does not know text, chains or traces. Whatever
happens (stop, error), the cache afterwards ends at a token boundary that `tokens` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import _native as native
from mullama_lab.errors import ContextFull, Stopped

Logits = NDArray[np.float32]  # (n_vocab,)

SCORE_BYTES = 64 << 20  # logits that one piece of a scored text may take


class Context:
    """The native context of a session, with the tokens of its cache."""

    def __init__(self, handle: Any, n_vocab: int, stop: native.StopFlag) -> None:
        self.handle = handle
        self.n_vocab = n_vocab
        self.n_ctx = native.n_ctx(handle)  # of one sequence
        self.stop = stop
        self.batch = native.Batch(native.n_batch(handle))
        self.tokens: list[int] = []  # what the cache of sequence 0 holds
        self.n_decoded = 0  # tokens decoded since the context was opened

    def close(self) -> None:
        if self.handle is not None:
            native.free_context(self.handle)
            self.handle = None

    def forget(self) -> None:
        """Empty the cache."""
        native.clear_memory(self.handle)
        self.tokens = []

    def prefill(
        self, tokens: Sequence[int], progress: Callable[[int, int], None] | None = None
    ) -> Logits:
        """Make the cache hold exactly these tokens; the row of logits after the last one.

        The longest prefix already in the cache is reused; at least one token is decoded, since
        the row comes from it. `progress(done, total)` counts reused tokens as done.
        """
        self._must_fit(len(tokens))
        self._rewind(min(self._n_common(tokens), len(tokens) - 1))
        while len(self.tokens) < len(tokens):
            done = len(self.tokens)
            if progress is not None:
                progress(done, len(tokens))
            part = tokens[done : done + self.batch.capacity]
            self._decode(
                part,
                wanted=[
                    done + len(part) == len(tokens) and i == len(part) - 1 for i in range(len(part))
                ],
            )
        if progress is not None:
            progress(len(tokens), len(tokens))
        return native.logits_view(self.handle, -1, self.n_vocab)

    def advance(self, token: int) -> Logits:
        """Decode one more token; the row of logits after it."""
        self._must_fit(len(self.tokens) + 1)
        self._decode([token], [True])
        return native.logits_view(self.handle, -1, self.n_vocab)

    def score(self, tokens: Sequence[int]) -> Iterator[Logits]:
        """Decode a text and yield the row after each of its tokens, in pieces that fit memory."""
        self._must_fit(len(tokens))
        self._rewind(0)
        size = max(1, min(self.batch.capacity, SCORE_BYTES // (4 * self.n_vocab)))
        for start in range(0, len(tokens), size):
            part = tokens[start : start + size]
            self._decode(part, [True] * len(part))
            for i in range(len(part)):
                yield native.logits_view(self.handle, i, self.n_vocab)

    @property
    def room(self) -> int:
        """How many tokens still fit."""
        return self.n_ctx - len(self.tokens)

    def _n_common(self, tokens: Sequence[int]) -> int:
        n = 0
        for ours, theirs in zip(self.tokens, tokens, strict=False):
            if ours != theirs:
                break
            n += 1
        return n

    def _rewind(self, n: int) -> None:
        """Keep the first n tokens; all go where the cache cannot drop a tail."""
        if n < len(self.tokens):
            if n > 0 and native.drop_tail(self.handle, 0, n):
                del self.tokens[n:]
            else:
                self.forget()

    def _must_fit(self, n: int) -> None:
        if n > self.n_ctx:
            raise ContextFull(
                f"{n} tokens do not fit in a context of {self.n_ctx}. "
                "Open the session with a larger n_ctx, or shorten the prompt."
            )

    def _decode(self, tokens: Sequence[int], wanted: Sequence[bool]) -> None:
        n, first, batch = len(tokens), len(self.tokens), self.batch
        if self.stop:  # only a CPU looks at it while it decodes
            raise Stopped(f"stopped after {first} tokens.")
        batch.token[:n] = tokens
        batch.pos[:n] = np.arange(first, first + n)
        batch.wanted[:n] = wanted
        try:
            finished = batch.decode(self.handle, n)
        except BaseException:
            self._back_to_boundary()
            raise
        if not finished:
            self._back_to_boundary()
            raise Stopped(f"stopped after {first} tokens.")
        self.tokens.extend(int(t) for t in tokens)
        self.n_decoded += n

    def _back_to_boundary(self) -> None:
        if not self.tokens or not native.drop_tail(self.handle, 0, len(self.tokens)):
            self.forget()

"""Hidden states: what each layer of a model passes on, for every token of a text.

They are read in a context of their own, which goes when they are there: a session pays nothing
for what it could be asked. Texts go through in batches, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.bar import bar
from mullama_lab.engine.handle import ContextOwner
from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.native.context import StopFlag
from mullama_lab.engine.native.hidden import HiddenContext
from mullama_lab.engine.options import listed, whole
from mullama_lab.engine.steering.steering import Steering, Weights
from mullama_lab.engine.work import Job
from mullama_lab.errors import DecodeError, Stopped

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session import Session

BATCH_TOKENS = 512
LOGITS_BYTES = 64 << 20  # what llama.cpp sets aside for the logits of a batch, made or not

Visit = Callable[[int, NDArray[np.float32]], object]


class HiddenStates(ContextOwner):
    """A context that reads hidden states, and its worker. Use it in a `with` block.

    Args:
        model: one that a session can be opened on.
        layers: which, from 0 on; None is all.
        n_ctx: most tokens of a text.
        n_threads: CPU threads.
        steering: what acts on the weights meanwhile.
        session: one whose `stop` ends a reading, too.

    Attributes:
        layers: those that are read, in rising order.
    """

    def __init__(
        self,
        model: Model,
        *,
        layers: Iterable[int] | None = None,
        n_ctx: int,
        n_threads: int,
        steering: Steering | None = None,
        session: Session | None = None,
    ) -> None:
        self.model, self.n_ctx, self._session = model, n_ctx, session
        self.layers = checked_layers(layers, model)
        n_batch = min(n_ctx, BATCH_TOKENS, max(8, LOGITS_BYTES // (4 * model.n_vocab)))
        self._stop = StopFlag()
        with model._memory.in_use():
            self._context = HiddenContext(
                model._handle,
                layers=self.layers,
                n_embd=model.n_embd,
                n_ctx=n_ctx,
                n_batch=n_batch,
                n_threads=n_threads,
                stop=self._stop,
            )
            self._own(
                self._context,
                self._stop,
                what="reader of hidden states",
                opened_by="session.hidden()",
                caller="visit",
            )
        if steering is not None:
            weights = Weights.of(steering, model)
            self._do(lambda: weights.act_in(self._context.handle)).result_or_stop()

    def read(self, texts: Sequence[Sequence[int]], visit: Visit, *, progress: bool = True) -> None:
        """Call `visit(place, states)` for each text, on the worker's thread.

        Args:
            texts: token ids, each of 1 to n_ctx.
            visit: gets a new float32 array of shape (n_layers, n_tokens, n_embd).
            progress: show a bar of tokens if it takes longer than two seconds.

        Raises:
            Stopped: it was stopped before it was done.
            DecodeError: llama.cpp failed, or shows no such layers of this architecture.
        """
        done = [0]
        shown = bar("hidden states", sum(map(len, texts)), " tokens", shown=progress)
        job = self._do(lambda: self._read(texts, visit, done))
        with nullcontext() if self._session is None else self._session._stops_too(job):
            job.result_beside(shown, lambda: done[0])

    def _do(self, work: Callable[[], Any]) -> Job[Any]:
        self.must_be_open()
        job = Job(work, self)
        self._worker.submit(job)
        return job

    def _read(self, texts: Sequence[Sequence[int]], visit: Visit, done: list[int]) -> None:
        context = self._context
        for place, text in enumerate(texts):
            context.forget()
            parts = []
            for first in range(0, len(text), context.n_batch):
                self.model._weight_files.must_be_whole()
                part = context.states(text[first : first + context.n_batch], first)
                if part is None or self._stop:
                    raise Stopped(f"stopped after {place} of {len(texts)} texts.")
                parts.append(part)
                done[0] += part.shape[1]
            states = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            if not np.isfinite(states).all():
                raise DecodeError(
                    f"{self.model.name} computes hidden states that are no numbers: its weights "
                    "are damaged, or an adapter or a control vector is too strong."
                )
            visit(place, states)


def checked_layers(layers: Iterable[int] | None, model: Model) -> list[int]:
    """Layers of a model, in rising order; ValueError if there are none of that number."""
    last = model.n_layer - 1
    if layers is None:
        return list(range(last + 1))
    if isinstance(layers, (int, np.integer)):
        layers = [int(layers)]
    known = sorted({whole("a layer", one, 0, last) for one in listed("layers", layers, "int")})
    if not known:
        raise ValueError(f"layers is empty: name some of 0 to {last}, or None for all.")
    return known


def must_fit_memory(n_tokens: int, layers: Sequence[int], model: Model) -> None:
    """Refuse states that would not fit in what is free; ValueError."""
    size = 8 * n_tokens * len(layers) * model.n_embd  # twice: the parts, and all of them
    _, free = total_and_free()
    if size > free:
        raise ValueError(
            f"the hidden states of {n_tokens} tokens in {len(layers)} layers take about "
            f"{size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. Name fewer layers."
        )

"""How a session opens, waits and ends: one context, and the thread that owns it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from mullama_lab.engine.cache import Context
from mullama_lab.engine.cache.cache import MOMENT
from mullama_lab.engine.handle import ContextOwner
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.native import context as native
from mullama_lab.engine.options import flag, kv_types, one_of, threads, whole
from mullama_lab.engine.session.opening import must_fit_memory, must_generate, warn_past_training
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.worker import Job

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

T = TypeVar("T")

N_SEQUENCES = 8  # of a session, unless told otherwise


class SessionCore(ContextOwner):
    """What every session is: a context, its worker, and how the two come and go."""

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int | None = None,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
        n_seq_max: int | None = None,
        flash_attention: str = "auto",
        kv_type: str | tuple[str, str] = "f16",
        kv_unified: bool = True,
    ) -> None:
        must_generate(model)
        if n_ctx is None:
            n_ctx = min(4096, model.n_ctx_train or 4096)
        kv_unified = flag("kv_unified", kv_unified)
        n_ctx = whole("n_ctx", n_ctx, 1, 1 << 24)
        n_batch = min(whole("n_batch", n_batch, 1, 1 << 16), n_ctx)
        if n_seq_max is None:  # more cost nothing where they share a buffer
            n_seq_max = min(N_SEQUENCES, n_batch) if kv_unified else 1
        n_seq_max = whole("n_seq_max", n_seq_max, 1, 256)
        n_each = n_ctx if kv_unified else n_ctx // n_seq_max
        if n_each == 0:
            raise ValueError(
                f"n_ctx={n_ctx}: with kv_unified=False each of n_seq_max={n_seq_max} sequences has "
                "an equal part of it, which would be none. Use a larger n_ctx."
            )
        n_batch = max(n_batch, n_seq_max)  # llama.cpp aborts on one of fewer tokens
        n_ubatch = min(whole("n_ubatch", n_ubatch, 1, 1 << 16), n_batch)
        self.n_threads = threads(n_threads)
        types = kv_types(kv_type)
        one_of("flash_attention", flash_attention, native.FLASH_ATTENTION)
        must_fit_memory(model, n_ctx, n_ubatch, flash_attention=flash_attention)
        warn_past_training(model, n_each)
        self.model = model
        self.last_trace: Trace | None = None
        self.last_traces: list[Trace] = []
        self.run: Run | None = None
        self._watchers: list[Callable[[Run], None]] = []
        self.settings: Mapping[str, Any] = MappingProxyType(
            {
                "n_ctx": n_ctx,
                "n_batch": n_batch,
                "n_ubatch": n_ubatch,
                "n_threads": self.n_threads,
                "n_seq_max": n_seq_max,
                "flash_attention": flash_attention,
                "kv_type": types,
                "kv_unified": bool(kv_unified),
            }
        )
        stop = native.StopFlag()
        with model._memory.in_use():
            handle = native.new_context(
                model._handle,
                n_ctx=max(n_ctx, n_seq_max),  # it aborts on fewer; its own rounding is left unused
                n_batch=n_batch,
                n_ubatch=n_ubatch,
                n_threads=self.n_threads,
                n_seq_max=n_seq_max,
                flash_attention=flash_attention,
                kv_types=types,
                kv_unified=bool(kv_unified),
                stop=stop,
            )
            self._context = Context(
                handle,
                model.n_vocab,
                stop,
                n_ctx=n_each,
                shares_cells=bool(kv_unified),
                before_decode=model._weight_files.must_be_whole,
            )
            self.n_ctx = self._context.n_ctx
            self.n_seq_max = n_seq_max
            self._own(
                self._context,
                stop,
                what="session",
                opened_by="model.session()",
                caller="a Custom stage",
            )

    def give_way(self) -> None:
        """Let generation wait for a moment before its next token: a person is moving something.

        For a kernel, a server and a browser that must follow a hand on one machine. It does
        nothing where decoding leaves them two cores, and costs at most 0.1 s a token.
        """
        if self.n_threads > (os.cpu_count() or 1) - 2:
            self._context.way_until = monotonic() + MOMENT

    def _do(self, work: Callable[[], T]) -> T:
        """Let the worker do something, and wait for it."""
        self.must_be_open()
        return self._worker.submit(Job(work, self)).result_or_stop()

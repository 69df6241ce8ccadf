"""How a context is opened for a session, and what memory it will take."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.cache import Cache
from mullama_lab.engine.memory import Buffer
from mullama_lab.engine.memory.buffers import must_be_heard, read
from mullama_lab.engine.native import context as native
from mullama_lab.engine.native.log import said_of_sizes

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session.settings import Settings


MOST_LAID_OUT = 1 << 20  # cells; each takes 52 bytes, though the cache itself takes none then


def open_cache(
    model: Model, settings: Settings, stop: native.StopFlag, *, on_tensor: Any = None
) -> Cache:
    """The native context for checked settings, with an empty cache.

    Args:
        on_tensor: llama.cpp's callback for each tensor that it computes.

    Raises:
        ModelLoadError: llama.cpp refused them.
    """
    return Cache(
        _open_context(model._handle, settings, stop, on_tensor),
        model.n_vocab,
        stop,
        n_ctx=settings.n_each,
        shares_cells=settings.kv_unified,
        before_decode=model._weight_files.must_be_whole,
        reproducible=settings.reproducible,
    )


def lay_out(handle: Any, settings: Settings) -> tuple[Buffer, ...]:
    """The buffers that a session of these settings takes; nothing of their size is allocated.

    Above `MOST_LAID_OUT` tokens they are told from two contexts of fewer: all grow by as much for
    each more.

    Args:
        handle: a native model without weights (`no_weights` of `load_model`).
        settings: settled ones.

    Raises:
        ModelLoadError: llama.cpp refused them, or its log, which has the sizes, was not heard.
    """
    n_ctx = settings.n_ctx
    assert isinstance(n_ctx, int)
    if n_ctx <= MOST_LAID_OUT:
        with said_of_sizes() as said:
            native.free_context(_open_context(handle, settings, native.StopFlag()))
        buffers = read(said)
        must_be_heard(buffers, "compute")
        return buffers
    few, many = (
        lay_out(handle, replace(settings, n_ctx=n)) for n in (MOST_LAID_OUT // 2, MOST_LAID_OUT)
    )
    steps = (n_ctx - MOST_LAID_OUT) / (MOST_LAID_OUT // 2)
    return tuple(
        replace(b, size_bytes=b.size_bytes + round(steps * (b.size_bytes - a.size_bytes)))
        for a, b in zip(few, many, strict=True)
    )


def _open_context(
    handle: Any, settings: Settings, stop: native.StopFlag, on_tensor: Any = None
) -> Any:
    n_ctx, n_batch, n_ubatch = settings.n_ctx, settings.n_batch, settings.n_ubatch
    n_threads, n_seq_max, types = settings.n_threads, settings.n_seq_max, settings.kv_type
    assert isinstance(n_ctx, int) and n_threads and n_seq_max and not isinstance(types, str)
    return native.new_context(
        handle,
        n_ctx=max(n_ctx, n_seq_max),  # it aborts on fewer; its own rounding is left unused
        n_batch=n_batch,
        n_ubatch=n_ubatch,
        n_threads=n_threads,
        n_seq_max=n_seq_max,
        flash_attention=settings.flash_attention,
        kv_types=types,
        kv_unified=settings.kv_unified,
        stop=stop,
        on_tensor=on_tensor,
    )

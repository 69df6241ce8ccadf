"""How a context is opened for a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mullama_lab.engine.cache import Cache
from mullama_lab.engine.native import context as native

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session.settings import Settings


def open_cache(
    model: Model, settings: Settings, stop: native.StopFlag, *, on_tensor: Any = None
) -> Cache:
    """The native context for checked settings, with an empty cache.

    Args:
        on_tensor: llama.cpp's callback for each tensor that it computes.

    Raises:
        ModelLoadError: llama.cpp refused them.
    """
    n_ctx, n_batch, n_ubatch = settings.n_ctx, settings.n_batch, settings.n_ubatch
    n_threads, n_seq_max, types = settings.n_threads, settings.n_seq_max, settings.kv_type
    assert n_ctx and n_threads and n_seq_max and not isinstance(types, str)
    handle = native.new_context(
        model._handle,
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
    return Cache(
        handle,
        model.n_vocab,
        stop,
        n_ctx=settings.n_each,
        shares_cells=settings.kv_unified,
        before_decode=model._weight_files.must_be_whole,
        reproducible=settings.reproducible,
    )

"""Checked calls of llama.cpp on contexts: how one is opened, and the sequences in its KV cache.

The rules are those of the package. A context belongs to one thread; only its stop flag may be set
by another.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

from mullama_lab.engine.c_library import c_function
from mullama_lab.engine.native.library import C
from mullama_lab.engine.native.log import complaints
from mullama_lab.errors import ModelLoadError

KV_TYPES = {
    name: getattr(C, f"GGML_TYPE_{name.upper()}")
    for name in ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
}
FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}


class StopFlag:
    """A flag that llama.cpp reads in C at every graph node, at no measurable cost.

    C's `strlen` serves as the abort callback: an empty string lets the decode go on, a
    string of one character stops it. llama.cpp asks it on CPU only.
    """

    def __init__(self) -> None:
        self._bytes = ctypes.create_string_buffer(2)
        self.callback = ctypes.cast(c_function("strlen"), C.ggml_abort_callback)
        self.data = ctypes.cast(self._bytes, ctypes.c_void_p)

    def set(self) -> None:
        self._bytes[0] = b"\x01"

    def clear(self) -> None:
        self._bytes[0] = b"\x00"

    def __bool__(self) -> bool:
        return self._bytes[0] != b"\x00"


def new_context(
    model: Any,
    *,
    n_ctx: int,
    n_batch: int,
    n_ubatch: int,
    n_threads: int,
    n_seq_max: int,
    stop: StopFlag,
    flash_attention: str = "auto",
    kv_types: Sequence[str] = ("f16", "f16"),
    kv_unified: bool = True,
    whole_window: bool = True,
    gives_vectors: bool = False,
    on_tensor: Any = None,
) -> Any:
    """Open a context on a model: the one place where that is done.

    Args:
        model: the native model; must stay open for as long as the context does.
        n_ctx: tokens that its cache holds.
        n_batch: most tokens of one `llama_decode`, which are computed `n_ubatch` at a time.
        n_threads: CPU threads.
        n_seq_max: most sequences.
        stop: ends a batch early.
        flash_attention: "auto", "on" or "off".
        kv_types: of the keys and the values in the cache, each of `KV_TYPES`.
        kv_unified: all sequences share one buffer, so that they can share cells.
        whole_window: keep what left a sliding window; a cache without it cannot be rewound.
        gives_vectors: a vector for each token is wanted; else logits.
        on_tensor: llama.cpp's callback for each tensor that it computes; to be kept by the caller.

    Raises:
        ModelLoadError: llama.cpp refused, with its own words.
    """
    params = C.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, n_ubatch
    params.n_seq_max = n_seq_max
    params.n_threads = params.n_threads_batch = n_threads
    params.flash_attn_type = FLASH_ATTENTION[flash_attention]
    params.type_k, params.type_v = (KV_TYPES[name] for name in kv_types)
    params.kv_unified = kv_unified
    params.no_perf = False  # `counters` has times then, which two looks at the clock a batch cost
    params.swa_full = whole_window
    if gives_vectors:
        params.embeddings, params.pooling_type = True, C.LLAMA_POOLING_TYPE_NONE
    if on_tensor is not None:
        params.cb_eval = on_tensor
    params.abort_callback, params.abort_callback_data = stop.callback, stop.data
    with complaints() as heard:
        context = C.llama_init_from_model(model, params)
    if not context:
        kind, way_out = "a context", "n_ctx, or kv_type='f16'"
        if gives_vectors:
            kind, way_out = "a context for vectors", "batch_tokens"
        raise ModelLoadError(
            f"llama.cpp could not open {kind}: {heard.reason()}. Try a smaller {way_out}."
        )
    return context


class Counters(NamedTuple):
    """What llama.cpp counted of a context's work, with its own clock (`llama_perf_context`).

    Attributes:
        prompt_ms: time of batches of several tokens (`t_p_eval_ms`), and n_prompt their tokens.
        eval_ms: time of batches of one token (`t_eval_ms`), and n_eval how many there were.
    """

    prompt_ms: float
    eval_ms: float
    n_prompt: int
    n_eval: int


def counters(context: Any) -> Counters:
    """llama.cpp's counters since the context was opened; of its thread alone."""
    data = C.llama_perf_context(context)
    prompt_ms, eval_ms = data.t_p_eval_ms, data.t_eval_ms
    # It says one where there were none.
    return Counters(
        prompt_ms, eval_ms, data.n_p_eval if prompt_ms else 0, data.n_eval if eval_ms else 0
    )


free_context = C.llama_free
n_ctx = C.llama_n_ctx_seq
n_batch = C.llama_n_batch
n_seq_max = C.llama_n_seq_max
n_threads = C.llama_n_threads
wait_for_results = C.llama_synchronize


def set_threads(context: Any, n: int) -> None:
    """Compute with so many threads from now on, a token as well as a prompt."""
    C.llama_set_n_threads(context, n, n)


def is_recurrent(context: Any) -> bool:
    """Whether the cache is one state a sequence instead of a cell a token."""
    return bool(C.llama_model_is_recurrent(C.llama_get_model(context)))


def has_states(context: Any) -> bool:
    """Whether it keeps a state of a sequence, which cannot be cut: recurrent models and hybrids."""
    return is_recurrent(context) or bool(C.llama_model_is_hybrid(C.llama_get_model(context)))


def drop_tail(context: Any, seq_id: int, start: int) -> bool:
    """Forget positions `start` and later of one sequence; False if the cache cannot."""
    return bool(C.llama_memory_seq_rm(C.llama_get_memory(context), seq_id, start, -1))


def copy_sequence(context: Any, source: int, sequence: int, n: int) -> None:
    """Let an empty sequence share the first n positions of another one; needs a unified cache."""
    C.llama_memory_seq_cp(C.llama_get_memory(context), source, sequence, 0, n)


def first_position(context: Any, seq_id: int) -> int:
    """The first position of a sequence that the whole cache still holds; -1 if none."""
    return C.llama_memory_seq_pos_min(C.llama_get_memory(context), seq_id)


def clear_memory(context: Any) -> None:
    """Forget every sequence."""
    C.llama_memory_clear(C.llama_get_memory(context), False)

"""What the model and the memory must be for a session, checked before llama.cpp is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from mullama_lab.engine.native.context import KV_TYPES
from mullama_lab.engine.native.devices import devices
from mullama_lab.errors import ModelLoadError
from mullama_lab.warned import warn

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session.settings import Settings

MOST_TOKENS = 1 << 24  # of a context


def must_generate(model: Model) -> None:
    """Refuse models that would make llama.cpp abort when asked for the next token."""
    if not hasattr(model, "vocab_only"):
        raise TypeError(f"a {type(model).__name__} is not a Model; Model.load gives one.")
    causal = model.metadata.get(f"{model.architecture}.attention.causal", True)
    if model.vocab_only:
        raise ModelLoadError(
            f"{model.name} was loaded with vocab_only=True, so it has no weights. "
            "Load it without vocab_only to open a session."
        )
    if model.has_encoder or not model.has_decoder or not causal or model.n_vocab == 0:
        raise ModelLoadError(
            f"{model.name} ({model.architecture}) does not predict the next token of a text, "
            "which is what a session does. Use a decoder-only language model."
        )


def warn_past_training(model: Model, n_ctx: int) -> None:
    """Say it where a text may get longer than those the model was trained on.

    Where the file has RoPE scaling, which llama.cpp applies, that is the length it scales to.
    """
    scaling = {
        name: model.metadata.get(f"{model.architecture}.rope.scaling.{name}")
        for name in ("type", "factor", "original_context_length")
    }
    trained, by = model.n_ctx_train, ""
    factor, original = scaling["factor"], scaling["original_context_length"]
    if scaling["type"] in ("linear", "yarn") and isinstance(factor, (int, float)):
        if isinstance(original, int):
            trained = max(trained, int(original * min(factor, 1 << 20)))
        by = f", with its RoPE scaling ({scaling['type']} by {factor:g})"
    if 0 < trained < n_ctx:
        warn(
            f"n_ctx={n_ctx}: {model.name} was trained on texts of up to {trained} tokens{by}, and "
            "predicts worse in longer ones. Open the session with a smaller n_ctx, or keep each "
            "text that short."
        )


def must_fit_memory(model: Model, settings: Settings) -> None:
    """Refuse a context that would not fit: the system may kill the process when it fills.

    What is told from the metadata is the cache and what each token of a batch may look at: no more
    than llama.cpp takes, which a plan (`studies.planner`) has in full. It may be in the memory of
    any device that has layers.
    """
    n_ctx, n_ubatch = settings.n_ctx, settings.n_ubatch
    assert isinstance(n_ctx, int) and not isinstance(settings.kv_type, str)
    cache = _cache_bytes(model, n_ctx, settings.kv_type)
    # What each token of a batch may look at, a number each; and scores, which are not kept else.
    seen = 4 * (1 + model.n_head) if settings.flash_attention == "off" else 2
    size = cache + (seen * n_ctx * n_ubatch if cache else 0)
    free = sum(
        device.free_bytes
        for device in devices()
        if device.kind == "CPU" or model.placement.n_gpu_layers
    )
    if size > free:
        raise ValueError(
            f"n_ctx={n_ctx}: the context would take about {size / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free. Use a smaller n_ctx or n_ubatch, kv_type='q8_0', or "
            "n_ctx='fit'."
        )


def _cache_bytes(model: Model, n_ctx: int, kv_types: tuple[str, str]) -> float:
    """Bytes of keys and values, of models that keep both for each head: those of a llama."""
    about = {
        name: model.metadata.get(f"{model.architecture}.attention.{name}")
        for name in ("head_count_kv", "key_length", "value_length", "key_length_mla")
    }
    heads = about["head_count_kv"]
    by_layer = isinstance(heads, Sequence) and all(isinstance(n, int) for n in heads)
    n_heads = sum(heads) if by_layer else model.n_layer * model.n_head_kv  # type: ignore[arg-type]
    lengths = [
        length if isinstance(length := about[name], int) else model.n_embd // max(1, model.n_head)
        for name in ("key_length", "value_length")
    ]
    if about["key_length_mla"]:  # values are made of the keys
        lengths[1] = 0
    of_block = (GGML_QUANT_SIZES[GGMLQuantizationType(KV_TYPES[name])] for name in kv_types)
    per_head = sum(n * size / block for n, (block, size) in zip(lengths, of_block, strict=True))
    return n_ctx * n_heads * per_head

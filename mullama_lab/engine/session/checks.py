"""What the model and the memory must be for a session, checked before llama.cpp is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from mullama_lab.errors import ModelLoadError
from mullama_lab.warned import warn

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model


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


def must_fit_memory(model: Model, n_ctx: int, n_ubatch: int, *, flash_attention: str) -> None:
    """Refuse a context that would not fit: the system may kill the process when it fills."""
    keys = f"{model.architecture}.attention"
    head = model.n_embd // max(1, model.n_head)
    per_head = sum(
        length if isinstance(length := model.metadata.get(f"{keys}.{name}_length"), int) else head
        for name in ("key", "value")
    )
    cache = 2 * n_ctx * model.n_layer * model.n_head_kv * per_head
    seen = 4 * n_ctx * n_ubatch  # what each token of a batch may look at
    scores = seen * model.n_head if flash_attention == "off" else 0
    size = cache + seen + scores
    free = psutil.virtual_memory().available
    if size > free:
        raise ValueError(
            f"n_ctx={n_ctx}: the context would take about {size / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free. Use a smaller n_ctx or n_ubatch."
        )

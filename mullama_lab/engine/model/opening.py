"""What a model and a text must be for a session, and how a trace asks a model that may be gone."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import psutil

from mullama_lab.engine.per_model import once_per_model
from mullama_lab.errors import ClosedError, ContextFull, ModelLoadError
from mullama_lab.warned import warn

if TYPE_CHECKING:
    from mullama_lab.engine.model.model import Model


def piece_of(model: Model) -> Callable[[int], bytes]:
    """`model.piece`, without keeping the model: a trace is a record."""
    reference = weakref.ref(model)

    def piece(token: int) -> bytes:
        model = reference()
        if model is None:
            raise ClosedError("the model of this trace is gone.")
        return model.piece(token)

    return piece


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


@once_per_model
def _longest_token(model: Model) -> int:
    """Bytes of the longest token; 0 where there is no vocabulary."""
    tokens: Iterable[str] = model.metadata.get("tokenizer.ggml.tokens", ())
    return max((len(token.encode()) for token in tokens), default=0)


def must_be_short(model: Model, text: str, n_ctx: int) -> None:
    """Refuse a text that cannot fit before llama.cpp takes minutes to find its tokens."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size <= 16 * n_ctx:
        return
    longest = _longest_token(model)
    if longest and size > n_ctx * longest:
        raise ContextFull(
            f"the prompt has {size} bytes, but the context has room for {n_ctx} tokens, and no "
            f"token has more than {longest} bytes. "
            "Open the session with a larger n_ctx, or shorten the prompt."
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

"""Which texts cannot fit in a context, told without finding their tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mullama_lab.engine.per_model import once_per_model
from mullama_lab.errors import ContextFull

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model


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

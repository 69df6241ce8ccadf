"""A row of logits that a caller gives, and the tokens before it, checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mullama_lab.engine import native
from mullama_lab.engine.native import Logits
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model


def row_and_history(
    row: ArrayLike, history: Iterable[int], model: Model
) -> tuple[Logits, list[int]]:
    """A row that can be sampled from and the tokens before it, or an error that says what is wrong.

    Raises:
        ValueError: a row of another shape or with a NaN, or a token that the model has not.
        TypeError: no row, no token ids or no Model.
    """
    if not hasattr(model, "n_vocab"):
        raise TypeError(f"model={brief(model)}: give the Model, such as session.model.")
    checked = _checked_row(row, model.n_vocab)
    rule = "history is token ids in order, such as trace.history(step)"
    return checked, model.vocabulary.check_all(history, rule)


def _checked_row(row: ArrayLike, n_vocab: int) -> Logits:
    if isinstance(row, range):  # numpy would write all of it out
        raise TypeError(f"a row of logits is an array of {n_vocab} numbers, not {brief(row)}.")
    try:
        with np.errstate(over="ignore"):
            checked = np.ascontiguousarray(row, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(
            f"a row of logits is an array of {n_vocab} numbers, not {type(row).__name__}. "
            "session.logits(prompt) gives one."
        ) from None
    if checked.shape != (n_vocab,):
        raise ValueError(
            f"a row of logits for this model has shape ({n_vocab},), not {checked.shape}. "
            "session.logits(prompt) gives one."
        )
    best = checked.max()  # a maximum carries a NaN along
    if not abs(best) <= native.LARGEST_LOGIT:
        raise ValueError(
            "the row of logits has a NaN, nothing but -inf, or a best logit beyond "
            f"{native.LARGEST_LOGIT:g}. session.logits(prompt) gives one that can be sampled."
        )
    return checked

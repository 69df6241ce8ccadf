"""Custom: a stage that is a Python function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.native import Logits
from mullama_lab.engine.stages.stage import Stage
from mullama_lab.engine.stages.stage_sampler import StageSampler, Start
from mullama_lab.errors import StageFailed
from mullama_lab.glyphs import brief


@dataclass(frozen=True, repr=False)
class Custom(Stage):
    """Your own function `(logits, history) -> logits`.

    `logits` is float32 of shape (n_vocab,), minus infinity where a stage before removed the
    token; `history` holds the token ids so far, prompt included, as int32. Return a row of the
    same shape; minus infinity removes a token.

    >>> Custom(abs)
    Custom(abs)
    """

    label: ClassVar[str] = "Custom"
    source: ClassVar[str] = "a Python function"
    holds_code = True
    masked_tokens = "dropped"
    _positional = ("function",)
    function: Callable[[NDArray[np.float32], NDArray[np.int32]], NDArray[np.float32]]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"Custom takes a function (logits, history) -> logits, not {brief(self.function)}"
            )

    def sampler(self, start: Start) -> StageSampler:
        return _Custom(self, start)

    def _arguments(self) -> Iterator[str]:
        yield getattr(self.function, "__name__", type(self.function).__name__)

    def to_dict(self) -> dict[str, Any]:
        raise ValueError(
            f"{self!r} cannot go into a dict: a Python function is code, not a value. "
            "Take it out of the chain first, and add it again after reading."
        )

    @classmethod
    def _from_settings(cls, values: dict[str, Any]) -> Stage:
        raise ValueError("a Custom stage cannot be read from a dict: pass the function in Python")


class _Custom:
    def __init__(self, stage: Custom, start: Start) -> None:
        self.stage, self.n_vocab = stage, start.model.n_vocab
        self.history = list(start.history)

    def apply(self, candidates: native.Candidates, step: int) -> None:
        window = candidates.window
        row = np.full(self.n_vocab, -np.inf, np.float32)
        row[window["id"]] = window["logit"]
        try:
            answer = self.stage.function(row, np.array(self.history, np.int32))
        except Exception as error:
            raise StageFailed(
                f"{self.stage!r} raised {type(error).__name__}: {error}. "
                "Take the stage out of the chain, or mend the function."
            ) from error
        answer = self._checked(answer)
        kept = np.flatnonzero(answer > -np.inf)
        candidates.load(answer)
        candidates.keep(kept, is_sorted=False)

    def _checked(self, answer: object) -> Logits:
        rule = f"it must return float logits of shape ({self.n_vocab},) without NaN or +inf"
        try:
            row = np.asarray(answer)
            if np.iscomplexobj(row):
                raise TypeError
            row = row.astype(np.float32, copy=False)
        except Exception:  # whatever a foreign array type raises
            raise StageFailed(f"{self.stage!r} returned {type(answer).__name__}; {rule}") from None
        if row.shape != (self.n_vocab,):
            raise StageFailed(f"{self.stage!r} returned an array of shape {row.shape}; {rule}")
        if not (row <= native.LARGEST_LOGIT).all():
            raise StageFailed(
                f"{self.stage!r} returned a NaN or a logit above {native.LARGEST_LOGIT:g}; {rule}"
            )
        return row

    def accept(self, token: int) -> None:
        self.history.append(token)

"""Stages that look back at the text and make what was said before less likely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.options import listed
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.engine.rows.tail import Tail, Uncovered, not_in
from mullama_lab.engine.stages.lists import read_strings, write_strings
from mullama_lab.engine.stages.setting import TextRule, setting, text_setting
from mullama_lab.engine.stages.stage import Known, Stage, must_have_vocabulary
from mullama_lab.engine.stages.stage_sampler import NativeWithHistory, StageSampler, Start
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

MAX_WINDOW = 1 << 20  # llama.cpp allocates the window of penalties and DRY at once
WHOLE_HISTORY = 1 << 17  # tokens that `last_n=-1` looks back, at least


class LookingBack(Stage):
    """A stage that moves each token by where it is among the last tokens of the history."""

    masked_tokens = "left"
    last_n: int  # how many tokens back to look; -1 is the whole history

    def seen(self, history: NDArray[np.int32]) -> NDArray[np.int32]:
        """The tokens that it looks at."""
        return history if self.last_n < 0 else history[max(0, len(history) - self.last_n) :]

    def raises(self) -> bool:
        """Whether it may make a token more likely."""
        return False

    def repeated(
        self, history: NDArray[np.int32], token: int, change: float
    ) -> tuple[tuple[int, ...], int]:
        """Which tokens at the end of the history `token` would repeat a continuation of.

        And how many tokens ago they were continued so; nothing for a stage that only counts.

        Args:
            change: of the token's logit.
        """
        return (), 0

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        n_unknown = len(not_in(np.unique(self.seen(known.history)), known.kept))
        if n_unknown and self.raises():
            raise Uncovered(f"{self!r} may raise tokens that were not kept of the row")
        return tail.fewer(n_unknown)

    def _window(self, history: Sequence[int]) -> int:
        return max(WHOLE_HISTORY, 2 * len(history)) if self.last_n < 0 else self.last_n


@dataclass(frozen=True, repr=False)
class Penalties(LookingBack):
    """Make tokens that occurred lately less likely: by a factor, by count, by presence."""

    label: ClassVar[str] = "Penalties"
    source: ClassVar[str] = (
        "Keskar et al. 2019, arXiv:1909.05858; llama.cpp `llama_sampler_init_penalties`"
    )
    masks = False
    repeat: float = setting(
        1.0,
        0.01,
        100,
        "Divides positive logits and multiplies negative ones; 1 is off, usual is 1.05 to 1.2.",
        slider=(0.5, 2),
    )
    frequency: float = setting(
        0.0, -100, 100, "Subtracted once for each occurrence; 0 is off.", slider=(-2, 2)
    )
    presence: float = setting(
        0.0, -100, 100, "Subtracted once if the token occurred; 0 is off.", slider=(-2, 2)
    )
    last_n: int = setting(
        64,
        -1,
        MAX_WINDOW,
        "How many tokens back to look; -1 is the whole history, 0 is off.",
        slider=(-1, 1024),
        step=1,
        kind="int",
    )

    def why_inert(self) -> str:
        if self.last_n == 0:
            return "last_n is 0: it looks at no token"
        if self.repeat == 1 and self.frequency == 0 and self.presence == 0:
            return "repeat is 1, frequency and presence are 0"
        return ""

    def raises(self) -> bool:
        return self.repeat < 1 or self.frequency < 0 or self.presence < 0

    def sampler(self, start: Start) -> StageSampler:
        n = self._window(start.history)
        args = (start.model.n_vocab, n, self.repeat, self.frequency, self.presence)
        return NativeWithHistory(native.sampler("penalties", *args), start.history[-n:])


@dataclass(frozen=True, repr=False)
class DRY(LookingBack):
    """Make tokens that would extend a repeated phrase less likely, the more the longer it is."""

    label: ClassVar[str] = "DRY"
    source: ClassVar[str] = (
        "oobabooga/text-generation-webui PR 5677; llama.cpp `llama_sampler_init_dry`"
    )
    multiplier: float = setting(
        0.0, 0, 100, "The strength of the penalty; 0 is off, usual is 0.8.", slider=(0, 5)
    )
    base: float = setting(
        1.75,
        0,
        100,
        "The penalty grows by this factor for each token; below 1 it is off.",
        slider=(1, 4),
    )
    allowed_length: int = setting(
        2,
        0,
        MAX_WINDOW,
        "Repeats up to this many tokens are free.",
        slider=(1, 20),
        step=1,
        kind="int",
    )
    last_n: int = setting(
        64,
        -1,
        MAX_WINDOW,
        "How many tokens back to look; -1 is the whole history, 0 is off.",
        slider=(-1, 4096),
        step=1,
        kind="int",
    )
    breakers: tuple[str, ...] = text_setting(
        ("\n", ":", '"', "*"),
        TextRule('quoted texts that end a phrase, as in "\\n", ":"', read_strings, write_strings),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        breakers = tuple(listed("DRY.breakers", self.breakers, "texts"))
        for text in breakers:
            _must_be_breaker(text)
        if len(breakers) > 64:
            raise ValueError(f"DRY takes at most 64 breakers, not {len(breakers)}")
        object.__setattr__(self, "breakers", breakers)

    def why_inert(self) -> str:
        if self.multiplier == 0:
            return "multiplier is 0"
        if self.last_n == 0:
            return "last_n is 0: it looks at no token"
        if 0 < self.last_n <= self.allowed_length:
            return "it looks at no more tokens than may repeat freely"
        return "base is below 1" if self.base < 1 else ""

    def check(self, model: Model) -> None:
        if self.breakers:
            must_have_vocabulary(self, model)

    def sampler(self, start: Start) -> StageSampler:
        n = self._window(start.history)
        return NativeWithHistory(_dry(start.model, self, n).clone(), start.history[-n:])

    def repeated(
        self, history: NDArray[np.int32], token: int, change: float
    ) -> tuple[tuple[int, ...], int]:
        return repeated(self.seen(history), token, self._length(change))

    def _length(self, change: float) -> int | None:
        """How long a repeat its formula `multiplier * base ** (n - allowed_length)` is about."""
        if self.base <= 1.000001:  # then every length is as bad
            return None
        grown = math.log(max(-change, 1e-30) / self.multiplier) / math.log(self.base)
        return self.allowed_length + round(grown)


def _must_be_breaker(text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"DRY(breakers=...): {brief(text)} is not a string")
    size = len(text.encode("utf-8", "surrogatepass"))
    is_utf8 = not any("\ud800" <= c <= "\udfff" for c in text)
    if not 1 <= size <= 40 or "\0" in text or not is_utf8:
        raise ValueError(
            f"DRY(breakers=...): {brief(text)} must be 1 to 40 bytes of UTF-8 without NUL"
        )


@once_per_model
def _dry(model: Model, stage: DRY, last_n: int) -> native.NativeSampler:
    """DRY without history, to be cloned: reading the vocabulary for breakers is slow."""
    settings = (stage.multiplier, stage.base, stage.allowed_length)
    return native.dry_sampler(model._memory.vocabulary, *settings, last_n, stage.breakers)


def repeated(seen: NDArray[np.int32], token: int, n: int | None) -> tuple[tuple[int, ...], int]:
    """The end of a text that `token` followed earlier, and how many tokens ago it did.

    Args:
        n: how long that end is; None is the longest there is.
    """
    best, ago = 0, 0
    for place in np.flatnonzero(seen[1:] == token)[::-1] + 1:
        length = 0
        while length < place and seen[place - 1 - length] == seen[len(seen) - 1 - length]:
            length += 1
            if length == n:
                break
        if length > best:
            best, ago = length, len(seen) - int(place)
    return tuple(seen[len(seen) - best :].tolist()), ago

"""Margin: the setting at which a stage would have kept a token that it removed.

For stages that cut by a number the border follows from the candidates (`Stage.border`): a rank
for top-k, a sum for top-p and typical, a distance for min-p and top-n-sigma. llama.cpp compares in
float32, so the last digits are searched with its own samplers, as is all of it for the other
stages that a number loosens (`Stage.loosened_by`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.stages import Stage

__all__ = ["Margin", "margin"]
__dir__ = __all__.copy  # what tab completion offers

NEAR = 1e-4  # how far float32 may move a border, relative to it
DIGITS = 4  # that a border is shown with
WIDEST = 64.0  # bits that mirostat's mu is followed upwards


@dataclass(frozen=True)
class Margin:
    """The setting nearest to the one in force at which the stage keeps the token.

    Attributes:
        setting: its name; "mu" is not set but learnt by mirostat from the tokens so far.
        now: its value in force.
        value: the border: the token stays at it and beyond.
        at_least: whether it must be at least that value (else: at most).
    """

    setting: str
    now: float
    value: float
    at_least: bool

    def of(self, stage: Stage) -> Stage:
        """The stage with that setting."""
        return replace(stage, **{self.setting: self.value})

    @property
    def rounded(self) -> float:
        """The value in four digits, rounded to the side where the token stays."""
        value = self.value
        if isinstance(value, int) or value == 0:
            return value
        unit = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
        units = value / unit
        towards = math.ceil(units - 1e-9) if self.at_least else math.floor(units + 1e-9)
        return float(f"{towards * unit:.{DIGITS}g}")

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        value = str(self.value) if isinstance(self.value, int) else f"{self.rounded:.{DIGITS}g}"
        return f"{self.setting} {sign} {value} (was {self.now:g})"


def margin(
    stage: Stage,
    token: int,
    ids: NDArray[np.int32],
    logits: NDArray[np.float32],
    log_total: float,
    keeps: Callable[[Stage], bool] | None,
) -> Margin | None:
    """The margin of a stage that removed a token; None if no number of it would keep the token.

    Args:
        ids, logits: the candidates before the stage.
        log_total: the log-sum-exp of all tokens before the stage.
        keeps: asks llama.cpp whether a version of the stage keeps the token. None where only a
            part of the candidates is known: the border is then the computed one.
    """
    loosening = stage.loosened_by
    if loosening is None:
        return None
    name, at_least, always = loosening
    now, rule = getattr(stage, name), stage.settings()[name]
    if always is not None:
        return Margin(name, now, always, at_least)
    guess = stage.border(int(np.flatnonzero(ids == token)[0]), logits, log_total)
    if keeps is None:
        value = guess
    elif rule.kind == "int":
        value = guess if guess is not None and keeps(replace(stage, **{name: int(guess)})) else None
    else:
        loosest = rule.high if at_least else rule.low
        value = _searched(lambda x: keeps(replace(stage, **{name: x})), now, guess, loosest)
    if value is None or math.isnan(value):
        return None
    return Margin(name, now, int(value) if rule.kind == "int" else float(value), at_least)


def learnt_margin(now: float, keeps: Callable[[float], bool]) -> Margin | None:
    """The mu at which mirostat would have kept a token; None if none that it could learn does."""
    width = 1.0  # doubled: version 1 computes a whole number from mu, which overflows early
    while width <= WIDEST:
        value = _searched(keeps, now, None, now + width)
        if value is not None:
            return Margin("mu", now, value, True)
        width *= 2
    return None


def _searched(
    keeps: Callable[[float], bool], now: float, guess: float | None, loosest: float
) -> float | None:
    """The float32 nearest to `now` that keeps the token, on the way to the loosest setting."""
    removed, kept = now, loosest
    if guess is not None:  # a narrow bracket first
        slack = NEAR * max(abs(guess), 1e-6)
        for sign in (-1, 1):
            x = guess + sign * math.copysign(slack, loosest - now)
            if not min(now, loosest) < x < max(now, loosest):
                continue
            if keeps(x):
                kept = x
                break
            removed = x
    if kept == loosest and not keeps(loosest):
        return None
    while True:
        middle = _halfway(removed, kept)
        if middle is None:
            return kept
        if keeps(middle):
            kept = middle
        else:
            removed = middle


def _halfway(a: float, b: float) -> float | None:
    """A float32 between two, halfway on the scale of magnitudes where they lie far apart."""
    low, high = sorted((a, b))
    if low > 0 and high > 2 * low:
        middle = float(np.float32(math.sqrt(low) * math.sqrt(high)))
    else:
        middle = float(np.float32((low + high) / 2))
    if low < middle < high and middle not in (np.float32(low), np.float32(high)):
        return middle
    return None

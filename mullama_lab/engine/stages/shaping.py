"""Stages that make the row's probabilities sharper or flatter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mullama_lab.engine import native
from mullama_lab.engine.rows.tail import MASKED, Tail, Uncovered
from mullama_lab.engine.stages.setting import setting
from mullama_lab.engine.stages.stage import Known, Loosening, Stage
from mullama_lab.engine.stages.stage_sampler import Native, StageSampler, Start
from mullama_lab.glyphs import brief

COLDEST = 1e-3  # above 0


@dataclass(frozen=True, repr=False)
class Temperature(Stage):
    """Divide the logits by t: below 1 sharper, above 1 flatter, 0 keeps only the best token."""

    label: ClassVar[str] = "Temperature"
    source: ClassVar[str] = "llama.cpp `llama_sampler_init_temp`"
    keeps_beginning = True
    asks_which_token = False
    masked_tokens = "left"
    loosened_by = Loosening("t", more=True, always=COLDEST)
    _positional = ("t",)
    t: float = setting(
        0.8, 0, 100, "1 changes nothing, 0 is greedy, usual is 0.5 to 1.3.", slider=(0, 2)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_tiny_temperature(self, "t", self.t)

    def why_inert(self) -> str:
        return "t is 1: the logits stay as they are" if self.t == 1 else ""

    def sampler(self, start: Start) -> StageSampler:
        return Native(native.sampler("temp", self.t))

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        if self.t > 0:
            return tail.heated(self.t)
        if not float(known.logits.max()) > tail.ceiling:
            raise Uncovered(f"the best token for {self!r} may be one that was not kept")
        return MASKED


@dataclass(frozen=True, repr=False)
class DynamicTemperature(Stage):
    """A temperature from t - delta to t + delta that follows the entropy of the candidates."""

    label: ClassVar[str] = "Dynamic temperature"
    source: ClassVar[str] = (
        "Zhu et al. 2023, arXiv:2309.02772; llama.cpp `llama_sampler_init_temp_ext`"
    )
    asks_which_token = False
    _positional = ("t", "delta", "exponent")
    t: float = setting(0.8, 0, 100, "The middle of the range.", slider=(0, 2))
    delta: float = setting(
        0.5, 0, 100, "Half the width of the range; 0 is a plain temperature.", slider=(0, 2)
    )
    exponent: float = setting(
        1.0, 0, 100, "How the normalised entropy maps to the range.", slider=(0.1, 4)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_tiny_temperature(self, "t", self.t)

    def why_inert(self) -> str:
        return "t is 1 and delta is 0" if self.t == 1 and self.delta == 0 else ""

    def sampler(self, start: Start) -> StageSampler:
        return _DynamicTemperature(self)

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        if self.delta == 0 and self.t > 0:
            return tail.heated(self.t)
        return super().tail_after(tail, known)


class _DynamicTemperature(Native):
    """Near temperature 0 positive logits grow past all bounds: there the best of them is made 0."""

    def __init__(self, stage: DynamicTemperature) -> None:
        super().__init__(native.sampler("temp_ext", stage.t, stage.delta, stage.exponent))
        self.may_freeze = stage.delta > 0 and stage.t - stage.delta < COLDEST

    def apply(self, candidates: native.Candidates, step: int) -> None:
        before = candidates.saved() if self.may_freeze else None
        self.sampler.apply(candidates)
        if before and not candidates.window["logit"].max() <= native.LARGEST_LOGIT:
            candidates.restore(before)
            logits = candidates.window["logit"]
            logits -= logits.max()
            self.sampler.apply(candidates)


def _refuse_tiny_temperature(stage: Stage, name: str, value: float) -> None:
    # A logit divided by 1e-38 is infinite, and infinities end in NaN, which sorting cannot bear.
    if 0 < value < COLDEST:
        raise ValueError(
            f"{type(stage).__name__}({name}={brief(value)}): {name} must be 0 (greedy) or at least "
            f"{COLDEST}. Use 0."
        )

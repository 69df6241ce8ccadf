"""Mirostat and adaptive-p: stages that learn from each token that is drawn.

In llama.cpp they also draw it, with generators of their own. Here llama.cpp shapes the
distribution, `dist` draws, and what they learn from the token (one or two floats) is kept as
`state`, with llama.cpp's formula.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.stages.cutting import Cutting
from mullama_lab.engine.stages.setting import setting
from mullama_lab.engine.stages.stage import Stage
from mullama_lab.engine.stages.stage_sampler import (
    StageSampler,
    Start,
    State,
    drop_impossible,
    softmax,
)


class SurpriseSteering(Cutting):
    """A stage that keeps the surprise of the text near `tau` bits; what it learns is `mu`."""

    learns = True
    steers_surprise = True
    masked_tokens = "dropped"
    tau: float
    eta: float


@dataclass(frozen=True, repr=False)
class Mirostat(SurpriseSteering):
    """Steer the surprise of the text to tau bits, by a top-k that it learns (version 1)."""

    label: ClassVar[str] = "Mirostat"
    source: ClassVar[str] = (
        "Basu et al. 2021, arXiv:2007.14966; llama.cpp `llama_sampler_init_mirostat`"
    )
    _positional = ("tau", "eta")
    tau: float = setting(5.0, 0, 100, "The surprise to aim at, in bits.", slider=(0, 10), step=0.1)
    eta: float = setting(0.1, 0, 1, "How fast it learns.", slider=(0, 1))
    m: int = setting(
        100,
        2,
        1_000_000,
        "How many tokens its estimate looks at.",
        slider=(2, 200),
        step=1,
        kind="int",
    )

    def sampler(self, start: Start) -> StageSampler:
        return _Mirostat(self, start)


@dataclass(frozen=True, repr=False)
class MirostatV2(SurpriseSteering):
    """Steer the surprise of the text to tau bits, by dropping tokens above a learnt surprise."""

    label: ClassVar[str] = "Mirostat v2"
    source: ClassVar[str] = (
        "Basu et al. 2021, arXiv:2007.14966; llama.cpp `llama_sampler_init_mirostat_v2`"
    )
    _positional = ("tau", "eta")
    tau: float = setting(5.0, 0, 100, "The surprise to aim at, in bits.", slider=(0, 10), step=0.1)
    eta: float = setting(0.1, 0, 1, "How fast it learns.", slider=(0, 1))

    def sampler(self, start: Start) -> StageSampler:
        return _MirostatV2(self, start)


class _Steering(ABC):
    """A fresh native sampler each step whose first mu, 2 tau, is the learnt mu."""

    def __init__(self, stage: SurpriseSteering, start: Start) -> None:
        self.tau, self.eta = stage.tau, stage.eta
        self.mu = _checked(stage, start.state, 1)[0] if start.state else 2.0 * stage.tau
        self._left: NDArray[np.void] | None = None

    @abstractmethod
    def shape(self, candidates: native.Candidates) -> None:
        """Let llama.cpp's sampler of this version cut the candidates."""

    def apply(self, candidates: native.Candidates, step: int) -> None:
        self.shape(candidates)
        self._left = candidates.window.copy()

    def accept(self, token: int) -> None:
        if self._left is None:
            return
        chosen = self._left["p"][self._left["id"] == token]
        if len(chosen) and chosen[0] > 0:
            surprise = -math.log2(float(chosen[0]))
            self.mu -= self.eta * (surprise - self.tau)
        self._left = None

    @property
    def state(self) -> State:
        return (self.mu,)


class _Mirostat(_Steering):
    def __init__(self, stage: Mirostat, start: Start) -> None:
        super().__init__(stage, start)
        self.n_vocab, self.m = start.model.n_vocab, stage.m

    def shape(self, candidates: native.Candidates) -> None:
        drop_impossible(candidates)
        args = (self.n_vocab, 0, self.mu / 2, self.eta, self.m)
        native.sampler("mirostat", *args).apply(candidates)


class _MirostatV2(_Steering):
    def shape(self, candidates: native.Candidates) -> None:
        native.sampler("mirostat_v2", 0, self.mu / 2, self.eta).apply(candidates)


@dataclass(frozen=True, repr=False)
class AdaptiveP(Stage):
    """Prefer tokens whose probability is near a target that adapts over time."""

    label: ClassVar[str] = "Adaptive-p"
    source: ClassVar[str] = "llama.cpp PR 17927 `llama_sampler_init_adaptive_p`"
    masks = False
    asks_which_token = False
    learns = True
    _positional = ("target", "decay")
    target: float = setting(
        0.5, -1, 1, "Select tokens near this probability; negative is off.", slider=(0, 1)
    )
    decay: float = setting(
        0.9, 0, 0.99, "How long it remembers: about 1 / (1 - decay) tokens.", slider=(0, 0.99)
    )

    def why_inert(self) -> str:
        return "target is negative" if self.target < 0 else ""

    def sampler(self, start: Start) -> StageSampler:
        return _AdaptiveP(self, start.state)


class _AdaptiveP:
    """A fresh native sampler each step, aimed at the target that the history calls for."""

    def __init__(self, stage: AdaptiveP, state: State) -> None:
        self.stage = stage
        weight = 1.0 / (1.0 - stage.decay)
        learnt = _checked(stage, state, 2) if state else (stage.target * weight, weight)
        self.weighted_sum, self.total_weight = learnt
        self._before: tuple[NDArray[np.int32], NDArray[np.float32]] | None = None

    def apply(self, candidates: native.Candidates, step: int) -> None:
        window = candidates.window
        self._before = window["id"].copy(), softmax(window["logit"])
        target = 2 * self.stage.target - self.weighted_sum / self.total_weight
        native.sampler("adaptive_p", min(max(target, 0.0), 1.0), 0.0, 0).apply(candidates)
        candidates.fields.sorted = False  # llama.cpp expects no stage after it and leaves the mark

    def accept(self, token: int) -> None:
        if self._before is None:
            return
        ids, probs = self._before
        chosen = probs[ids == token]
        if len(chosen):
            self.weighted_sum = float(chosen[0]) + self.stage.decay * self.weighted_sum
            self.total_weight = 1.0 + self.stage.decay * self.total_weight
        self._before = None

    @property
    def state(self) -> State:
        return self.weighted_sum, self.total_weight


def _checked(stage: Stage, state: State, size: int) -> State:
    """What a stage of that kind had learnt before; ValueError if it is something else."""
    numbers = tuple(float(x) for x in state)
    if len(numbers) != size or not all(map(math.isfinite, numbers)) or (size > 1 and not state[1]):
        raise ValueError(
            f"{stage!r} was given the state {state!r}, which is not one it makes. "
            "Trace.state(step) gives it, for the chain of that step."
        )
    return numbers

"""Stages that keep the likelier tokens of a row and take the others out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.rows.tail import CLOSED, Tail, Uncovered, log_total
from mullama_lab.engine.stages.randomness import addressed_seed
from mullama_lab.engine.stages.setting import min_keep, setting
from mullama_lab.engine.stages.stage import Known, Loosening, Stage
from mullama_lab.engine.stages.stage_sampler import (
    Memoryless,
    Native,
    StageSampler,
    Start,
    drop_impossible,
    softmax,
)


class Cutting(Stage):
    """A stage that goes by the logits alone, and leaves those of the tokens that it keeps."""

    masks = False
    moves = False
    asks_which_token = False


@dataclass(frozen=True, repr=False)
class Greedy(Cutting):
    """Keep only the likeliest token."""

    label: ClassVar[str] = "Greedy"
    source: ClassVar[str] = "llama.cpp `llama_sampler_init_greedy`"
    cuts_by_ceiling = True
    masked_tokens = "dropped"

    def sampler(self, start: Start) -> StageSampler:
        return _Greedy(native.sampler("greedy"))

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        if not float(known.logits.max()) > tail.ceiling:
            raise Uncovered(f"the best token for {self!r} may be one that was not kept")
        return CLOSED


class _Greedy(Native):
    def apply(self, candidates: native.Candidates, step: int) -> None:
        self.sampler.apply(candidates)
        candidates.keep(np.array([candidates.fields.selected]), is_sorted=True)


@dataclass(frozen=True, repr=False)
class TopK(Cutting):
    """Keep the k likeliest tokens."""

    label: ClassVar[str] = "Top-k"
    source: ClassVar[str] = (
        "Fan et al. 2018, arXiv:1805.04833; llama.cpp `llama_sampler_init_top_k`"
    )
    keeps_beginning = True
    cuts_by_ceiling = True
    loosened_by = Loosening("k", more=True)
    _positional = ("k",)
    k: int = setting(
        40,
        0,
        2**31 - 1,
        "How many tokens to keep; 0 keeps all, usual is 20 to 100.",
        slider=(1, 1000),
        step=1,
        scale="log",
        kind="int",
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "k is 0: every token is kept" if self.k == 0 else ""

    def n_needed(self) -> int:
        return max(self.k, self.min_keep)

    def sampler(self, start: Start) -> StageSampler:
        return Native(native.sampler("top_k", max(self.k, self.min_keep)))

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        k = max(self.k, self.min_keep)
        n_sure = int(np.count_nonzero(known.logits > tail.ceiling))
        if k > n_sure:
            raise Uncovered(f"{self!r} keeps {k} tokens and the record is sure of {n_sure}")
        return CLOSED

    def tail_after_masked(self, tail: Tail, logits: NDArray[np.float32]) -> Tail:
        n_left = int(np.count_nonzero(logits > -np.inf))
        if self.min_keep > n_left:
            raise Uncovered(f"{self!r} counts the tokens that were masked")
        return CLOSED if self.k <= n_left else tail

    def border(self, place: int, logits: NDArray[np.float32], log_total: float) -> float | None:
        return int(np.count_nonzero(logits > logits[place])) + 1


@dataclass(frozen=True, repr=False)
class TopP(Cutting):
    """Keep the fewest likeliest tokens that together have probability p (nucleus sampling)."""

    label: ClassVar[str] = "Top-p"
    source: ClassVar[str] = (
        "Holtzman et al. 2020, arXiv:1904.09751; llama.cpp `llama_sampler_init_top_p`"
    )
    keeps_beginning = True
    cuts_by_share = True
    masked_tokens = "left"
    loosened_by = Loosening("p", more=True)
    _positional = ("p",)
    p: float = setting(
        0.95, 0, 1, "The probability to keep; 1 keeps all, usual is 0.9 to 0.95.", slider=(0, 1)
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "p is 1: every token is kept" if self.p == 1 else ""

    def sampler(self, start: Start) -> StageSampler:
        return Native(native.sampler("top_p", self.p, self.min_keep))

    def cut_by_share(self, candidates: native.Candidates, tail: Tail, slack: float) -> int:
        """p as a share of what was kept, rounded both ways.

        llama.cpp adds up probabilities in float32, so the border is sure to a hair.
        """
        window = candidates.window
        low, high = tail.mass_beside(log_total(window["logit"]))
        low, high = self.p * (1 + low) * (1 - slack), self.p * (1 + high) * (1 + slack)
        if high < 1:
            native.sampler("top_p", high, self.min_keep).apply(candidates)
        window = candidates.window
        if high >= 1 or not float(window["logit"][-1]) > tail.ceiling:
            raise Uncovered(f"{self!r} may keep tokens that were not kept of the row")
        reached = np.cumsum(window["p"]) >= low  # float32, in llama.cpp's order
        return max(int(reached.argmax()) + 1, min(self.min_keep, len(window)))

    def border(self, place: int, logits: NDArray[np.float32], log_total: float) -> float | None:
        better = logits[logits > logits[place]].astype(np.float64)
        return float(np.exp(better - log_total).sum())


@dataclass(frozen=True, repr=False)
class MinP(Cutting):
    """Drop every token less than p times as likely as the likeliest one."""

    label: ClassVar[str] = "Min-p"
    source: ClassVar[str] = (
        "Nguyen et al. 2024, arXiv:2407.01082; llama.cpp `llama_sampler_init_min_p`"
    )
    keeps_beginning = True
    cuts_by_ceiling = True
    masked_tokens = "dropped"
    loosened_by = Loosening("p", more=False)
    _positional = ("p",)
    p: float = setting(
        0.05,
        0,
        1,
        "The share of the best token's probability to reach; 0 keeps all, usual is 0.02 to 0.1.",
        slider=(0, 1),
        step=0.005,
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "p is 0: every token is kept" if self.p == 0 else ""

    def sampler(self, start: Start) -> StageSampler:
        return Native(native.sampler("min_p", self.p, self.min_keep))

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        logits = known.logits
        cut = float(logits.max()) + math.log(self.p)
        cut -= 1e-5 * max(1.0, abs(cut))  # llama.cpp adds in float32
        if not cut > tail.ceiling or np.count_nonzero(logits >= cut) < self.min_keep:
            raise Uncovered(f"{self!r} may keep tokens that were not kept of the row")
        return CLOSED

    def border(self, place: int, logits: NDArray[np.float32], log_total: float) -> float | None:
        return math.exp(float(logits[place]) - float(logits.max()))


@dataclass(frozen=True, repr=False)
class Typical(Cutting):
    """Keep the tokens whose surprise is nearest the entropy, up to probability p."""

    label: ClassVar[str] = "Typical"
    source: ClassVar[str] = (
        "Meister et al. 2022, arXiv:2202.00666; llama.cpp `llama_sampler_init_typical`"
    )
    masked_tokens = "dropped"
    loosened_by = Loosening("p", more=True)
    _positional = ("p",)
    p: float = setting(
        0.9, 0, 1, "The probability to keep; 1 keeps all, usual is 0.2 to 0.95.", slider=(0, 1)
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "p is 1: every token is kept" if self.p == 1 else ""

    def sampler(self, start: Start) -> StageSampler:
        return _Typical(native.sampler("typical", self.p, self.min_keep))

    def border(self, place: int, logits: NDArray[np.float32], log_total: float) -> float | None:
        logprobs = logits.astype(np.float64) - log_total
        probs = np.exp(logprobs)
        possible = probs > 0
        entropy = -float((probs[possible] * logprobs[possible]).sum())
        oddness = np.abs(-logprobs - entropy)
        return float(probs[oddness < oddness[place]].sum())


class _Typical(Native):
    def apply(self, candidates: native.Candidates, step: int) -> None:
        drop_impossible(candidates)
        self.sampler.apply(candidates)


@dataclass(frozen=True, repr=False)
class TopNSigma(Cutting):
    """Drop tokens whose logit is more than n standard deviations below the best."""

    label: ClassVar[str] = "Top-nσ"
    source: ClassVar[str] = (
        "Tang et al. 2024, arXiv:2411.07641; llama.cpp `llama_sampler_init_top_n_sigma`"
    )
    masks = True
    masked_tokens = "left"
    loosened_by = Loosening("n", more=True)
    _positional = ("n",)
    n: float = setting(
        1.0, 0, 1000, "Standard deviations to keep; 0 keeps all, usual is 1.", slider=(0, 5)
    )

    def why_inert(self) -> str:
        return "n is 0: every token is kept" if self.n == 0 else ""

    def sampler(self, start: Start) -> StageSampler:
        return Native(native.sampler("top_n_sigma", self.n))

    def border(self, place: int, logits: NDArray[np.float32], log_total: float) -> float | None:
        precise = logits.astype(np.float64)
        finite = precise[np.isfinite(precise)]
        return (float(finite.max()) - float(logits[place])) / max(float(finite.std()), 1e-30)


@dataclass(frozen=True, repr=False)
class XTC(Cutting):
    """With some probability, drop all but the least likely of the tokens above a threshold."""

    label: ClassVar[str] = "XTC"
    source: ClassVar[str] = (
        "oobabooga/text-generation-webui PR 6335; llama.cpp `llama_sampler_init_xtc`"
    )
    draws = True
    masked_tokens = "left"
    loosened_by = Loosening("threshold", more=True)
    _positional = ("probability", "threshold")
    probability: float = setting(0.5, 0, 1, "How often it acts; 0 is never.", slider=(0, 1))
    threshold: float = setting(
        0.1,
        0,
        1,
        "Tokens at least this likely count as top choices; above 0.5 it never acts.",
        slider=(0, 0.5),
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        if self.probability == 0:
            return "probability is 0: it never acts"
        return "threshold is above 0.5: no two tokens reach it" if self.threshold > 0.5 else ""

    def sampler(self, start: Start) -> StageSampler:
        return _XTC(self, start)


class _XTC(Memoryless):
    """A fresh native sampler each step, with the seed of that step."""

    def __init__(self, stage: XTC, start: Start) -> None:
        self.stage, self.seed, self.number = stage, start.seed, start.number

    def apply(self, candidates: native.Candidates, step: int) -> None:
        x = self.stage
        if x.threshold < 1e-30:  # or what has no probability is the least likely top choice
            drop_impossible(candidates)
        seed = addressed_seed(self.seed, self.number, step)
        native.sampler("xtc", x.probability, x.threshold, x.min_keep, seed).apply(candidates)


@dataclass(frozen=True, repr=False)
class TailFree(Cutting):
    """Cut the tail where the curve of sorted probabilities stops bending.

    Ours, in numpy, after llama.cpp's former `llama_sample_tail_free`, which it removed.
    """

    label: ClassVar[str] = "Tail-free"
    source: ClassVar[str] = "Bricken 2019, trentbrick.github.io/Tail-Free-Sampling"
    masked_tokens = "left"
    loosened_by = Loosening("z", more=True)
    _positional = ("z",)
    z: float = setting(
        0.95, 0, 1, "The share of the curve's bending to keep; 1 keeps all.", slider=(0, 1)
    )
    min_keep: int = min_keep()

    def why_inert(self) -> str:
        return "z is 1: every token is kept" if self.z == 1 else ""

    def sampler(self, start: Start) -> StageSampler:
        return _TailFree(self)


class _TailFree(Memoryless):
    def __init__(self, stage: TailFree) -> None:
        self.stage = stage

    def apply(self, candidates: native.Candidates, step: int) -> None:
        logits = candidates.window["logit"]
        if len(logits) <= 2:
            return
        order = np.argsort(-logits, kind="stable")
        n = tail_free_keeps(softmax(logits[order]), self.stage.z, self.stage.min_keep)
        candidates.keep(order[:n], is_sorted=True)


def tail_free_keeps(probs: NDArray[np.float32], z: float, min_keep: int) -> int:
    """How many of these descending probabilities tail-free sampling keeps (at least one)."""
    bend = np.abs(np.diff(probs, 2))
    total = bend.sum()
    bend = bend / total if total > 1e-6 else np.full(len(bend), 1 / len(bend), np.float32)
    past = np.flatnonzero(np.cumsum(bend) > z)
    past = past[past >= max(1, min_keep)]
    return int(past[0]) if len(past) else len(probs)

"""A stage at work: what carries out one stage of a chain on a row of candidates.

Most are llama.cpp's sampler of that name. Mirostat and adaptive-p draw in llama.cpp with
generators of their own; here llama.cpp shapes the distribution, `dist` draws, and what they learn
from the token (one or two floats) is kept as `state`, with llama.cpp's formula.

It knows one stage at a time. It does not know chains, or how a token is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.engine.stages import samplers as s
from mullama_lab.engine.stages.ban import BanSampler
from mullama_lab.engine.stages.chain import Stage
from mullama_lab.engine.stages.randomness import addressed_seed
from mullama_lab.errors import StageFailed

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

Logits = NDArray[np.float32]  # (n_vocab,)
State = tuple[float, ...]

WHOLE_HISTORY = 1 << 17  # tokens that `last_n=-1` looks back, at least
INFILL_MOST = 2048  # it compares every pair of candidates, uninterruptibly
INFILL_LONGEST = 512  # bytes of a token's text; llama.cpp aborts on longer ones
NEVER = 80.0  # nats below the best: a probability that float32 may round to 0


class StageSampler(Protocol):
    """One stage at work on one sequence."""

    def apply(self, candidates: native.Candidates, step: int) -> None: ...
    def accept(self, token: int) -> None: ...


class _Native:
    """A llama.cpp sampler whose state, if any, is the tokens it accepted."""

    def __init__(self, sampler: native.NativeSampler, *, accepts: bool = False) -> None:
        self.sampler = sampler
        self.accepts = accepts

    def apply(self, candidates: native.Candidates, step: int) -> None:
        self.sampler.apply(candidates)

    def accept(self, token: int) -> None:
        if self.accepts:
            self.sampler.accept(token)


class Inert:
    """A stage that does nothing at its settings."""

    def apply(self, candidates: native.Candidates, step: int) -> None: ...
    def accept(self, token: int) -> None: ...


class _Greedy(Inert):
    def __init__(self) -> None:
        self.sampler = native.sampler("greedy")

    def apply(self, candidates: native.Candidates, step: int) -> None:
        self.sampler.apply(candidates)
        candidates.keep(np.array([candidates.fields.selected]), is_sorted=True)


class _Unsorting(_Native):
    """A llama.cpp sampler that changes logits but leaves the candidates marked as sorted."""

    def apply(self, candidates: native.Candidates, step: int) -> None:
        self.sampler.apply(candidates)
        candidates.fields.sorted = False


class _DynamicTemperature(_Native):
    """Near temperature 0 positive logits grow past all bounds: there the best of them is made 0."""

    def __init__(self, stage: s.DynamicTemperature) -> None:
        super().__init__(native.sampler("temp_ext", stage.t, stage.delta, stage.exponent))
        self.may_freeze = stage.delta > 0 and stage.t - stage.delta < s.COLDEST

    def apply(self, candidates: native.Candidates, step: int) -> None:
        before = candidates.saved() if self.may_freeze else None
        self.sampler.apply(candidates)
        if before and not candidates.window["logit"].max() <= native.LARGEST_LOGIT:
            candidates.restore(before)
            logits = candidates.window["logit"]
            logits -= logits.max()
            self.sampler.apply(candidates)


class _Typical(_Native):
    def apply(self, candidates: native.Candidates, step: int) -> None:
        _drop_impossible(candidates)
        self.sampler.apply(candidates)


def _drop_impossible(candidates: native.Candidates) -> None:
    """Take out what has no probability: llama.cpp's typical and mirostat take its logarithm."""
    logits = candidates.window["logit"]
    possible = logits >= logits.max() - np.float32(NEVER)
    if not possible.all():
        candidates.keep(np.flatnonzero(possible), is_sorted=bool(candidates.fields.sorted))


class _Infill(Inert):
    def __init__(self, model: Model) -> None:
        self.model = model
        self.sampler = native.sampler("infill", model._vocab)

    def apply(self, candidates: native.Candidates, step: int) -> None:
        if candidates.size > INFILL_MOST:
            raise ValueError(
                f"Infill compares every pair of candidates and there are {candidates.size}; it "
                f"takes at most {INFILL_MOST}. Put TopK(40) or TopP(0.95) before it."
            )
        for token in candidates.window["id"].tolist():
            if len(self.model.piece(token, special=False)) > INFILL_LONGEST:
                raise ValueError(
                    f"Infill takes tokens of at most {INFILL_LONGEST} bytes and token {token} is "
                    f"longer. Put Mask(ban=[{token}]) | TopK(40) before it."
                )
        self.sampler.apply(candidates)


class _XTC(Inert):
    def __init__(self, stage: s.XTC, seed: int, number: int) -> None:
        self.stage, self.seed, self.number = stage, seed, number

    def apply(self, candidates: native.Candidates, step: int) -> None:
        x = self.stage
        if x.threshold < 1e-30:  # or what has no probability is the least likely top choice
            _drop_impossible(candidates)
        seed = addressed_seed(self.seed, self.number, step)
        native.sampler("xtc", x.probability, x.threshold, x.min_keep, seed).apply(candidates)


class _Mirostat(Inert):
    """Both versions: a fresh native sampler each step whose first mu, 2 tau, is the learnt mu."""

    def __init__(self, stage: s.Mirostat | s.MirostatV2, n_vocab: int, state: State) -> None:
        self.stage, self.n_vocab = stage, n_vocab
        self.mu = _state(stage, state, 1)[0] if state else 2.0 * stage.tau
        self._left: NDArray[np.void] | None = None

    def apply(self, candidates: native.Candidates, step: int) -> None:
        half_mu = self.mu / 2
        if isinstance(self.stage, s.Mirostat):
            _drop_impossible(candidates)
            args = (self.n_vocab, 0, half_mu, self.stage.eta, self.stage.m)
            native.sampler("mirostat", *args).apply(candidates)
        else:
            native.sampler("mirostat_v2", 0, half_mu, self.stage.eta).apply(candidates)
        self._left = candidates.window.copy()

    def accept(self, token: int) -> None:
        if self._left is None:
            return
        chosen = self._left["p"][self._left["id"] == token]
        if len(chosen) and chosen[0] > 0:
            surprise = -math.log2(float(chosen[0]))
            self.mu -= self.stage.eta * (surprise - self.stage.tau)
        self._left = None

    @property
    def state(self) -> State:
        return (self.mu,)


class _AdaptiveP(Inert):
    """A fresh native sampler each step, aimed at the target that the history calls for."""

    def __init__(self, stage: s.AdaptiveP, state: State) -> None:
        self.stage = stage
        weight = 1.0 / (1.0 - stage.decay)
        learnt = _state(stage, state, 2) if state else (stage.target * weight, weight)
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


class _TailFree(Inert):
    def __init__(self, stage: s.TailFree) -> None:
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


class _Mask(Inert):
    def __init__(self, stage: s.Mask, n_vocab: int) -> None:
        self.banned = np.full(n_vocab, stage.allow is not None)
        if stage.allow is not None:
            self.banned[list(stage.allow)] = False
        self.banned[list(stage.ban)] = True

    def apply(self, candidates: native.Candidates, step: int) -> None:
        window = candidates.window
        window["logit"][self.banned[window["id"]]] = -np.inf
        candidates.fields.sorted = False


class _Custom:
    def __init__(self, stage: s.Custom, n_vocab: int, history: Iterable[int]) -> None:
        self.stage, self.n_vocab = stage, n_vocab
        self.history = list(history)

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


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of finite-or-minus-infinite logits; shape kept."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


_NATIVE: dict[type[Stage], Callable[..., tuple]] = {
    s.TopK: lambda x: ("top_k", max(x.k, x.min_keep) if x.k else 0),
    s.TopP: lambda x: ("top_p", x.p, x.min_keep),
    s.MinP: lambda x: ("min_p", x.p, x.min_keep),
    s.Temperature: lambda x: ("temp", x.t),
    s.TopNSigma: lambda x: ("top_n_sigma", x.n),
}


def build(
    stage: Stage, model: Model, history: Sequence[int], seed: int, number: int, state: State
) -> StageSampler:
    if stage.why_inert():
        return Inert()
    if make := _NATIVE.get(type(stage)):
        return _Native(native.sampler(*make(stage)))
    n_vocab = model.n_vocab
    match stage:
        case s.Penalties():
            n = _window(stage.last_n, history)
            args = (n_vocab, n, stage.repeat, stage.frequency, stage.presence)
            return _with_history(native.sampler("penalties", *args), history, n)
        case s.DRY():
            n = _window(stage.last_n, history)
            return _with_history(_dry(model, stage, n).clone(), history, n)
        case s.LogitBias():
            return _Unsorting(native.logit_bias_sampler(n_vocab, stage.biases))
        case s.Mask():
            return _Mask(stage, n_vocab)
        case s.Ban():
            return BanSampler(stage, model, history)
        case s.DynamicTemperature():
            return _DynamicTemperature(stage)
        case s.Typical():
            return _Typical(native.sampler("typical", stage.p, stage.min_keep))
        case s.Mirostat() | s.MirostatV2():
            return _Mirostat(stage, n_vocab, state)
        case s.AdaptiveP():
            return _AdaptiveP(stage, state)
        case s.XTC():
            return _XTC(stage, seed, number)
        case s.Custom():
            return _Custom(stage, n_vocab, history)
        case s.TailFree():
            return _TailFree(stage)
        case s.Infill():
            return _Infill(model)
        case s.Greedy():
            return _Greedy()
    raise TypeError(f"no sampler is known for the stage {stage!r}")


def _state(stage: Stage, state: State, size: int) -> State:
    numbers = tuple(float(x) for x in state)
    if len(numbers) != size or not all(map(math.isfinite, numbers)) or (size > 1 and not state[1]):
        raise ValueError(
            f"{stage!r} was given the state {state!r}, which is not one it makes. "
            "Trace.state(step) gives it, for the chain of that step."
        )
    return numbers


def _window(last_n: int, history: Sequence[int]) -> int:
    return max(WHOLE_HISTORY, 2 * len(history)) if last_n < 0 else last_n


def _with_history(sampler: native.NativeSampler, history: Sequence[int], last_n: int) -> _Native:
    for token in history[-last_n:]:
        sampler.accept(int(token))
    return _Native(sampler, accepts=True)


@once_per_model
def _dry(model: Model, stage: s.DRY, last_n: int) -> native.NativeSampler:
    """DRY without history, to be cloned: reading the vocabulary for breakers is slow."""
    settings = (stage.multiplier, stage.base, stage.allowed_length)
    return native.dry_sampler(model._vocab, *settings, last_n, stage.breakers)

"""What carries out a stage: the interface of its sampler, and the samplers that several share.

A sampler works on the candidates of one sequence. It is built for the tokens before a row and
told each token that is taken, so its state is a function of the history (and of what mirostat and
adaptive-p learnt, which is given). It does not know the chain, or how a token is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

State = tuple[float, ...]  # what a stage has learnt from the tokens that were drawn

NEVER = 80.0  # nats below the best: a probability that float32 may round to 0


@dataclass(frozen=True, slots=True)
class Start:
    """Where a sampler begins.

    Attributes:
        history: the token ids before its first row, prompt included.
        step: the step of that row. The last `step` tokens of the history were generated.
        seed: that of the generation.
        number: how many acting stages before it in the chain draw for themselves, too.
        state: what it had learnt before; empty if nothing.
    """

    model: Model
    history: Sequence[int]
    step: int
    seed: int
    number: int
    state: State


class StageSampler(Protocol):
    """One stage at work on one sequence.

    A stage that learns has a property `state` besides, from which another one can go on. One that
    may end the text has a property `has_ended`.
    """

    def apply(self, candidates: native.Candidates, step: int) -> None:
        """Work on the candidates of a row; it may be asked again about the same step."""
        ...

    def accept(self, token: int) -> None:
        """Take note of the token that the step has; once a step."""
        ...


class Memoryless:
    """A sampler to which the tokens before do not matter."""

    def accept(self, token: int) -> None: ...


class Idle(Memoryless):
    """That of a stage that does nothing at its settings."""

    def apply(self, candidates: native.Candidates, step: int) -> None: ...


class Native(Memoryless):
    """A llama.cpp sampler to which the tokens before do not matter."""

    def __init__(self, sampler: native.NativeSampler) -> None:
        self.sampler = sampler

    def apply(self, candidates: native.Candidates, step: int) -> None:
        self.sampler.apply(candidates)


class NativeWithHistory(Native):
    """A llama.cpp sampler whose state is the tokens that it accepted."""

    def __init__(self, sampler: native.NativeSampler, history: Sequence[int]) -> None:
        super().__init__(sampler)
        for token in history:
            sampler.accept(int(token))

    def accept(self, token: int) -> None:
        self.sampler.accept(token)


def mask_out(candidates: native.Candidates, banned: NDArray[np.bool_]) -> None:
    """Give minus infinity to the candidates that are banned; `banned` has shape (n_vocab,)."""
    window = candidates.window
    window["logit"][banned[window["id"]]] = -np.inf
    candidates.fields.sorted = False


def drop_impossible(candidates: native.Candidates) -> None:
    """Take out what has no probability: some samplers of llama.cpp take its logarithm."""
    logits = candidates.window["logit"]
    possible = logits >= logits.max() - np.float32(NEVER)
    if not possible.all():
        candidates.keep(np.flatnonzero(possible), is_sorted=bool(candidates.fields.sorted))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of finite-or-minus-infinite logits; shape kept."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()

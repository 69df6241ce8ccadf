"""What a trace is made of, and what a part or a beginning of it is made of.

A slice knows where it begins, and counts its own steps. A beginning can grow into another trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.options import MAX_STEP, whole
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.trace.step_table import StepTable
from mullama_lab.engine.trace.token_pieces import TokenPieces
from mullama_lab.glyphs import brief

WHOSE = ("model_id", "model_options", "session_options")  # facts of what made a trace

T = TypeVar("T")


class InForce(NamedTuple):
    """What acted on the weights at some steps of a trace.

    Attributes:
        stale: whether other weights computed what the cache held of the text before.
    """

    steering: Steering
    stale: bool = False


@dataclass(slots=True)
class TraceParts:
    """All that a trace is made of.

    Attributes:
        chains, in_force: (the step from which it was in force, which), from step 0 on.
        pieces: the bytes of the tokens it names.
        facts: the values of the attributes that `FACTS` lists.
    """

    model_name: str
    prompt_tokens: NDArray[np.int32]
    seed: int | None
    chains: list[tuple[int, Chain]]
    in_force: list[tuple[int, InForce]]
    steps: StepTable
    pieces: TokenPieces
    facts: dict[str, Any]

    def sliced(self, index: slice) -> TraceParts:
        """A run of steps; those before them belong to its prompt. ValueError if it leaves some out.

        Only steps that are there when it is called: the trace may grow meanwhile.
        """
        n = len(self.steps)
        chosen = range(n)[index]
        if chosen.step != 1:
            raise ValueError(f"a Trace is cut in runs of steps, not by {brief(index)}: use step 1")
        a, b = chosen.start, max(chosen.start, chosen.stop)
        steps = self.steps.sliced(a, b)
        own = _facts_of_part(self.facts, steps, a) if b - a < n else {}
        own |= {"finish_reason": "cut"} if b < n else {}
        return TraceParts(
            model_name=self.model_name,
            prompt_tokens=np.concatenate([self.prompt_tokens, self.steps.column("token")[:a]]),
            seed=self.seed,
            chains=_of_part(self.chains, a, b),
            in_force=_of_part(self.in_force, a, b),
            steps=steps,
            pieces=self.pieces,
            facts=self.facts | own,
        )

    def begun(
        self, n: int, *, top: int, seed: int | None, piece: Callable[[int], bytes] | None
    ) -> TraceParts:
        """The first n steps, which another generation goes on from; its times are its own."""
        return TraceParts(
            model_name=self.model_name,
            prompt_tokens=self.prompt_tokens,
            seed=seed,
            chains=[entry for entry in self.chains if entry[0] <= n],
            in_force=[entry for entry in self.in_force if entry[0] <= n],
            steps=self.steps.begun(n, top),
            pieces=self.pieces.asking(piece),
            facts={name: self.facts[name] for name in WHOSE} | {"n_copied": n},
        )

    def named_tokens(self) -> list[int]:
        """Every token that the prompt and the steps name, once and in order."""
        columns = ("token", "top_ids", "after_ids")
        named = [self.prompt_tokens, *(self.steps.column(name).ravel() for name in columns)]
        return [token for token in np.unique(np.concatenate(named)).tolist() if token >= 0]


def value_at(entries: Sequence[tuple[int, T]], step: int) -> T:
    """What was in force at a step, of entries (the step from which it was, what)."""
    if (step := whole("step", step, -MAX_STEP, MAX_STEP)) < 0:
        raise IndexError(f"step {brief(step)}: steps count from 0.")
    return next(value for first, value in reversed(entries) if first <= step)


def changed(entries: list[tuple[int, T]], step: int, value: T) -> list[tuple[int, T]]:
    """Such entries when another value is in force from a step on, to the end."""
    before = [entry for entry in entries if entry[0] < step]
    return before if before and before[-1][1] == value else [*before, (step, value)]


def _of_part(entries: Sequence[tuple[int, T]], a: int, b: int) -> list[tuple[int, T]]:
    """Such entries for the steps from a to b, which count from 0 then."""
    return list({max(0, first - a): value for first, value in entries if first < max(b, 1)}.items())


def _facts_of_part(facts: dict[str, Any], steps: StepTable, a: int) -> dict[str, Any]:
    """The counts and times of steps that begin at step `a` of a trace with these facts."""
    n_copied = min(max(0, facts["n_copied"] - a), len(steps))
    times = [steps.column(name) for name in ("decode_ns", "sample_ns", "constraint_ns")]
    seconds: list[float] = (np.sum(times, axis=0)[n_copied:] / 1e9).tolist()
    first, has_first = facts["seconds_to_first_token"], a <= facts["n_copied"]
    if not has_first or first is None:
        first = seconds[0] if seconds else None
    part = {
        "first_step": facts["first_step"] + a,
        "n_copied": n_copied,
        "seconds_to_first_token": first,
        "seconds": (first or 0.0) + sum(seconds[1:]),
    }
    no_prompt = {"n_prompt_decoded": 0, "n_prompt_reused": 0, "prompt_seconds": 0.0}
    return part if has_first else part | no_prompt

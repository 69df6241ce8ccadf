"""Runs that have ended, as a run panel lists them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.named_tokens import Spelling, named_in_brief
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.trace import Trace
from mullama_lab.glyphs import visible_piece
from mullama_lab.widgets._endings import ending

MAX_TEXT = 100  # characters of a text in the list
MAX_CHAIN = 400  # and of a chain, whose last stage tells most runs apart
MAX_PARTS = 32  # points of a curve along a run


@dataclass(frozen=True)
class Ends:
    """Where a run panel asked a run to end."""

    max_tokens: int
    stop_strings: list[str]

    def fit(self, trace: Trace) -> bool:
        """Whether a run that ends so may have become this trace."""
        drawn = len(trace) - trace.n_copied
        if trace.finish_reason == "stop":
            return bool(self.stop_strings) and drawn <= self.max_tokens
        said = b"".join(trace.pieces[trace.n_copied :])
        if any(text.encode("utf-8", "surrogatepass") in said for text in self.stop_strings):
            return False
        is_full = trace.finish_reason == "length"
        return drawn == self.max_tokens if is_full else drawn <= self.max_tokens


@dataclass(frozen=True)
class Asked:
    """What a run panel asked for: a text to go on from, or the turns of a chat.

    Attributes:
        ends: where it was to end; None if that is not known.
    """

    prompt: str
    chat: bool
    messages: list[dict[str, str]]
    ends: Ends | None = None

    def as_far_as_of(self, trace: Trace) -> Asked | None:
        """As much of it as a trace agrees with: somebody else may have begun it with other things.

        None if it has another prompt.
        """
        if not self._is_prompt_of(trace):
            return None
        return self if self.ends and self.ends.fit(trace) else replace(self, ends=None)

    def _is_prompt_of(self, trace: Trace) -> bool:
        pieces = [trace.piece(int(token)) for token in trace.prompt_tokens]
        if not self.chat:
            prompt = self.prompt.encode().lstrip()
            # some models put a token before the text, some a space
            return any(b"".join(pieces[n:]).lstrip() == prompt for n in (0, 1))
        text, at = b"".join(pieces), 0
        for turn in self.messages:
            said = turn["content"].strip().encode()
            at = text.find(said, at)
            if at < 0:
                return False
            at += len(said)
        return True


@dataclass(frozen=True)
class BranchOf:
    """Where a run turned off another one.

    Attributes:
        number: that run's; None if it is not listed (any more).
        step: the first step that is not that run's.
        token: the token that was chosen there, as text; "" if the run goes on from
            the end of the other one.
    """

    number: int | None
    step: int
    token: str


@dataclass(frozen=True, eq=False)
class PastRun:
    """A run that has ended: its number in the history, its trace, and what was asked if known.

    Attributes:
        branch: where it turned off another run; None if it began with its prompt.
    """

    number: int
    trace: Trace
    asked: Asked | None = None
    branch: BranchOf | None = None

    @property
    def chain(self) -> Chain:
        return self.trace.chain

    @property
    def steering(self) -> Steering:
        """What acted on the weights at its end."""
        return self.trace.in_force[-1][1].steering

    @property
    def label(self) -> str:
        return f"run {self.number}"

    @property
    def seed(self) -> int | None:
        return self.trace.seed

    @property
    def ends(self) -> Ends | None:
        """Where it was asked to end; None if that is not known."""
        return None if self.asked is None else self.asked.ends


def branch_of(trace: Trace, runs: Sequence[PastRun]) -> BranchOf | None:
    """Where a trace turned off one of some runs; None for a trace that copied no steps.

    Of runs that begin alike it is the one that drew the token which another one replaces.
    """
    if not trace.n_copied:
        return None
    step = trace.n_copied - 1  # of the token that was chosen
    begins = trace.history(step).tolist()
    for run in reversed(runs):
        other = run.trace
        n = len(other)
        if other.n_copied <= step < n and other.history(step).tolist() == begins:
            if other.tokens[step] == trace.tokens[step]:
                return BranchOf(run.number, step + 1, "")
            return BranchOf(run.number, step, visible_piece(trace.pieces[step]))
    return BranchOf(None, step, visible_piece(trace.pieces[step]))


def branch_text(branch: Mapping[str, Any] | None) -> str:
    """The branch of a line of a history, as text.

    >>> branch_text({"number": 2, "step": 3, "token": "a"})
    'run 2 at step 3: a'
    """
    if branch is None:
        return ""
    run = "a run before" if branch["number"] is None else f"run {branch['number']}"
    return f"{run} at step {branch['step']}: {branch['token']}" if branch["token"] else f"{run}, on"


def brought_back(run: PastRun, others: Iterable[PastRun] = ()) -> str:
    """What of a run is in force again, in a sentence.

    Args:
        others: where something acted on the weights of one of these, it is said that nothing does.
    """
    asked = run.asked
    ends = run.ends is not None
    known = {
        "chain": True, "adapters": bool(run.steering.acting),
        "control vector": run.steering.acts is not None, "seed": run.seed is not None,
        "prompt": asked is not None, "max tokens": ends, "stop strings": ends,
    }  # fmt: skip
    back = [name for name, is_known in known.items() if is_known]
    are = "are" if len(back) > 1 else "is"
    is_bare = not run.steering.epoch and any(one.steering.epoch for one in others)
    model = ", and the model as it is" if is_bare else ""
    said = f"The {_and(back)} of run {run.number} {are} in force again{model}."
    if ends:
        return said
    away = "max tokens and stop strings" if asked else "prompt, max tokens and stop strings"
    return f"{said} Its {away} are not: it was not run with what this panel asked for."


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def summary(
    run: PastRun, begin_mark: int | None = None, differs: Sequence[str] = ()
) -> dict[str, Any]:
    """A run as one line of the list.

    Args:
        begin_mark: a token that is left out where a prompt begins with it.
        differs: what its chain and weights have otherwise than those of the run before.
    """
    trace = run.trace
    chains = [acting(chain, trace.piece) for _, chain in trace.chains]
    return {
        "number": run.number,
        "branch": None if run.branch is None else vars(run.branch),
        "prompt": _beginning(visible_piece(_prompt(run, begin_mark))),
        "chain": _beginning(" then ".join(chains), MAX_CHAIN),
        "differs": _beginning(", ".join(differs), MAX_CHAIN),
        "seed": trace.seed,
        "tokens": len(trace),
        "speed": _rounded(trace.tokens_per_second),
        "logprob": _mean(trace.logprob),
        "finish": trace.finish_reason,
        "ended": ending(trace),
        "text": _beginning(visible_piece(trace.text_bytes[: 4 * MAX_TEXT])),
    }


def _prompt(run: PastRun, begin_mark: int | None) -> bytes:
    """What it goes on from, or answers: the user's last turn, where it is known to be a chat."""
    asked, most = run.asked, 4 * MAX_TEXT
    if asked is None:
        tokens = run.trace.prompt_tokens[:most].tolist()
        begins = len(tokens) > 0 and tokens[0] == begin_mark
        return b"".join(run.trace.piece(token) for token in tokens[begins:])
    said = [turn["content"] for turn in asked.messages if turn["role"] == "user"]
    text = said[-1] if asked.chat and said else asked.prompt
    return text[:most].encode("utf-8", "replace")


def meters(trace: Trace) -> dict[str, Any]:
    """The figures of a run so far; None where there is none yet.

    `speeds` and `logprobs` are the tokens per second and the mean log-probability along the steps
    that the run drew itself, in at most 32 parts; the first step, which waits for the prompt,
    has no speed.
    """
    begun, own = len(trace) > 0, slice(trace.n_copied, None)
    return {
        "tokens": len(trace),
        "copied": trace.n_copied,
        "tokens_per_second": _rounded(trace.tokens_per_second) if begun else None,
        "speeds": [_rounded(1e9 / ns) for ns in _in_parts(_step_ns(trace)[own][1:]) if ns > 0],
        "logprob": _mean(trace.logprob),
        "logprobs": [_rounded(x) for x in _in_parts(trace.logprob[own])],
        "first_token_seconds": _rounded(trace.seconds_to_first_token) if begun else None,
        "prompt_decoded": int(trace.n_prompt_decoded) if begun else None,
        "prompt_reused": int(trace.n_prompt_reused) if begun else None,
        "finish": trace.finish_reason,
        "ended": ending(trace),
    }


def state_of(trace: Trace) -> str:
    """The state of a run that has ended, by its trace; the prompt alone is none."""
    reason = trace.finish_reason
    if reason == "cut" and not len(trace):
        return "idle"
    return reason if reason in ("stopped", "failed") else "finished"


def acting(chain: Chain, spell: Spelling | None) -> str:
    """The stages that do something at their settings, as code; tokens by their pieces."""
    stages = [stage for stage in chain if not stage.why_inert()]
    said = [repr(stage) if spell is None else named_in_brief(stage, spell) for stage in stages]
    return " | ".join(said) or "none"


def _beginning(text: str, most: int = MAX_TEXT) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _step_ns(trace: Trace) -> NDArray[np.float64]:
    """What each step took, from its decode to its capture."""
    times = trace.decode_ns, trace.sample_ns, trace.constraint_ns, trace.capture_ns
    n = min(map(len, times))  # a step may be added meanwhile
    return np.asarray(sum(time[:n] for time in times), dtype=np.float64)


def _in_parts(values: NDArray[np.floating[Any]]) -> list[float]:
    """The means of at most 32 parts, in order."""
    parts = np.array_split(values, min(MAX_PARTS, len(values))) if len(values) else []
    return [float(part.mean()) for part in parts]


def _mean(values: NDArray[np.floating[Any]]) -> float | None:
    return _rounded(float(values.mean())) if len(values) else None


def _rounded(x: float | None) -> float | None:
    return float(f"{x:.4g}") if x is not None and math.isfinite(x) else None

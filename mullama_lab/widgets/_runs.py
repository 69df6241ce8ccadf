"""Runs that have ended, as a run panel lists and compares them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from mullama_lab.engine.chain import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.widgets._glyphs import visible_piece

MAX_TEXT = 100  # characters of a text or a chain in the list
MAX_SIDE = 3000  # characters of each part of a comparison


@dataclass(frozen=True, eq=False)
class PastRun:
    """A run of the history: its number, and the trace with chain, seed and text."""

    number: int
    trace: Trace

    @property
    def chain(self) -> Chain:
        return self.trace.chain

    @property
    def seed(self) -> int | None:
        return self.trace.seed


@dataclass(frozen=True)
class Side:
    """One run of a comparison: the first token of its own, and what comes after."""

    number: int
    token: str
    rest: str


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        first: the step at which their tokens differ first; None if one is the other's beginning
            or they are the same.
        shared: how many tokens they begin with alike.
        common: the text of those, or its end.
        same_prompt: whether the prompts have the same tokens.
    """

    first: int | None
    shared: int
    common: str
    same_prompt: bool
    a: Side
    b: Side

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(a: PastRun, b: PastRun) -> Comparison:
    """Where two runs part."""
    one, two = a.trace.tokens, b.trace.tokens
    n = min(len(one), len(two))
    differs = (one[:n] != two[:n]).nonzero()[0]
    shared = int(differs[0]) if len(differs) else n
    return Comparison(
        first=shared if len(differs) else None,
        shared=shared,
        common=_end(_text(a.trace, 0, shared)),
        same_prompt=list(a.trace.prompt_tokens) == list(b.trace.prompt_tokens),
        a=_side(a, shared),
        b=_side(b, shared),
    )


def summary(run: PastRun) -> dict[str, Any]:
    """A run as one line of the list."""
    trace = run.trace
    chains = [acting(chain) for _, chain in trace.chains]
    return {
        "number": run.number,
        "chain": _start(" then ".join(chains)),
        "seed": trace.seed,
        "tokens": len(trace),
        "speed": _known(trace.tokens_per_second),
        "logprob": _known(float(trace.logprob.mean())) if len(trace) else None,
        "finish": trace.finish_reason,
        "text": _start(visible_piece(trace.text_bytes[: 4 * MAX_TEXT])),
    }


def meters(trace: Trace) -> dict[str, Any]:
    """The figures of a run so far; None where there is none yet."""
    begun = len(trace) > 0
    return {
        "tokens": len(trace),
        "tokens_per_second": _known(trace.tokens_per_second) if begun else None,
        "first_token_seconds": _known(trace.seconds_to_first_token) if begun else None,
        "prompt_decoded": int(trace.n_prompt_decoded) if begun else None,
        "prompt_reused": int(trace.n_prompt_reused) if begun else None,
        "finish": trace.finish_reason,
    }


def acting(chain: Chain) -> str:
    """The stages that do something at their settings, as code."""
    return " | ".join(repr(stage) for stage in chain if not stage.why_inert()) or "none"


def _side(run: PastRun, shared: int) -> Side:
    trace = run.trace
    return Side(
        number=run.number,
        token=_text(trace, shared, shared + 1)[:MAX_SIDE],
        rest=_start(_text(trace, shared + 1, len(trace)), MAX_SIDE),
    )


def _text(trace: Trace, start: int, stop: int) -> str:
    return visible_piece(b"".join(trace.pieces[start:stop]))


def _start(text: str, most: int = MAX_TEXT) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _end(text: str) -> str:
    return text if len(text) <= MAX_SIDE else "…" + text[1 - MAX_SIDE :]


def _known(x: float | None) -> float | None:
    return float(f"{x:.4g}") if x is not None and math.isfinite(x) else None

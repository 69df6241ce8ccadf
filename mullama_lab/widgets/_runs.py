"""Runs that have ended, as a run panel lists them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.glyphs import visible_piece

MAX_TEXT = 100  # characters of a text or a chain in the list


@dataclass(frozen=True, eq=False)
class PastRun:
    """A run that has ended: its number in the history, and its trace."""

    number: int
    trace: Trace

    @property
    def chain(self) -> Chain:
        return self.trace.chain

    @property
    def label(self) -> str:
        return f"run {self.number}"

    @property
    def seed(self) -> int | None:
        return self.trace.seed


def summary(run: PastRun) -> dict[str, Any]:
    """A run as one line of the list."""
    trace = run.trace
    chains = [acting(chain) for _, chain in trace.chains]
    return {
        "number": run.number,
        "chain": _beginning(" then ".join(chains)),
        "seed": trace.seed,
        "tokens": len(trace),
        "speed": _rounded(trace.tokens_per_second),
        "logprob": _rounded(float(trace.logprob.mean())) if len(trace) else None,
        "finish": trace.finish_reason,
        "text": _beginning(visible_piece(trace.text_bytes[: 4 * MAX_TEXT])),
    }


def meters(trace: Trace) -> dict[str, Any]:
    """The figures of a run so far; None where there is none yet."""
    begun = len(trace) > 0
    return {
        "tokens": len(trace),
        "tokens_per_second": _rounded(trace.tokens_per_second) if begun else None,
        "first_token_seconds": _rounded(trace.seconds_to_first_token) if begun else None,
        "prompt_decoded": int(trace.n_prompt_decoded) if begun else None,
        "prompt_reused": int(trace.n_prompt_reused) if begun else None,
        "finish": trace.finish_reason,
    }


def acting(chain: Chain) -> str:
    """The stages that do something at their settings, as code."""
    return " | ".join(repr(stage) for stage in chain if not stage.why_inert()) or "none"


def _beginning(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _rounded(x: float | None) -> float | None:
    return float(f"{x:.4g}") if x is not None and math.isfinite(x) else None

"""How a text came about, in words: the one place for those that a person reads."""

from __future__ import annotations

from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.stale import STALE, is_stale_at, stale_words
from mullama_lab.engine.trace.values import is_cut_off

ENDINGS = {
    "length": "reached max tokens",
    "eog": "the model ended the text",
    "stop": "reached a stop string",
    "complete": "the grammar was complete",
    "stopped": "stopped",
    "context": "the context is full",
    "scored": "given text, scored",
    "explored": "found by exploring",
    "failed": "failed",
    "cut": "the beginning of a text",
}
BEFORE_THE_END = {"length", "stop", "stopped", "context"}


def ending(trace: Trace) -> str:
    """How a trace ended, whether its JSON was cut off, and which steps are stale.

    "" while it is running.
    """
    end = ENDINGS.get(trace.finish_reason, trace.finish_reason)
    cut_off = trace.finish_reason in BEFORE_THE_END and is_cut_off(trace)
    json = "the JSON is not complete" if cut_off else ""
    return ", ".join(filter(None, [end, json, stale_words(trace)])) if end else ""


def row_at(trace: Trace, step: int) -> str:
    """Which row is shown where that of a step is decoded anew, over all that is before it."""
    is_stale = is_stale_at(trace, step)
    anew = f", where the text is {STALE} (this row is decoded anew)" if is_stale else ""
    return f"step {step}{anew}"


def with_mark(label: str, trace: Trace) -> str:
    """What a text is called, with the mark of one that has stale steps."""
    return f"{label} ({STALE})" if stale_words(trace) else label

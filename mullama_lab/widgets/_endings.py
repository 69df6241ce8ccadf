"""How a text came to its end, in words: the one place for those that a person reads."""

from __future__ import annotations

from mullama_lab.engine.trace import Trace

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


def ending(trace: Trace) -> str:
    """What `finish_reason` of a trace says; "" while it is running."""
    return ENDINGS.get(trace.finish_reason, trace.finish_reason)

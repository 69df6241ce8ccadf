"""What is said once of a whole trace: how it ended, its counts and its times.

Each is an attribute of the Trace, and one line here: what a file may say, and what it is in
files that were written before it existed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mullama_lab.engine.options import instance, whole
from mullama_lab.glyphs import brief


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{brief(value)} is no text")
    return value


def _count(value: Any) -> int:
    return whole("a count", value, 0, 1 << 60)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"{brief(value)} are no seconds")
    return float(value)


def _options(value: Any) -> dict[str, Any]:
    """Keyword arguments; they become code, which nothing but names and plain values may be in."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{brief(value)} is no mapping")
    found = {}
    for name, one in value.items():
        one = tuple(one) if isinstance(one, (list, tuple)) else one
        each = one if isinstance(one, tuple) else (one,)
        if not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(f"{brief(name)} is no name")
        if not all(type(part) in (bool, int, str) for part in each):
            raise TypeError(f"{name}={brief(one)} is no plain value")
        found[name] = one
    return found


class _Fact(NamedTuple):
    """How one attribute of a trace is read from a file."""

    check: Callable[[Any], Any]
    absent: Any = None  # its value in files that were written before it existed; None: none was


# Attributes of a trace that say one thing of the whole of it.
FACTS = {
    "model_id": _Fact(_name, absent=""),
    "model_options": _Fact(_options, absent={}),
    "session_options": _Fact(_options, absent={}),
    "finish_reason": _Fact(_name),
    "first_step": _Fact(_count, absent=0),
    "n_copied": _Fact(_count, absent=0),
    "captured_aside": _Fact(lambda value: instance("captured_aside", value, bool), absent=True),
    "n_prompt_decoded": _Fact(_count),
    "n_prompt_reused": _Fact(_count),
    "prompt_seconds": _Fact(_seconds),
    "seconds_to_first_token": _Fact(lambda value: None if value is None else _seconds(value)),
    "seconds": _Fact(_seconds),
}


def read_facts(data: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in a trace's dict, checked."""
    absent = {name: fact.absent for name, fact in FACTS.items() if fact.absent is not None}
    return {name: fact.check({**absent, **data}[name]) for name, fact in FACTS.items()}

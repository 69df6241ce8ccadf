"""Packed traces that begin alike: the steps that they share are written once.

A packed trace is the dict that `Trace.to_dict` gives. Two share a step if all that is recorded of
it is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Plain: TypeAlias = dict[str, Any]

_LISTS = ("n_kept", "states", "pieces", "texts")  # beside the columns, one entry a step


def most_alike(trace: Plain, others: Sequence[Plain]) -> tuple[int, int]:
    """The index of the trace that has the most first steps in common, and how many."""
    best, most, ours = 0, 0, trace["columns"]["token"]
    for index, other in enumerate(others):
        theirs = other["columns"]["token"]
        may_be_more = most < min(len(ours), len(theirs)) and ours[most] == theirs[most]
        if may_be_more and ours[:most] == theirs[:most]:  # else its records need not be compared
            n = n_alike(trace, other)
            if n > most:
                best, most = index, n
    return best, most


def without_first(trace: Plain, n: int) -> Plain:
    """A packed trace without its first n steps."""
    columns = {name: values[n:] for name, values in trace["columns"].items()}
    return {**trace, "columns": columns, **{name: trace[name][n:] for name in _LISTS}}


def with_first(rest: Plain, base: Plain, n: int) -> Plain:
    """The first n steps of another trace, then those of `rest`: undoes `without_first`."""
    if n > len(base["columns"]["token"]):
        raise ValueError(f"a branch shares {n} steps with one that has fewer")
    columns = {name: base["columns"][name][:n] + values for name, values in rest["columns"].items()}
    return {**rest, "columns": columns, **{name: base[name][:n] + rest[name] for name in _LISTS}}


def _columns(trace: Plain) -> dict[str, list[Any]]:
    """Every list of a trace's dict that has one entry a step."""
    return {**trace["columns"], **{name: trace[name] for name in _LISTS}}


def n_alike(a: Plain, b: Plain) -> int:
    """How many steps two traces begin with that are alike."""
    ours, theirs = _columns(a), _columns(b)
    if ours.keys() != theirs.keys() or a["top"] != b["top"]:
        return 0
    n = min(len(ours["token"]), len(theirs["token"]))
    for name in ("token", *(name for name in ours if name != "token")):
        one, two = ours[name], theirs[name]
        # a NaN differs from itself, its repr does not
        n = next((i for i in range(n) if one[i] != two[i] and repr(one[i]) != repr(two[i])), n)
    return n

"""A tree as plain values: the steps that a branch shares with an older one are written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mullama_lab.engine.options import whole
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree.nodes import Branch, checked_name, shortened

FORMAT = 1
_LISTS = ("n_kept", "states", "pieces", "texts")  # of a trace's dict, one entry a step

Plain = dict[str, Any]


def packed(prompt: list[int], count: int, branches: Sequence[Branch]) -> Plain:
    """What `Tree.to_dict` gives."""
    vocabulary: dict[str, str] = {}
    whole_ones: list[Plain] = []
    entries: list[Plain] = []
    for branch in branches:
        trace = branch.trace.to_dict()
        vocabulary |= trace.pop("vocabulary")
        del trace["prompt_tokens"]
        like, shared = _most_alike(trace, whole_ones)
        entries.append(
            {
                "number": branch.number,
                "name": branch.name,
                "like": like,
                "shared": shared,
                "trace": _cut(trace, shared),
            }
        )
        whole_ones.append(trace)
    return {
        "format": FORMAT,
        "prompt_tokens": prompt,
        "count": count,
        "vocabulary": vocabulary,
        "branches": entries,
    }


def unpacked(data: Mapping[str, Any]) -> tuple[list[int], int, list[Branch]]:
    """The prompt, how many numbers were given, and the branches; ValueError if it is no tree."""
    try:
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {shortened(data['format'])}, not {FORMAT}")
        prompt = [whole("a prompt token", token, 0, 2**31 - 1) for token in data["prompt_tokens"]]
        count = whole("count", data["count"], 0, 2**31)
        pieces = {int(t): bytes.fromhex(piece) for t, piece in data["vocabulary"].items()}
        branches = _branches(data["branches"], prompt, pieces)
        _check(branches, count)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"not a dict that Tree.to_dict made: {said}") from error
    return prompt, count, branches


def _branches(
    entries: Sequence[Plain], prompt: list[int], pieces: dict[int, bytes]
) -> list[Branch]:
    whole_ones: list[Plain] = []
    branches: list[Branch] = []
    for entry in entries:
        number = whole("number", entry["number"], 1, 2**31)
        shared = whole("shared", entry["shared"], 0, 2**31)
        base = None
        if shared:
            base = whole_ones[whole("like", entry["like"], 0, len(whole_ones) - 1)]
        trace = _joined(base, shared, entry["trace"])
        whole_ones.append(trace)
        given = Trace.from_dict({**trace, "prompt_tokens": prompt, "vocabulary": {}})
        given._known_pieces = pieces  # one for all of them
        branches.append(Branch(number, given, checked_name(entry["name"])))
    return branches


def _check(branches: Sequence[Branch], count: int) -> None:
    numbers = [branch.number for branch in branches]
    if numbers != sorted(set(numbers)) or (numbers and numbers[-1] > count):
        raise ValueError(f"its numbers {numbers[:9]} are not rising, or go past its count {count}")
    if len({tuple(branch.trace.tokens.tolist()) for branch in branches}) < len(branches):
        raise ValueError("two of its branches have the same tokens")
    for trace in (branch.trace for branch in branches):
        if not isinstance(trace.finish_reason, str) or not trace.finish_reason:
            raise ValueError("a branch does not say how it ended")
        _ = trace.text  # raises where its bytes are cut by what is no number


def _columns(trace: Plain) -> dict[str, list[Any]]:
    """Every list of a trace's dict that has one entry a step."""
    return {**trace["columns"], **{name: trace[name] for name in _LISTS}}


def _most_alike(trace: Plain, others: Sequence[Plain]) -> tuple[int, int]:
    """The place of the trace that has the most first steps in common, and how many."""
    shared = [_n_alike(trace, other) for other in others]
    best = max(range(len(shared)), key=shared.__getitem__, default=0)
    return best, shared[best] if shared else 0


def _n_alike(a: Plain, b: Plain) -> int:
    ours, theirs = _columns(a), _columns(b)
    if ours.keys() != theirs.keys() or a["top"] != b["top"]:
        return 0
    n = min(len(ours["token"]), len(theirs["token"]))
    for name in ("token", *(name for name in ours if name != "token")):
        one, two = ours[name], theirs[name]
        # a NaN differs from itself, its repr does not
        n = next((i for i in range(n) if one[i] != two[i] and repr(one[i]) != repr(two[i])), n)
    return n


def _cut(trace: Plain, start: int) -> Plain:
    """A trace's dict without the first steps of its lists."""
    columns = {name: values[start:] for name, values in trace["columns"].items()}
    return {**trace, "columns": columns, **{name: trace[name][start:] for name in _LISTS}}


def _joined(base: Plain | None, shared: int, rest: Plain) -> Plain:
    """The inverse of `_cut`."""
    if base is None:
        return rest
    if shared > len(base["columns"]["token"]):
        raise ValueError(f"a branch shares {shared} steps with one that has fewer")
    columns = {
        name: base["columns"][name][:shared] + values for name, values in rest["columns"].items()
    }
    lists = {name: base[name][:shared] + rest[name] for name in _LISTS}
    return {**rest, "columns": columns, **lists}

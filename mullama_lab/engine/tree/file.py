"""A tree as plain values: the steps that a branch shares with an older one are written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mullama_lab.engine.options import whole
from mullama_lab.engine.steering.file import merged
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.shared_steps import most_alike, with_first, without_first
from mullama_lab.engine.trace.token_pieces import TokenPieces
from mullama_lab.engine.tree.nodes import Branch, checked_name, shortened

FORMAT = 1

Plain = dict[str, Any]


def packed(prompt: list[int], count: int, branches: Sequence[Branch]) -> Plain:
    """What `Tree.to_dict` gives."""
    vocabulary: dict[str, str] = {}
    known: Plain = {}  # adapters and vectors that were in force
    whole_ones: list[Plain] = []
    entries: list[Plain] = []
    for branch in branches:
        trace = branch.trace.to_dict()
        vocabulary |= trace.pop("vocabulary")
        known = merged(known, trace.pop("steering"))
        del trace["prompt_tokens"]
        like, shared = most_alike(trace, whole_ones)
        entries.append(
            {
                "number": branch.number,
                "name": branch.name,
                "like": like,
                "shared": shared,
                "trace": without_first(trace, shared),
            }
        )
        whole_ones.append(trace)
    return {
        "format": FORMAT,
        "prompt_tokens": prompt,
        "count": count,
        "vocabulary": vocabulary,
        "steering": known,
        "branches": entries,
    }


def unpacked(data: Mapping[str, Any]) -> tuple[int, list[Branch]]:
    """How many numbers were given, and the branches; ValueError if it is no tree."""
    try:
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {shortened(data['format'])}, not {FORMAT}")
        prompt = [whole("a prompt token", token, 0, 2**31 - 1) for token in data["prompt_tokens"]]
        count = whole("count", data["count"], 0, 2**31)
        known = {int(t): bytes.fromhex(piece) for t, piece in data["vocabulary"].items()}
        shared = {"prompt_tokens": prompt, "vocabulary": {}, "steering": data.get("steering")}
        branches = _branches(data["branches"], shared, TokenPieces(known=known))
        _check(branches, count)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"not a dict that Tree.to_dict made: {said}") from error
    return count, branches


def _branches(entries: Sequence[Plain], shared: Plain, pieces: TokenPieces) -> list[Branch]:
    whole_ones: list[Plain] = []
    branches: list[Branch] = []
    for entry in entries:
        number = whole("number", entry["number"], 1, 2**31)
        n_shared = whole("shared", entry["shared"], 0, 2**31)
        plain = entry["trace"]
        if n_shared:
            base = whole_ones[whole("like", entry["like"], 0, len(whole_ones) - 1)]
            plain = with_first(plain, base, n_shared)
        whole_ones.append(plain)
        trace = Trace.from_dict({**plain, **shared}, pieces=pieces)  # one for all of them
        branches.append(Branch(number, trace, checked_name(entry["name"])))
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

"""A trace as plain values, and a trace from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.options import MAX_SEED, MAX_TOP, whole
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import arrays as trace_arrays
from mullama_lab.engine.trace.arrays import COLUMNS, TABLES
from mullama_lab.engine.trace.step_texts import StepTexts
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.trace.trace import Trace

MOST = 2**31 - 1


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


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "finish_reason": _name,
    "first_step": _count,
    "n_copied": _count,
    "n_prompt_decoded": _count,
    "n_prompt_reused": _count,
    "prompt_seconds": _seconds,
    "seconds_to_first_token": lambda value: None if value is None else _seconds(value),
    "seconds": _seconds,
}
FACTS = tuple(_CHECKS)  # of a whole trace, in one value each


def packed(trace: Trace) -> dict[str, Any]:
    """What `Trace.to_dict` gives of a trace that does not grow."""
    chains = [[first, chain.to_dict()] for first, chain in trace.chains]
    return {"chains": chains, **all_but_chains(trace)}


def all_but_chains(trace: Trace) -> dict[str, Any]:
    """The part that is there for every trace: a chain with a Python function is no value."""
    n = len(trace)
    return {
        "model_name": trace.model_name,
        "prompt_tokens": trace.prompt_tokens.tolist(),
        "seed": trace.seed,
        "top": trace.top,
        "columns": {name: getattr(trace, name).tolist() for name in (*COLUMNS, *TABLES)},
        "n_kept": [list(kept) for kept in trace._n_kept[:n]],
        "states": [[list(x) for x in state] for state in trace._states[:n]],
        "pieces": [p.hex() for p in trace.pieces[:n]],
        "texts": [t.hex() for t in trace._texts.parts[:n]],
        "text_bytes": trace._texts.end_in_bytes,
        "vocabulary": {str(t): trace.piece(t).hex() for t in trace._named_tokens()},
        **{name: getattr(trace, name) for name in FACTS},
    }


def unpacked(data: Mapping[str, Any], kind: type[Trace]) -> Trace:
    """The trace that `packed` gave; ValueError if it gave no such thing."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{brief(data)} is not a dict that Trace.to_dict made.")
    try:
        top = whole("top", data["top"], 0, MAX_TOP)
        prompt = [whole("a prompt token", token, 0, MOST) for token in data["prompt_tokens"]]
        seed = None if data["seed"] is None else whole("seed", data["seed"], 0, MAX_SEED)
        trace = kind(prompt_tokens=prompt, seed=seed, top=top)
        trace.model_name = str(data["model_name"])
        trace.chains = [
            (whole("the step of a chain", first, 0, MOST), Chain.from_dict(c))
            for first, c in data["chains"]
        ]
        trace._arrays = trace_arrays.read(data["columns"], top)
        n = trace._n = len(trace._arrays["token"])
        trace._n_kept = [
            tuple(whole("n_kept", left, 0, MOST) for left in kept) for kept in data["n_kept"]
        ]
        trace._states = [
            tuple(tuple(map(float, values)) for values in state) for state in data["states"]
        ]
        trace.pieces = [bytes.fromhex(p) for p in data["pieces"]]
        trace._texts = StepTexts([bytes.fromhex(t) for t in data["texts"]])
        if data["text_bytes"] is not None:
            trace._texts.end_at(whole("text_bytes", data["text_bytes"], 0, 1 << 40))
        trace._rows = [None] * n
        trace._known_pieces = {int(t): bytes.fromhex(p) for t, p in data["vocabulary"].items()}
        for name, check in _CHECKS.items():
            setattr(trace, name, check({"first_step": 0, "n_copied": 0, **data}[name]))
        lists = (trace._n_kept, trace._states, trace.pieces, trace._texts.parts)
        if any(len(column) != n for column in (*trace._arrays.values(), *lists)):
            raise ValueError("its columns differ in length")
        firsts = [first for first, _ in trace.chains]
        if not firsts or firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise ValueError("its chains do not begin with its first step and go on in order")
        if trace.n_copied > n:
            raise ValueError(f"n_copied={trace.n_copied}: it has {n} steps")
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a dict that Trace.to_dict made: {error}") from error
    return trace

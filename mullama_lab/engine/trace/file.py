"""A trace as plain values, and a trace from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.options import MAX_TOP, whole
from mullama_lab.engine.sampling.chain import Chain
from mullama_lab.engine.trace import arrays as trace_arrays
from mullama_lab.engine.trace.arrays import COLUMNS, TABLES

if TYPE_CHECKING:
    from mullama_lab.engine.trace.trace import Trace

FACTS = (  # of a whole trace, in one value each
    "finish_reason",
    "first_step",
    "n_copied",
    "n_prompt_decoded",
    "n_prompt_reused",
    "prompt_seconds",
    "seconds_to_first_token",
    "seconds",
)


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
        "texts": [t.hex() for t in trace._texts[:n]],
        "text_bytes": trace._text_bytes,
        "vocabulary": {str(t): trace.piece(t).hex() for t in trace._named_tokens()},
        **{name: getattr(trace, name) for name in FACTS},
    }


def unpacked(data: Mapping[str, Any], kind: type[Trace]) -> Trace:
    """The trace that `packed` gave; ValueError if it gave no such thing."""
    try:
        top = whole("top", data["top"], 0, MAX_TOP)
        trace = kind(prompt_tokens=data["prompt_tokens"], seed=data["seed"], top=top)
        trace.model_name = str(data["model_name"])
        trace.chains = [(int(first), Chain.from_dict(c)) for first, c in data["chains"]]
        trace._arrays = trace_arrays.read(data["columns"], top)
        n = trace._n = len(trace._arrays["token"])
        trace._n_kept = [tuple(kept) for kept in data["n_kept"]]
        trace._states = [tuple(map(tuple, state)) for state in data["states"]]
        trace.pieces = [bytes.fromhex(p) for p in data["pieces"]]
        trace._texts = [bytes.fromhex(t) for t in data["texts"]]
        trace._text_bytes = data["text_bytes"]
        trace._rows = [None] * n
        trace._known_pieces = {int(t): bytes.fromhex(p) for t, p in data["vocabulary"].items()}
        for name in FACTS:
            setattr(trace, name, {"first_step": 0, "n_copied": 0, **data}[name])
        lists = (trace._n_kept, trace._states, trace.pieces, trace._texts)
        if any(len(column) != n for column in (*trace._arrays.values(), *lists)):
            raise ValueError("its columns differ in length")
        if not trace.chains or trace.chains[0][0] != 0:
            raise ValueError("no chain is given for its first step")
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a dict that Trace.to_dict made: {error}") from error
    return trace

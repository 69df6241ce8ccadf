"""A trace as plain values, and the parts of a trace read from them.

The steps are packed and read by `StepTable`; here are the prompt, the chains, and how it went.
What comes from a file is checked as if a stranger had written it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mullama_lab.engine.options import MAX_SEED, MAX_TOP, whole
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace.facts import FACTS, read_facts
from mullama_lab.engine.trace.parts import TraceParts
from mullama_lab.engine.trace.step_table import MOST, StepTable
from mullama_lab.engine.trace.token_pieces import TokenPieces
from mullama_lab.glyphs import brief


def packed(parts: TraceParts) -> dict[str, Any]:
    """Plain values that survive JSON; ValueError if a chain has a Python function in it."""
    chains = [[first, chain.to_dict()] for first, chain in parts.chains]
    return {"chains": chains, **packed_without_chains(parts)}


def packed_without_chains(parts: TraceParts) -> dict[str, Any]:
    """What every trace has as plain values, also one whose chain is code."""
    return {
        "model_name": parts.model_name,
        "prompt_tokens": parts.prompt_tokens.tolist(),
        "seed": parts.seed,
        "top": parts.steps.top,
        **parts.steps.packed(),
        "vocabulary": {str(t): parts.pieces.of(t).hex() for t in parts.named_tokens()},
        **{name: parts.facts[name] for name in FACTS},
    }


def unpacked(data: Mapping[str, Any]) -> TraceParts:
    """The parts of a trace that was packed; ValueError if the dict is no such thing."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{brief(data)} is not a dict that Trace.to_dict made.")
    try:
        prompt = [whole("a prompt token", token, 0, MOST) for token in data["prompt_tokens"]]
        known = {int(token): bytes.fromhex(p) for token, p in data["vocabulary"].items()}
        parts = TraceParts(
            model_name=str(data["model_name"]),
            prompt_tokens=np.array(prompt, np.int32),
            seed=None if data["seed"] is None else whole("seed", data["seed"], 0, MAX_SEED),
            chains=_chains(data["chains"]),
            steps=StepTable.unpacked(data, whole("top", data["top"], 0, MAX_TOP)),
            pieces=TokenPieces(known=known),
            facts=read_facts(data),
        )
        n, n_copied = len(parts.steps), parts.facts["n_copied"]
        if n_copied > n:
            raise ValueError(f"n_copied={n_copied}: it has {n} steps")
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a dict that Trace.to_dict made: {error}") from error
    return parts


def _chains(entries: Any) -> list[tuple[int, Chain]]:
    chains = [
        (whole("the step of a chain", first, 0, MOST), Chain.from_dict(chain))
        for first, chain in entries
    ]
    firsts = [first for first, _ in chains]
    if not firsts or firsts[0] != 0 or firsts != sorted(set(firsts)):
        raise ValueError("its chains do not begin with its first step and go on in order")
    return chains

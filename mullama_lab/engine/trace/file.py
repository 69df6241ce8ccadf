"""A trace as plain values, and the parts of a trace read from them.

The steps are packed and read by `StepTable`; here are the prompt, the chains, and how it went.
What comes from a file is checked as if a stranger had written it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from mullama_lab.engine.options import MAX_SEED, MAX_TOP, instance, whole
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.steering import file as steering_file
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.trace.facts import FACTS, read_facts
from mullama_lab.engine.trace.parts import InForce, TraceParts
from mullama_lab.engine.trace.step_table import MOST, StepTable
from mullama_lab.engine.trace.token_pieces import TokenPieces
from mullama_lab.glyphs import brief

T = TypeVar("T")


def packed(parts: TraceParts) -> dict[str, Any]:
    """Plain values that survive JSON; ValueError if a chain has a Python function in it."""
    chains = [[first, chain.to_dict()] for first, chain in parts.chains]
    return {"chains": chains, **packed_without_chains(parts)}


def packed_without_chains(parts: TraceParts) -> dict[str, Any]:
    """What every trace has as plain values, also one whose chain is code."""
    return {
        "model_name": parts.model_name,
        "prompt_tokens": parts.prompt_tokens.tolist(),
        "in_force": [
            [first, steering_file.packed(one.steering) | ({"stale": True} if one.stale else {})]
            for first, one in parts.in_force
        ],
        "steering": steering_file.known_of(one.steering for _, one in parts.in_force),
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
            chains=_by_step(data["chains"], "chain", Chain.from_dict),
            in_force=_in_force(data),
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


def _in_force(data: Mapping[str, Any]) -> list[tuple[int, InForce]]:
    if "in_force" not in data:  # an old file, which names weights but does not say what they are
        return _by_step(
            data.get("epochs", [[0, ""]]),
            "epoch",
            lambda name: InForce(Steering(), stale=bool(instance("epoch", name, str))),
        )
    known = data["steering"]

    def read(plain: Mapping[str, Any]) -> InForce:
        stale = instance("stale", plain.get("stale", False), bool)
        return InForce(steering_file.unpacked(plain, known), stale)

    return _by_step(data["in_force"], "steering", read)


def _by_step(entries: Any, what: str, read: Callable[[Any], T]) -> list[tuple[int, T]]:
    """What was in force from which step on."""
    known = [
        (whole(f"the step of a {what}", first, 0, MOST), read(value)) for first, value in entries
    ]
    firsts = [first for first, _ in known]
    if not firsts or firsts[0] != 0 or firsts != sorted(set(firsts)):
        raise ValueError(f"its {what}s do not begin with its first step and go on in order")
    return known

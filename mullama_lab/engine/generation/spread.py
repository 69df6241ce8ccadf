"""One or many prompts, chains and seeds become one of each for every text to generate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.options import seed_or_random
from mullama_lab.engine.sampling.chain import Chain, Stage

Prompt: TypeAlias = "str | Sequence[int] | NDArray[np.integer[Any]]"
Chains: TypeAlias = "Chain | Stage | Iterable[Chain | Stage | Iterable[Stage] | None] | None"


def spread(
    prompts: Prompt | Iterable[Prompt], chains: Chains, seeds: int | Iterable[int] | None
) -> list[tuple[Prompt, Chain, int]]:
    """A prompt, a chain and a seed for each text; what is given once goes with all of them.

    Raises:
        ValueError: the lists differ in length, or one is empty.
    """
    lists = {"prompts": _prompts(prompts), "chains": _chains(chains), "seeds": _seeds(seeds)}
    n = max(map(len, lists.values()))
    for name, values in lists.items():
        if len(values) not in (1, n):
            said = ", ".join(f"{len(v)} {k}" for k, v in lists.items())
            raise ValueError(f"{said}: give one of {name}, or {n}.")
    columns = [values * n if len(values) == 1 else values for values in lists.values()]
    return [(p, c, seed_or_random(s)) for p, c, s in zip(*columns, strict=True)]


def _prompts(prompts: Any) -> list[Prompt]:
    if isinstance(prompts, (str, bytes, dict)) or not hasattr(prompts, "__iter__"):
        return [cast(Prompt, prompts)]  # what is wrong with one is said where it is tokenised
    items = list(prompts)
    if not items:
        raise ValueError("no prompt is given: give at least one.")
    return [items] if hasattr(items[0], "__index__") else items


def _chains(chains: Any) -> list[Chain]:
    if chains is None or isinstance(chains, (Chain, Stage)):
        return [Chain.of(chains)]
    items = list(chains) if isinstance(chains, Iterable) else [chains]
    if all(isinstance(item, Stage) for item in items):
        return [Chain(items)]
    return [Chain.of(item) for item in items]


def _seeds(seeds: Any) -> list[int | None]:
    if seeds is None or not isinstance(seeds, Iterable):
        return [seeds]
    items = list(seeds)
    if not items:
        raise ValueError("no seed is given: give at least one, or None.")
    return items

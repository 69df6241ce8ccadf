"""One or many prompts, chains and seeds become one of each for every text to generate.

One rule for all that take several: what is given alone goes with every text, a list has one for
each. So a list of stages is a list of chains of one stage; a chain of several is written
`TopK(40) | MinP(0.1)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.options import listed, seed_or_random
from mullama_lab.engine.setting import Setting, setting_or_chain
from mullama_lab.engine.stages import Chain, Constrain, Stage

T = TypeVar("T")
Prompt: TypeAlias = "str | Sequence[int] | NDArray[np.integer[Any]]"
OneChain: TypeAlias = "Setting | Chain | Stage | Iterable[Stage] | None"
Chains: TypeAlias = "Setting | Chain | Stage | Iterable[OneChain] | None"
Grammars: TypeAlias = "Grammar | Constrain | Iterable[Grammar | Constrain | None] | None"
Seeds: TypeAlias = "int | Iterable[int | None] | None"


@dataclass(frozen=True)
class ForAll(Generic[T]):
    """What was given alone and goes with every text."""

    value: T


Given: TypeAlias = "ForAll[T] | list[T]"


def spread(
    prompts: Prompt | Iterable[Prompt], chains: Chains, grammars: Grammars, seeds: Seeds
) -> list[tuple[Prompt, Setting | Chain, Grammar | Constrain | None, int]]:
    """What makes each text: prompt, chain, grammar, seed; what is given alone goes with all.

    Raises:
        ValueError: the lists differ in length, or one is empty.
    """
    rows = together(
        prompts=_prompts(prompts),
        chains=chains_given(chains),
        grammars=_grammars(grammars),
        seeds=_seeds(seeds),
    )
    return [(p, setting_or_chain(c), g, seed_or_random(s)) for p, c, g, s in rows]


def spread_branches(
    branches: Iterable[T], chains: Chains, seeds: Seeds
) -> list[tuple[T, Setting | Chain | None, int | None]]:
    """As `spread`, for branches; None is what the branch's trace has there.

    Raises:
        ValueError: the lists differ in length, or one is empty.
    """
    forks = listed("branches", branches, "(trace, step, token)")
    if not forks:
        raise ValueError("no branch is given: give at least one (trace, step, token).")
    rows = together(branches=forks, chains=chains_given(chains), seeds=_seeds(seeds))
    return [(fork, None if c is None else setting_or_chain(c), s) for fork, c, s in rows]


def together(**columns: Given[Any]) -> list[tuple[Any, ...]]:
    """One row for each text, from lists of one length and from what goes with all.

    Raises:
        ValueError: two lists differ in length.
    """
    counts = {name: len(x) if isinstance(x, list) else 1 for name, x in columns.items()}
    n = max(counts.values())
    for name, given in columns.items():
        if isinstance(given, list) and len(given) != n:
            said = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise ValueError(
                f"{said}: give one of {name}, or {n}. One for all is given alone, not in a list."
            )
    lists = [x if isinstance(x, list) else [x.value] * n for x in columns.values()]
    return list(zip(*lists, strict=True))


def chains_given(chains: Chains) -> Given[OneChain]:
    """One chain, stage or Setting for all, or a list with one for each.

    Raises:
        ValueError: the list is empty.
    """
    if isinstance(chains, (Chain, Stage)) or not isinstance(chains, Iterable):
        return ForAll(chains)
    return _listed(chains, "no chain is given: give at least one, or None for the default.")


def prompts_given(prompts: Prompt | Iterable[Prompt]) -> list[Prompt]:
    """The prompts, one or several."""
    given = _prompts(prompts)
    return given if isinstance(given, list) else [given.value]


def _prompts(prompts: Any) -> Given[Prompt]:
    if isinstance(prompts, (str, bytes, dict)) or not hasattr(prompts, "__iter__"):
        return ForAll(cast(Prompt, prompts))  # what is wrong with one is said where it is tokenised
    items = _listed(prompts, "no prompt is given: give at least one.")
    return ForAll(items) if hasattr(items[0], "__index__") else items


def _grammars(grammars: Grammars) -> Given[Grammar | Constrain | None]:
    if isinstance(grammars, (str, Grammar, Constrain)) or not isinstance(grammars, Iterable):
        return ForAll(cast(Any, grammars))  # what is wrong with one is said by Constrain
    return _listed(grammars, "no grammar is given: give at least one, or None.")


def _seeds(seeds: Any) -> Given[int | None]:
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, Iterable):
        return ForAll(cast("int | None", seeds))  # what is wrong with it is said by its check
    return _listed(seeds, "no seed is given: give at least one, or None.")


def _listed(items: Iterable[T], if_empty: str) -> list[T]:
    found = listed("a list", items, "values, one for each text")
    if not found:
        raise ValueError(if_empty)
    return found

"""Decodes timed in rounds: what studies of llama.cpp's own speed measure with.

Each round times everything once, the next one backwards: so a busy machine slows all alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import psutil

from mullama_lab.counted import counted
from mullama_lab.engine.decode_loop import DecodeLoop, Opening, Timed
from mullama_lab.engine.model import Model
from mullama_lab.warned import warn

MOST_REPEATS = 10_000


@dataclass(frozen=True)
class Item:
    """What is timed, on which context of which model."""

    model: Model
    opening: Opening
    timed: Timed


def must_open(items: Iterable[Item]) -> None:
    """Open each context once: what llama.cpp refuses it refuses before an hour is measured."""
    openings: dict[int, dict[Opening, Model]] = {}
    for item in items:
        openings.setdefault(id(item.model), {})[item.opening] = item.model
    for of_model in openings.values():
        with DecodeLoop(next(iter(of_model.values()))) as loop:
            for opening in of_model:
                loop.open(opening)


def rounds(
    items: Sequence[Item], repeats: int, is_wanted: Callable[[], bool] = lambda: True
) -> Iterator[tuple[int, int]]:
    """(index of the item, nanoseconds), each item once a round.

    Raises:
        Stopped: it is not wanted any more, as is asked several times a second.
    """
    groups: dict[tuple[int, Opening], list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault((id(item.model), item.opening), []).append(index)
    loop: DecodeLoop | None = None
    try:
        for number in range(repeats):
            order = slice(None, None, -1 if number % 2 else 1)
            for indices in list(groups.values())[order]:
                first = items[indices[0]]
                if loop is None or loop.model is not first.model:  # one pool of threads at a time
                    if loop is not None:
                        loop.close()
                    loop = DecodeLoop(first.model, is_wanted)
                loop.open(first.opening)
                timed = [items[index].timed for index in indices]
                longest = max(one.n_prompt for one in timed)
                most_threads = max(one.n_threads for one in timed)  # they take the most memory
                loop.warm_up(min(longest, first.opening.n_ubatch), most_threads)
                for index in indices[order]:
                    yield index, loop.time(replace(items[index].timed, seed=number))
    finally:
        if loop is not None:
            loop.close()


def warn_of_other_threads(n_threads: int) -> None:
    """Say it where the threads of open sessions would be more than there are processors."""
    sessions = [session for model in Model.opened() for session in model.sessions]
    others = sum(session.settings["n_threads"] - 1 for session in sessions)
    if others and others + n_threads > (psutil.cpu_count() or 1):
        warn(
            f"{counted(len(sessions), 'session')} of this process may slow what is measured: "
            f"{counted(others, 'thread')} of llama.cpp beside it. Close what is open, or use "
            "`mullama-lab bench` in a terminal."
        )

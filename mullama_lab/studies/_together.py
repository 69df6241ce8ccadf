"""What studies of many texts share: seeds, strengths, a bar, a wait that can be ended, a mean."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from mullama_lab.engine.bar import bar
from mullama_lab.engine.loop.run import Runs
from mullama_lab.engine.options import MAX_SEED, listed, whole
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief

SHOW_PERIOD = 0.05  # seconds from one look at the runs to the next
MOST_SEEDS = 4096


def wait_for(runs: Runs, max_tokens: int, shown: Bar) -> list[Trace]:
    """Wait for all runs and show how many tokens are there; what fails is in each `run.error`.

    Ctrl-C stops them, and is raised once they have ended: the session is free again then.
    """
    try:
        for _ in _each_news(runs):
            shown.show(_n_there(runs, max_tokens))
    except BaseException:
        runs.stop()
        with suppress(MullamaError):
            runs.wait()
        raise
    with suppress(MullamaError):
        runs.wait()
    shown.show(_n_there(runs, max_tokens))
    return runs.traces


def _each_news(runs: Runs) -> Iterator[None]:
    """Yields when any of the runs brought something, until all have ended; not at every token."""
    came = threading.Event()
    stop_listening = [run.on_news(came.set) for run in runs]
    try:
        while not runs.done:
            if not came.wait(WAIT_STEP):  # in steps: not every interrupt ends a wait
                continue
            came.clear()
            yield
            with suppress(TimeoutError, MullamaError):
                runs.wait(SHOW_PERIOD)
    finally:
        for undo in stop_listening:
            undo()


def _n_there(runs: Runs, max_tokens: int) -> int:
    """Tokens that need not be waited for: those of a run that has ended count as all of its."""
    return sum(max_tokens if run.done else len(run.trace) for run in runs)


class Bar:
    """A bar over work that comes in batches."""

    def __init__(self, what: str, total: int, unit: str, *, shown: bool = True) -> None:
        self._tqdm = bar(what, total, unit, shown=shown)
        self.before = 0  # what earlier batches did

    def show(self, n: int) -> None:
        """Say how far the present batch is."""
        if (new := self.before + n - self._tqdm.n) > 0:
            self._tqdm.update(new)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._tqdm.close()


def mean(values: Sequence[float]) -> float:
    """The mean; not a number of nothing."""
    return float(sum(values) / len(values)) if len(values) else float("nan")


def listed_seeds(seeds: int | Iterable[int]) -> list[int]:
    """A seed or a list of them, as a list."""
    if isinstance(seeds, str):
        raise TypeError(f"seeds={brief(seeds)}: give a whole number, or a list of them.")
    if isinstance(seeds, Iterable):
        numbers = listed("seeds", seeds, "seeds")
    else:
        numbers = [whole("seeds", seeds, 0, MAX_SEED)]
    if not 1 <= len(numbers) <= MOST_SEEDS:
        raise ValueError(f"{len(numbers)} seeds are given: give from 1 to {MOST_SEEDS}.")
    return numbers


def listed_strengths(values: Iterable[float]) -> list[float]:
    """Strengths that a caller gives: at least one."""
    given = listed("values", values, "strengths")
    try:
        numbers = [float(one) for one in given]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"values={brief(given)}: each must be a number.") from None
    if not numbers:
        raise ValueError("values=[]: give at least one strength.")
    return numbers

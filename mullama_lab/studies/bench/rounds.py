"""Measured in rounds: each round times every row once, the next one backwards.

So a busy machine slows all rows alike. What is measured stays, whatever ends it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import psutil

from mullama_lab.counted import counted
from mullama_lab.engine.decode_loop import DecodeLoop, Opening, Timed
from mullama_lab.engine.model import Model
from mullama_lab.errors import MullamaError
from mullama_lab.studies._together import Bar
from mullama_lab.studies.bench.machine import Machine
from mullama_lab.studies.bench.result import BenchResult
from mullama_lab.studies.bench.row import BenchRow
from mullama_lab.warned import warn

MOST_REPEATS = 10_000
_UTC = "%Y-%m-%dT%H:%M:%SZ"


class BenchStopped(KeyboardInterrupt):
    """Ctrl-C in a benchmark; `result` has what was measured.

    In a notebook: `result = sys.last_value.result`.
    """

    def __init__(self, result: BenchResult) -> None:
        super().__init__("stopped; what was measured is in `sys.last_value.result`")
        self.result = result


class BenchFailed(MullamaError):
    """A benchmark failed in the middle; `result` has what was measured before, `why` the reason.

    In a notebook: `result = sys.last_value.result`. The error itself is its `__cause__`.
    """

    def __init__(self, why: str, result: BenchResult) -> None:
        super().__init__(f"{why} What was measured before is in `sys.last_value.result`.")
        self.why, self.result = why, result


@dataclass(frozen=True)
class Item:
    """A row to be: what is timed, on which context of which model."""

    model: Model
    opening: Opening
    timed: Timed


def measured(items: Iterable[Item], repeats: int, what: str, *, progress: bool) -> BenchResult:
    """What each item takes, in so many rounds; the same item given twice is measured once.

    Args:
        what: the bar's label.

    Raises:
        BenchStopped: Ctrl-C.
        BenchFailed: something failed after a first row was measured.
        ValueError: a context would not fit in memory.
        ModelLoadError: a model does not generate, or llama.cpp refuses the settings.
    """
    items = list(dict.fromkeys(items))
    machine, run = Machine.here(), uuid.uuid4().hex
    _must_open(items)
    _warn_of_other_threads(max(item.timed.n_threads for item in items))
    samples: list[list[int]] = [[] for _ in items]
    began = [""] * len(items)
    try:
        with Bar(what, repeats * len(items), "test", shown=progress) as bar:
            for done, (place, ns) in enumerate(_rounds(items, repeats), start=1):
                began[place] = began[place] or time.strftime(_UTC, time.gmtime())
                samples[place].append(ns)
                bar.show(done)
    except (KeyboardInterrupt, Exception) as error:
        result = BenchResult(_rows(items, began, samples), machine, run, complete=False)
        if isinstance(error, KeyboardInterrupt):
            raise BenchStopped(result) from None
        if result.rows:
            raise BenchFailed(str(error) or type(error).__name__, result) from error
        raise
    return BenchResult(_rows(items, began, samples), machine, run)


def _must_open(items: Iterable[Item]) -> None:
    """Open each context once: what llama.cpp refuses it refuses before an hour is measured."""
    openings: dict[int, dict[Opening, Model]] = {}
    for item in items:
        openings.setdefault(id(item.model), {})[item.opening] = item.model
    for of_model in openings.values():
        with DecodeLoop(next(iter(of_model.values()))) as loop:
            for opening in of_model:
                loop.open(opening)


def _rounds(items: Sequence[Item], repeats: int) -> Iterator[tuple[int, int]]:
    """The place of what was measured, and nanoseconds; each place once a round."""
    groups: dict[tuple[int, Opening], list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault((id(item.model), item.opening), []).append(place)
    loop: DecodeLoop | None = None
    try:
        for number in range(repeats):
            turn = slice(None, None, -1 if number % 2 else 1)
            for places in list(groups.values())[turn]:
                first = items[places[0]]
                if loop is None or loop.model is not first.model:  # one pool of threads at a time
                    if loop is not None:
                        loop.close()
                    loop = DecodeLoop(first.model)
                loop.open(first.opening)
                longest = max(items[place].timed.n_prompt for place in places)
                loop.warm_up(min(longest, first.opening.n_ubatch), first.timed.n_threads)
                for place in places[turn]:
                    yield place, loop.time(replace(items[place].timed, seed=number))
    finally:
        if loop is not None:
            loop.close()


def _rows(
    items: Sequence[Item], began: Sequence[str], samples: Sequence[Sequence[int]]
) -> tuple[BenchRow, ...]:
    """The rows of what was measured at least once."""
    return tuple(
        BenchRow(
            model_filename=str(item.model.path),
            model_type=item.model.description,
            model_size=item.model.size_bytes,
            model_n_params=item.model.n_params,
            n_gpu_layers=item.model.options.get("n_gpu_layers", 0),
            load_mode=_load_mode(item.model),
            n_prompt=item.timed.n_prompt,
            n_gen=item.timed.n_gen,
            n_depth=item.timed.n_depth,
            n_sequences=item.opening.n_sequences,
            n_threads=item.timed.n_threads,
            n_batch=item.opening.n_batch,
            n_ubatch=item.opening.n_ubatch,
            type_k=item.opening.kv_types[0],
            type_v=item.opening.kv_types[1],
            flash_attention=item.opening.flash_attention,
            test_time=when,
            samples_ns=tuple(ns),
        )
        for item, when, ns in zip(items, began, samples)
        if ns
    )


def _load_mode(model: Model) -> str:
    """llama-bench's name for how the weights came into memory."""
    given = {"mmap": model.options.get("mmap", True), "mlock": model.options.get("mlock", False)}
    return "+".join(name for name, is_on in given.items() if is_on) or "none"


def _warn_of_other_threads(n_threads: int) -> None:
    """Say it where the threads of open sessions would be more than there are processors."""
    sessions = [session for model in Model.opened() for session in model.sessions]
    others = sum(session.settings["n_threads"] - 1 for session in sessions)
    if others and others + n_threads > (psutil.cpu_count() or 1):
        warn(
            f"{counted(len(sessions), 'session')} of this process may slow what is measured: "
            f"{counted(others, 'thread')} of llama.cpp beside it. Close what is open, or use "
            "`mullama-lab bench` in a terminal."
        )

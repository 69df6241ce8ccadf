"""How fast is a model on this machine, with which settings, and is it faster than before?

Measured as llama-bench does, and told in its words: random tokens go through `llama_decode`, and
nothing is sampled. `mullama-lab bench MODEL` is the same in a terminal.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import psutil

from mullama_lab.counted import counted
from mullama_lab.engine import options
from mullama_lab.engine.decode_loop import DecodeLoop, Opening, Timed
from mullama_lab.engine.model import Model
from mullama_lab.engine.native.context import FLASH_ATTENTION
from mullama_lab.engine.options import listed, one_of, whole
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief
from mullama_lab.studies._together import Bar
from mullama_lab.studies.bench.comparison import Comparison, Difference, compare
from mullama_lab.studies.bench.history import Entry, History
from mullama_lab.studies.bench.machine import Machine
from mullama_lab.studies.bench.result import BenchResult
from mullama_lab.studies.bench.row import BenchRow
from mullama_lab.studies.bench.sizes import MOST_TOKENS, BenchTest
from mullama_lab.warned import warn

__all__ = [
    "BenchFailed",
    "BenchResult",
    "BenchRow",
    "BenchStopped",
    "Comparison",
    "Difference",
    "Entry",
    "History",
    "Machine",
    "bench",
    "compare",
]
__dir__ = __all__.copy  # what tab completion offers

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
class _Item:
    """A row to be: what is timed, on which context of which model."""

    model: Model
    opening: Opening
    timed: Timed


def bench(
    models: Model | str | Path | Sequence[Model | str | Path],
    tests: str | Iterable[str] = ("pp512", "tg128"),
    *,
    threads: int | Iterable[int] | None = None,
    batch: int | Iterable[int] = 2048,
    ubatch: int | Iterable[int] = 512,
    depth: int | Iterable[int] = 0,
    kv_type: str | tuple[str, str] | list[str | tuple[str, str]] = "f16",
    flash_attention: str | Iterable[str] = "auto",
    sequences: int | Iterable[int] = 1,
    repeats: int = 5,
    progress: bool = True,
) -> BenchResult:
    """Measure tokens a second, for every combination of what is given as a list.

        bench("smollm2-135m", ["pp512", "tg128"], threads=[1, 2], kv_type=["f16", "q8_0"])

    Each round measures every row once, on a context opened for it, the next round backwards; so a
    busy machine slows all alike, and the chance of where a context lies in memory is part of the
    spread. Before a row is timed its context decodes a batch, for memory that is used the first
    time is slow. The depth is not in the time.

    Close other sessions first: llama.cpp's threads wait in busy loops. On a Mac, llama.cpp built
    without OpenMP starts its threads anew for every decode here, and llama-bench does not.

    Ctrl-C raises BenchStopped, a KeyboardInterrupt, and what fails in the middle BenchFailed; the
    `result` of either has what was measured.

    Args:
        models: a Model, or what `Model.load` takes, or a list of those.
        tests: "pp512" processes a prompt, "tg128" generates, "pp512+tg128" (or "pg512,128") does
            both; with " @ d4096" behind as many tokens in the cache, in place of `depth`.
        threads: None is a thread for each core, as llama-bench takes; a session takes one less.
        batch, ubatch: tokens of one `llama_decode`, and tokens computed at once.
        depth: tokens in the cache before.
        kv_type: of the cache, "f16" or "q8_0" and the like; a tuple is (keys, values).
        flash_attention: "auto", "on" or "off".
        sequences: texts decoded together; tokens a second are those of all of them.
        repeats: rounds.
        progress: show a bar when it takes longer than two seconds.

    Raises:
        BenchStopped: Ctrl-C.
        BenchFailed: something failed after a first row was measured, such as a file that changed.
        ValueError: a value is out of range, or a context would not fit in memory.
        ModelLoadError: a model does not generate, or llama.cpp refuses the settings.
    """
    cores = options.n_cores()
    asked = [BenchTest.of(name) for name in _several("tests", tests, "tests")]
    settings = {
        "batch": _numbers("batch", batch, 1, 1 << 16),
        "ubatch": _numbers("ubatch", ubatch, 1, 1 << 16),
        "kv_type": [options.kv_types(one) for one in _kv_types(kv_type)],
        "flash_attention": [
            one_of("flash_attention", one, FLASH_ATTENTION)
            for one in _several("flash_attention", flash_attention, "names")
        ],
        "sequences": _numbers("sequences", sequences, 1, 256),
        "depth": _numbers("depth", depth, 0, MOST_TOKENS),
        "threads": _numbers("threads", cores if threads is None else threads, 1, 512),
    }
    repeats = whole("repeats", repeats, 1, MOST_REPEATS)
    given: Sequence[Any] = models if isinstance(models, (list, tuple)) else [models]
    if not given:
        raise ValueError("models=[]: give at least one model.")
    machine, run = Machine.here(), uuid.uuid4().hex
    with ExitStack() as opened:
        loaded = [
            one if isinstance(one, Model) else opened.enter_context(Model.load(one))
            for one in given
        ]
        items = [item for model in loaded for item in _items(model, asked, **settings)]
        items = list(dict.fromkeys(items))
        _must_open(items)
        _warn_of_other_threads(max(item.timed.n_threads for item in items))
        samples: list[list[int]] = [[] for _ in items]
        began = [""] * len(items)
        try:
            with Bar("bench", repeats * len(items), "test", shown=progress) as bar:
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


def _must_open(items: Iterable[_Item]) -> None:
    """Open each context once: what llama.cpp refuses it refuses before an hour is measured."""
    openings: dict[int, dict[Opening, Model]] = {}
    for item in items:
        openings.setdefault(id(item.model), {})[item.opening] = item.model
    for of_model in openings.values():
        with DecodeLoop(next(iter(of_model.values()))) as loop:
            for opening in of_model:
                loop.open(opening)


def _rounds(items: Sequence[_Item], repeats: int) -> Iterator[tuple[int, int]]:
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


def _items(
    model: Model,
    tests: Sequence[BenchTest],
    *,
    batch: Sequence[int],
    ubatch: Sequence[int],
    kv_type: Sequence[tuple[str, str]],
    flash_attention: Sequence[str],
    sequences: Sequence[int],
    depth: Sequence[int],
    threads: Sequence[int],
) -> Iterator[_Item]:
    """What there is to measure of one model, in the order of the table."""
    longest: dict[int, int] = {}  # at each depth
    for test in tests:
        for n in depth if test.n_depth is None else [test.n_depth]:
            longest[n] = max(longest.get(n, 0), n + test.n_prompt + test.n_gen)
    for nb, nub, kv, fa, ns, nt in product(
        batch, ubatch, kv_type, flash_attention, sequences, threads
    ):
        for nd in depth:
            for test in tests:
                n = nd if test.n_depth is None else test.n_depth
                whole("n_ctx", longest[n] * ns, 1, MOST_TOKENS)
                yield _Item(
                    model,
                    Opening(longest[n], ns, nb, nub, fa, kv),
                    Timed(test.n_prompt, test.n_gen, n, nt),
                )


def _rows(
    items: Sequence[_Item], began: Sequence[str], samples: Sequence[Sequence[int]]
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


def _several(name: str, values: Any, of: str) -> list[Any]:
    """One value or a list of them, as a list."""
    is_one = isinstance(values, str) or not isinstance(values, Iterable)
    found = [values] if is_one else listed(name, values, of)
    if not found:
        raise ValueError(f"{name}={brief(values)}: give at least one.")
    return found


def _numbers(name: str, values: Any, low: int, high: int) -> list[int]:
    return [whole(name, one, low, high) for one in _several(name, values, "whole numbers")]


def _kv_types(given: Any) -> list[Any]:
    return [given] if isinstance(given, tuple) else _several("kv_type", given, "types")


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

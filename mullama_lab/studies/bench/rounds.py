"""Rows measured in rounds, and kept whatever ends the benchmark."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence

from mullama_lab.engine.model import Model
from mullama_lab.errors import MullamaError
from mullama_lab.studies._timed_rounds import Item, must_open, rounds, warn_of_other_threads
from mullama_lab.studies._together import Bar
from mullama_lab.studies.bench.machine import Machine
from mullama_lab.studies.bench.result import BenchResult
from mullama_lab.studies.bench.row import BenchRow

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
    samples: list[list[int]] = [[] for _ in items]
    began = [""] * len(items)
    try:
        must_open(items)
        warn_of_other_threads(max(item.timed.n_threads for item in items))
        with Bar(what, repeats * len(items), "test", shown=progress) as bar:
            for done, (index, ns) in enumerate(rounds(items, repeats), start=1):
                began[index] = began[index] or time.strftime(_UTC, time.gmtime())
                samples[index].append(ns)
                bar.show(done)
    except (KeyboardInterrupt, Exception) as error:
        result = BenchResult(_rows(items, began, samples), machine, run, complete=False)
        if isinstance(error, KeyboardInterrupt):
            raise BenchStopped(result) from None
        if result.rows:
            raise BenchFailed(str(error) or type(error).__name__, result) from error
        raise
    return BenchResult(_rows(items, began, samples), machine, run)


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

"""Rows measured in rounds, and kept whatever ends the benchmark."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mullama_lab.engine.model import Model
from mullama_lab.engine.placement import Placement
from mullama_lab.errors import MullamaError, Stopped
from mullama_lab.studies._timed_rounds import Item, must_open, rounds, warn_of_other_threads
from mullama_lab.studies._together import Bar
from mullama_lab.studies.bench.machine import Machine
from mullama_lab.studies.bench.result import BenchResult
from mullama_lab.studies.bench.row import BenchRow

Progress = Callable[[BenchResult, float], object]
_UTC = "%Y-%m-%dT%H:%M:%SZ"


class BenchStopped(KeyboardInterrupt):
    """Ctrl-C in a benchmark, or `progress` said so; `result` has what was measured.

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


def measured(
    items: Iterable[Item], repeats: int, what: str, *, progress: bool | Progress
) -> BenchResult:
    """What each item takes, in so many rounds; the same item given twice is measured once.

    Args:
        what: the bar's label.
        progress: as in `bench`.

    Raises:
        BenchStopped: Ctrl-C, or `progress` returned False.
        BenchFailed: something failed after a first row was measured.
        ValueError: a context would not fit in memory.
        ModelLoadError: a model does not generate, or llama.cpp refuses the settings.
    """
    samples = _Samples(list(dict.fromkeys(items)), repeats)

    def is_wanted() -> bool:
        if not callable(progress):
            return True
        return progress(samples.result(complete=False), samples.share) is not False

    try:
        must_open(samples.items)
        warn_of_other_threads(max(item.timed.n_threads for item in samples.items))
        with Bar(what, samples.n_all, "test", shown=progress is True) as bar:
            for index, ns in rounds(samples.items, repeats, is_wanted):
                samples.add(index, ns)
                bar.show(samples.n_done)
                if not is_wanted() and samples.n_done < samples.n_all:
                    raise Stopped("stopped between two tests.")
    except (KeyboardInterrupt, Exception) as error:
        result = samples.result(complete=False)
        if isinstance(error, (KeyboardInterrupt, Stopped)):
            raise BenchStopped(result) from None
        if result.rows:
            raise BenchFailed(str(error) or type(error).__name__, result) from error
        raise
    return samples.result(complete=True)


class _Samples:
    """What was measured so far of some items."""

    def __init__(self, items: Sequence[Item], repeats: int) -> None:
        self.items, self.n_all, self.n_done = items, repeats * len(items), 0
        self._machine, self._run = Machine.here(), uuid.uuid4().hex
        self._ns: list[list[int]] = [[] for _ in items]
        self._began = [""] * len(items)

    def add(self, index: int, ns: int) -> None:
        self._began[index] = self._began[index] or time.strftime(_UTC, time.gmtime())
        self._ns[index].append(ns)
        self.n_done += 1

    @property
    def share(self) -> float:
        """The part that is done, 0 to 1."""
        return self.n_done / self.n_all

    def result(self, *, complete: bool) -> BenchResult:
        rows = _rows(self.items, self._began, self._ns)
        return BenchResult(rows, self._machine, self._run, complete)


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
            **_placement(item.model.placement),
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


def _placement(placement: Placement) -> dict[str, Any]:
    """Where the weights were, as llama-bench writes it."""
    split = [f"{part:.2f}" for part in placement.tensor_split]
    last = max((n for n, part in enumerate(placement.tensor_split, start=1) if part), default=0)
    patterns = ";".join(f"{pattern}={device}" for pattern, device in placement.override_tensor)
    return {
        "n_gpu_layers": placement.n_gpu_layers,
        "split_mode": placement.split_mode,
        "main_gpu": placement.main_gpu,
        "tensor_split": "/".join(split[:last]) or "0.00",
        "tensor_buft_overrides": patterns or "none",
    }


def _load_mode(model: Model) -> str:
    """llama-bench's name for how the weights came into memory."""
    given = {"mmap": model.options.get("mmap", True), "mlock": model.options.get("mlock", False)}
    return "+".join(name for name, is_on in given.items() if is_on) or "none"

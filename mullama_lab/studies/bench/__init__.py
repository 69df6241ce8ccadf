"""How fast is a model on this machine, with which settings, and is it faster than before?

Measured as llama-bench does, and told in its words: random tokens go through `llama_decode`, and
nothing is sampled. `mullama-lab bench MODEL` is the same in a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

from mullama_lab.engine import options
from mullama_lab.engine.decode_loop import Opening, Timed
from mullama_lab.engine.model import Model
from mullama_lab.engine.native.context import FLASH_ATTENTION
from mullama_lab.engine.options import one_of, whole
from mullama_lab.studies._test_names import MOST_TOKENS, BenchTest
from mullama_lab.studies._timed_rounds import MOST_REPEATS, Item
from mullama_lab.studies.bench.comparison import Comparison, Difference, compare
from mullama_lab.studies.bench.history import Entry, History
from mullama_lab.studies.bench.lists import several, whole_numbers
from mullama_lab.studies.bench.machine import Machine
from mullama_lab.studies.bench.result import BenchResult
from mullama_lab.studies.bench.rounds import BenchFailed, BenchStopped, Progress, measured
from mullama_lab.studies.bench.row import BenchRow
from mullama_lab.studies.bench.scaling import Scaling
from mullama_lab.studies.bench.tuning import Tuning, TuningFailed, TuningStopped, autotune

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
    "Scaling",
    "Tuning",
    "TuningFailed",
    "TuningStopped",
    "autotune",
    "bench",
    "compare",
]
__dir__ = __all__.copy  # what tab completion offers


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
    progress: bool | Progress = True,
) -> BenchResult:
    """Measure tokens a second, for every combination of what is given as a list.

        bench("smollm2-135m", ["pp512", "tg128"], threads=[1, 2], kv_type=["f16", "q8_0"])

    Each round measures every row once, the next round backwards; so a busy machine slows all alike.
    Rows that differ only in test or threads, and have the same depth, share a context. Each round
    opens it anew, so that the chance of where it lies in memory is part of the spread. It is warmed
    up with the most threads of its rows, for memory that is used the first time is slow: by a
    token, and where a row has a prompt by as much of the longest as is computed at once. Before
    each row a token is decoded with its own threads. Neither that nor the depth is in the time.

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
        progress: show a bar when it takes longer than two seconds; or a function that gets the
            result so far and the part that is done (0 to 1), several times a second, and may
            return False to stop.

    Raises:
        BenchStopped: Ctrl-C, or `progress` returned False.
        BenchFailed: something failed after a first row was measured, such as a file that changed.
        ValueError: a value is out of range, or a context would not fit in memory.
        ModelLoadError: a model does not generate, or llama.cpp refuses the settings.
    """
    cores = options.n_cores()
    asked = [BenchTest.of(name) for name in several("tests", tests, "tests")]
    settings = {
        "batch": whole_numbers("batch", batch, 1, 1 << 16),
        "ubatch": whole_numbers("ubatch", ubatch, 1, 1 << 16),
        "kv_type": [options.kv_types(one) for one in _kv_types(kv_type)],
        "flash_attention": [
            one_of("flash_attention", one, FLASH_ATTENTION)
            for one in several("flash_attention", flash_attention, "names")
        ],
        "sequences": whole_numbers("sequences", sequences, 1, 256),
        "depth": whole_numbers("depth", depth, 0, MOST_TOKENS),
        "threads": whole_numbers("threads", cores if threads is None else threads, 1, 512),
    }
    repeats = whole("repeats", repeats, 1, MOST_REPEATS)
    given: Sequence[Any] = models if isinstance(models, (list, tuple)) else [models]
    if not given:
        raise ValueError("models=[]: give at least one model.")
    with ExitStack() as opened:
        loaded = [
            one if isinstance(one, Model) else opened.enter_context(Model.load(one))
            for one in given
        ]
        items = [item for model in loaded for item in _items(model, asked, **settings)]
        return measured(items, repeats, "bench", progress=progress)


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
) -> Iterator[Item]:
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
                yield Item(
                    model,
                    Opening(longest[n], ns, nb, nub, fa, kv),
                    Timed(test.n_prompt, test.n_gen, n, nt),
                )


def _kv_types(given: Any) -> list[Any]:
    return [given] if isinstance(given, tuple) else several("kv_type", given, "types")

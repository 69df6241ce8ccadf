"""Which threads, batch and ubatch are fastest on this machine, found by measuring.

One after the other: threads first, then batch and ubatch with the best of them. Each step leaves
the default only for what the comparison calls faster, and the end is measured against the default
once more, for of many settings the luckiest looks better than it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import psutil

from mullama_lab.engine import options
from mullama_lab.engine.decode_loop import Opening, Timed
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import whole
from mullama_lab.engine.session.settings import Settings
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import visible
from mullama_lab.studies._test_names import MOST_TOKENS, BenchTest, name_of
from mullama_lab.studies._timed_rounds import MOST_REPEATS, Item
from mullama_lab.studies.bench.comparison import FASTER, Difference, compare
from mullama_lab.studies.bench.lists import whole_numbers
from mullama_lab.studies.bench.result import BenchResult
from mullama_lab.studies.bench.rounds import BenchFailed, BenchStopped, measured
from mullama_lab.studies.bench.row import BenchRow

if TYPE_CHECKING:
    import pandas

BATCHES = (512, 2048)
UBATCHES = (64, 128, 256, 512, 1024, 2048)
THREADS, BATCH, FINAL = "threads", "batch", "final"  # the steps
LEAST_REPEATS = 4  # fewer tell nothing


class Choice(NamedTuple):
    """What is tuned, by the names of `model.session`."""

    n_threads: int
    n_batch: int
    n_ubatch: int

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._asdict().items())


@dataclass(frozen=True, eq=False)
class Tuning:
    """What tuning found; printed, it is a table of what was measured, and a line that sums it up.

    `plots.tuning` draws it.

    Attributes:
        test: llama-bench's name of what was timed.
        default: what a session takes unless told otherwise.
        fastest: the best of the steps, which the last one measures against the default.
        steps: what was measured, by "threads", "batch" and "final".
        is_complete: False where it was stopped, or failed.
    """

    test: str
    default: Choice
    fastest: Choice
    steps: dict[str, BenchResult]
    is_complete: bool = True

    @property
    def best(self) -> dict[str, int]:
        """Keyword arguments for `model.session`: the default's, unless others are faster."""
        return dict(self._best._asdict())

    @cached_property
    def difference(self) -> Difference | None:
        """The fastest and the default in the last step; None if that is the default itself."""
        final = self.steps.get(FINAL)
        if final is None or not self.is_complete:
            return None
        return _difference(final, self.default, self.fastest)

    @property
    def saving(self) -> str:
        """What the best saves against the default, or that nothing is better.

        The share is `difference`'s, round by round if it is `paired`; the seconds are medians.
        """
        if not self.is_complete:
            return "it ended early: nothing is said about the fastest"
        one = self.difference
        if one is None or one.verdict != FASTER:
            return f"no setting is better than the default: {self.default}"
        before, after = (self._seconds(choice) for choice in (self.default, self.fastest))
        least, most = (f"{1 - 1 / ratio:.1%}" for ratio in (one.low, one.high))
        how = ", compared round by round" * one.paired
        return (
            f"{self.fastest} saves {1 - 1 / one.ratio:.1%} of the time ({least} to {most}{how}): "
            f"{self.test} takes {after:.3g} s, {before:.3g} s with the default (medians)"
        )

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each setting and step: t/s and its range, and `is_best`; needs pandas.

        Where it ended early no row is the best.
        """
        import pandas

        return pandas.DataFrame(
            [
                {
                    "step": step,
                    **_choice(row)._asdict(),
                    "median_ts": row.median_ts,
                    "min_ts": min(row.samples_ts),
                    "max_ts": max(row.samples_ts),
                    "n_repeats": len(row.samples_ns),
                    "is_best": self._is_best(_choice(row)),
                }
                for step, result in self.steps.items()
                for row in result.rows
            ]
        )

    def __str__(self) -> str:
        rows = [(step, row) for step, result in self.steps.items() for row in result.rows]
        models = {row.model_type for _, row in rows}
        lines = [f"tuning of {visible(', '.join(models)) or 'a model'}, {self.test}"]
        if rows:
            lines.append("step     n_threads  n_batch  n_ubatch       t/s  (range)")
        for step, row in rows:
            n_threads, n_batch, n_ubatch = _choice(row)
            low, high = min(row.samples_ts), max(row.samples_ts)
            lines.append(
                f"{step:8} {n_threads:9d}  {n_batch:7d}  {n_ubatch:8d} {row.median_ts:9.2f}  "
                f"({low:.2f} to {high:.2f}){self._mark(_choice(row))}"
            )
        return "\n".join([*lines, self.saving])

    __repr__ = __str__

    @property
    def _best(self) -> Choice:
        one = self.difference
        return self.fastest if one is not None and one.verdict == FASTER else self.default

    def _is_best(self, choice: Choice) -> bool:
        """Which one is, is not known of a tuning that ended early."""
        return self.is_complete and choice == self._best

    def _mark(self, choice: Choice) -> str:
        """What to say behind a row."""
        marks = ["default"] * (choice == self.default) + ["best"] * self._is_best(choice)
        return f"  {', '.join(marks)}" if marks and self.is_complete else ""

    def _seconds(self, choice: Choice) -> float:
        row = _where(self.steps[FINAL], choice).rows[0]
        return (row.n_prompt + row.n_gen) / row.median_ts


class TuningStopped(KeyboardInterrupt):
    """Ctrl-C while settings were tried; `tuning` has what was measured.

    In a notebook: `tuning = sys.last_value.tuning`.
    """

    def __init__(self, tuning: Tuning) -> None:
        super().__init__("stopped; what was measured is in `sys.last_value.tuning`")
        self.tuning = tuning


class TuningFailed(MullamaError):
    """It failed in the middle; `tuning` has what was measured before, the `__cause__` the reason.

    In a notebook: `tuning = sys.last_value.tuning`.
    """

    def __init__(self, why: str, tuning: Tuning) -> None:
        super().__init__(f"{why} What was measured before is in `sys.last_value.tuning`.")
        self.tuning = tuning


def autotune(
    model: Model | str | Path,
    test: str = "pp512+tg128",
    *,
    threads: int | Iterable[int] | None = None,
    batch: int | Iterable[int] = BATCHES,
    ubatch: int | Iterable[int] = UBATCHES,
    repeats: int = 6,
    progress: bool = True,
) -> Tuning:
    """Try threads, then batch and ubatch, and say which are fastest and what that saves.

        tuning = autotune("smollm2-135m")
        session = model.session(**tuning.best)

    What counts is the time of one test, so name the one that is like your work. A session leaves a
    core to the rest of the machine, and what is measured here does not need it: with a browser that
    wants one of its cores, a session that takes all of them may stall.

    Close other sessions first. Ctrl-C raises TuningStopped, a KeyboardInterrupt, and what fails in
    the middle TuningFailed; the `tuning` of either has what was measured.

    Args:
        model: a Model, or what `Model.load` takes.
        test: in llama-bench's words, as `bench` takes it.
        threads: to try; None is quarters of the cores, and all that the processor runs at once.
        batch, ubatch: to try, an ubatch of no more than the batch; what comes to the same for this
            test is measured once.
        repeats: rounds of each step, 4 or more; 6 let rows be compared round by round.
        progress: show a bar for each step that takes longer than two seconds.

    Raises:
        TuningStopped: Ctrl-C.
        TuningFailed: something failed after a first setting was measured.
        ValueError: a value is out of range, or a context would not fit in memory.
        ModelLoadError: the model does not generate, or llama.cpp refuses the settings.
    """
    sizes = BenchTest.of(test)
    repeats = whole("repeats", repeats, LEAST_REPEATS, MOST_REPEATS)
    tried = _threads() if threads is None else whole_numbers("threads", threads, 1, 512)
    batches = whole_numbers("batch", batch, 1, 1 << 16)
    ubatches = whole_numbers("ubatch", ubatch, 1, 1 << 16)
    with ExitStack() as opened:
        loaded = model if isinstance(model, Model) else opened.enter_context(Model.load(model))
        search = _Search(loaded, sizes, repeats, progress)
        try:
            search.step(THREADS, [search.fastest._replace(n_threads=n) for n in tried])
            search.step(BATCH, search.cuts(batches, ubatches))
            search.confirm()
        except (KeyboardInterrupt, Exception) as error:
            search.end(error)
    return search.tuning()


@dataclass
class _Search:
    """The steps of a tuning, and what came of them so far."""

    model: Model
    sizes: BenchTest
    repeats: int
    progress: bool

    def __post_init__(self) -> None:
        self.default = Choice(options.threads(None), Settings.n_batch, Settings.n_ubatch)
        self.fastest = self.default
        self.steps: dict[str, BenchResult] = {}

    def step(self, name: str, others: Iterable[Choice]) -> None:
        """Measure others beside the fastest so far, and go on with the best of them."""
        choices = list(dict.fromkeys([self.fastest, *others]))
        if len(choices) > 1:
            self._measure(name, choices)
            self.fastest = _fastest(self.steps[name], self.fastest)

    def confirm(self) -> None:
        """Measure the default and the fastest alone."""
        if self.fastest != self.default:
            self._measure(FINAL, [self.default, self.fastest])

    def cuts(self, batches: Sequence[int], ubatches: Sequence[int]) -> Iterator[Choice]:
        """One choice for each way in which the prompt is cut."""
        known = {self._cut(self.fastest)}
        for n_batch, n_ubatch in product(batches, ubatches):
            choice = self.fastest._replace(n_batch=n_batch, n_ubatch=min(n_ubatch, n_batch))
            if self._cut(choice) not in known:
                known.add(self._cut(choice))
                yield choice

    def _cut(self, choice: Choice) -> tuple[int, int]:
        most = max(1, self.sizes.n_prompt)
        return min(choice.n_batch, most), min(choice.n_ubatch, most)

    def tuning(self, *, is_complete: bool = True) -> Tuning:
        test = name_of(self.sizes.n_prompt, self.sizes.n_gen, self.sizes.n_depth or 0)
        return Tuning(test, self.default, self.fastest, self.steps, is_complete)

    def end(self, error: KeyboardInterrupt | Exception) -> NoReturn:
        """Raise what ended it, with what was measured before."""
        tuning = self.tuning(is_complete=False)
        if isinstance(error, KeyboardInterrupt):
            raise TuningStopped(tuning) from None
        if not self.steps:
            raise error
        why = error.why if isinstance(error, BenchFailed) else str(error)
        raise TuningFailed(why or type(error).__name__, tuning) from error

    def _measure(self, step: str, choices: Sequence[Choice]) -> None:
        try:
            self.steps[step] = measured(
                map(self._item, choices), self.repeats, f"tuning: {step}", progress=self.progress
            )
        except (BenchStopped, BenchFailed) as ended:
            if ended.result.rows:
                self.steps[step] = ended.result
            raise

    def _item(self, choice: Choice) -> Item:
        n_prompt, n_gen, n_depth = self.sizes.n_prompt, self.sizes.n_gen, self.sizes.n_depth or 0
        n_each = whole("n_ctx", n_depth + n_prompt + n_gen, 1, MOST_TOKENS)
        kv_types = options.kv_types(Settings.kv_type)
        return Item(
            self.model,
            Opening(n_each, 1, choice.n_batch, choice.n_ubatch, Settings.flash_attention, kv_types),
            Timed(n_prompt, n_gen, n_depth, choice.n_threads),
        )


def _threads() -> list[int]:
    """Quarters of the cores, and all that the processor runs at once."""
    cores = options.n_cores()
    quarters = {max(1, cores * quarter // 4) for quarter in range(1, 5)}
    return sorted(min(512, n) for n in quarters | {psutil.cpu_count() or cores})


def _choice(row: BenchRow) -> Choice:
    return Choice(row.n_threads, row.n_batch, row.n_ubatch)


def _fastest(result: BenchResult, known: Choice) -> Choice:
    """The one with the best median if the comparison calls it faster than the one that is known."""
    choice = _choice(max(result.rows, key=lambda row: row.median_ts))
    if choice == known or _difference(result, known, choice).verdict != FASTER:
        return known
    return choice


def _difference(result: BenchResult, before: Choice, after: Choice) -> Difference:
    (difference,) = compare(*(_where(result, one) for one in (before, after))).differences
    return difference


def _where(result: BenchResult, choice: Choice) -> BenchResult:
    return result.where(**choice._asdict())

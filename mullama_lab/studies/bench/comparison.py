"""Whether one run of a benchmark is faster than another, where noise is not taken for an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import comb
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.options import instance
from mullama_lab.glyphs import visible
from mullama_lab.studies._student import student as _student
from mullama_lab.studies.bench.result import BenchResult
from mullama_lab.studies.bench.row import BenchRow, varying

if TYPE_CHECKING:
    import pandas

FASTER, SLOWER, UNCLEAR = "faster", "slower", "no clear difference"
TOO_FEW = "too few repeats to tell"
LEVEL = 0.95  # of all intervals of a comparison together
RESAMPLES = 100_000
_MOST_AT_ONCE = 1 << 18  # numbers that are resampled; of 10 000 repeats all at once are 20 GB
_SEED = 20
_TEST = ("n_prompt", "n_gen", "n_depth")
_SOFTWARE = ("llama_cpp", "commit", "llama_cpp_python", "mullama_lab", "python", "features")


@dataclass(frozen=True)
class Difference:
    """One test in two runs.

    Attributes:
        what: the test, and the settings that tell it from the others.
        before_ts, after_ts: median tokens a second.
        ratio: after to before: of these two medians; where paired, the median of the ratios round
            by round, which is another number.
        low, high: its bootstrap interval; NaN where there are too few repeats.
        verdict: of the second run: "faster", "slower", "no clear difference", or "too few repeats
            to tell".
        paired: whether the repeats were compared round by round, as in one run they are if there
            are enough.
    """

    what: str
    before_ts: float
    after_ts: float
    ratio: float
    low: float
    high: float
    verdict: str
    paired: bool


@dataclass(frozen=True, eq=False)
class Comparison:
    """What two runs say about each other.

    Attributes:
        differences: one for each test that both have.
        notes: what else differs between the two, and what the intervals do not cover.
        refusal: why they cannot be compared; "" if they can.
        n_unmatched: tests of the second run that the first does not have.
    """

    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: str = ""
    n_unmatched: int = 0

    @property
    def verdict(self) -> str:
        """Of all tests: "slower" if one is, else "too few repeats to tell", else "faster"."""
        found = {difference.verdict for difference in self.differences}
        if self.refusal or not found:
            return self.refusal or "nothing to compare"
        return next(one for one in (SLOWER, TOO_FEW, FASTER, UNCLEAR) if one in found)

    @property
    def exit_code(self) -> int:
        """For a script: 1 a test is slower, 0 none is, 2 that cannot be said of every test."""
        if self.verdict == SLOWER:
            return 1
        return 0 if self.verdict in (FASTER, UNCLEAR) and not self.n_unmatched else 2

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each test."""
        import pandas

        return pandas.DataFrame([asdict(difference) for difference in self.differences])

    def __str__(self) -> str:
        if self.refusal:
            return f"cannot be compared: {self.refusal}"
        return "\n".join([*map(_in_words, self.differences), *self.notes])

    __repr__ = __str__


def _in_words(one: Difference) -> str:
    interval = "" if one.verdict == TOO_FEW else f" ({one.low:.3f} to {one.high:.3f})"
    speeds = f"{one.before_ts:.2f} -> {one.after_ts:.2f} t/s, {one.ratio:.3f} times{interval}"
    return f"{one.what}: {speeds}: {one.verdict}"


def compare(a: BenchResult, b: BenchResult) -> Comparison:
    """Say of each test whether run `b` is faster or slower than run `a`, if that can be told.

    Tests are matched by name and by the settings that vary within a run. A setting that differs
    between the two, such as threads or the model, is what is compared, and named. Runs of two
    machines are not compared.

    The interval is that of the ratio of medians, by resampling the repeats (an expanded percentile
    bootstrap: as wide for few repeats as Student's t), at 95 % for all tests together. It says
    "faster" or "slower" only where 1 is outside. Where even repeats that are wholly apart would
    often be so by chance it says nothing: one test needs 4 repeats each, up to six tests 5. Rows
    of one run took turns; with enough rounds (6 for one test, 8 for six) they are compared round
    by round, so that what slowed a round is out of it. Runs that were measured apart differ also
    by what the machine did meanwhile, which no interval shows: to compare two models, or settings,
    measure both in one `bench`.

        runs = bench("smollm2-135m", threads=[1, 2], repeats=8)
        compare(runs.where(n_threads=1), runs.where(n_threads=2))

    Source: Hesterberg 2014, "What Teachers Should Know About the Bootstrap", arXiv:1411.5279.
    """
    way_out = " bench() gives one, and so does a History."
    a, b = (instance(name, run, BenchResult, way_out) for name, run in (("a", a), ("b", b)))
    if a.machine.hardware != b.machine.hardware:
        machines = " and ".join(visible(run.machine.text()) for run in (a, b))
        return Comparison(refusal=f"they were measured on two machines: {machines}")
    names = varying(a.rows) | varying(b.rows)
    before, after = ({_key(row, names): row for row in run.rows} for run in (a, b))
    keys = [key for key in before if key in after]
    if not keys:
        return Comparison(refusal="they have no test in common")
    together = a.run == b.run and a.run != ""
    level = 1 - (1 - LEVEL) / len(keys)
    differences = tuple(
        _difference(before[key], after[key], names, level=level, together=together) for key in keys
    )
    notes = [*_other_settings([(before[key], after[key]) for key in keys])]
    notes += _other_software(a, b)
    for which, rows in (("first", before), ("second", after)):
        if left := len(rows) - len(keys):
            notes.append(f"not compared: {counted(left, 'row')} that only the {which} run has")
    if not together:
        notes.append("measured apart: what else the machine did meanwhile is in the difference")
    return Comparison(differences, tuple(notes), n_unmatched=len(after) - len(keys))


def ratio_interval(
    before: Sequence[float], after: Sequence[float], *, level: float, paired: bool = False
) -> tuple[float, float, float]:
    """The ratio of the medians of two samples, after to before, and its bootstrap interval.

    Args:
        paired: the samples belong together one by one; the median of their ratios it is then.

    >>> ratio_interval([10, 11, 12, 13], [20, 22, 24, 26], level=0.95)[0]
    2.0
    """
    rng = np.random.default_rng(_SEED)
    old, new = np.asarray(before, float), np.asarray(after, float)
    if paired:
        ratios = new / old
        ratio = float(np.median(ratios))
        drawn = _medians(ratios, rng)
    else:
        ratio = float(np.median(new) / np.median(old))
        drawn = _medians(new, rng) / _medians(old, rng)
    tail = _tail(min(len(old), len(new)), level)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return ratio, float(low), float(high)


def _medians(sample: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The medians of resamples, as large as the sample."""
    n, found = len(sample), np.empty(RESAMPLES)
    step = max(1, _MOST_AT_ONCE // n)
    for start in range(0, RESAMPLES, step):
        part = found[start : start + step]
        chosen = rng.integers(n, size=(len(part), n), dtype=np.int32)
        np.median(sample[chosen], axis=1, out=part)
    return found


def _tail(n: int, level: float) -> float:
    """What is cut off at either end, so that few repeats are as unsure as Student's t says.

    >>> round(_tail(5, 0.95), 4), round(_tail(1000, 0.95), 3)
    (0.001, 0.025)
    """
    return NormalDist().cdf(-_student(n - 1, level) * (n / (n - 1)) ** 0.5)


def _difference(
    before: BenchRow, after: BenchRow, names: Iterable[str], *, level: float, together: bool
) -> Difference:
    old, new = before.samples_ts, after.samples_ts
    alpha = 1 - level
    paired = together and len(old) == len(new) and 2 / 2 ** len(old) <= alpha
    ratio, low, high = after.median_ts / before.median_ts, float("nan"), float("nan")
    verdict = TOO_FEW
    p_least = 2 / comb(len(old) + len(new), len(old))  # p-value of repeats that are wholly apart
    if paired or (min(len(old), len(new)) > 1 and p_least <= alpha):
        ratio, low, high = ratio_interval(old, new, level=level, paired=paired)
        verdict = FASTER if low > 1 else SLOWER if high < 1 else UNCLEAR
    settings = [f"{name} {getattr(before, name)}" for name in sorted(set(names) - set(_TEST))]
    what = ", ".join([before.test, *settings])
    return Difference(
        visible(what), before.median_ts, after.median_ts, ratio, low, high, verdict, paired
    )


def _key(row: BenchRow, names: set[str]) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in sorted(names | set(_TEST)))


def _other_settings(pairs: Sequence[tuple[BenchRow, BenchRow]]) -> Iterable[str]:
    """What differs between the two runs in all of their rows; a file may lie elsewhere."""
    first, second = pairs[0]
    for name, value in first.settings.items():
        other = getattr(second, name)
        if value != other and name != "model_filename":
            yield visible(f"{name}: {value}, then {other}")


def _other_software(a: BenchResult, b: BenchResult) -> Iterable[str]:
    for name in _SOFTWARE:
        old, new = getattr(a.machine, name), getattr(b.machine, name)
        if old != new:
            yield visible(f"{name}: {old or 'unknown'}, then {new or 'unknown'}")

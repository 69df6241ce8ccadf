"""How speed grows with threads, or with sequences that are decoded together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

from mullama_lab.engine.options import one_of
from mullama_lab.glyphs import visible
from mullama_lab.studies.bench.row import BenchRow, varying

if TYPE_CHECKING:
    import pandas

SCALES_BY = ("n_threads", "n_sequences")
_NOT_NAMED = {"n_prompt", "n_gen", "n_depth"}  # the test's name has them, and the file these:
_NOT_NAMED |= {"model_type", "model_size", "model_n_params"}


class ScalingPoint(NamedTuple):
    """The speed at one number of threads or sequences.

    Attributes:
        n: the number.
        median_ts, min_ts, max_ts: tokens a second, those of all sequences together.
        speedup: times the speed at the least number.
        efficiency: part of the speedup that would be in proportion to the number.
    """

    n: int
    median_ts: float
    min_ts: float
    max_ts: float
    speedup: float
    efficiency: float


@dataclass(frozen=True, eq=False)
class Scaling:
    """Tokens a second against threads or sequences; printed, it is a table.

    `plots.scaling` draws it.

    Attributes:
        by: "n_threads" or "n_sequences".
        lines: the points of each test, in order, by its name and the settings in which it differs.
    """

    by: str
    lines: Mapping[str, Sequence[ScalingPoint]]

    @classmethod
    def of(cls, rows: Sequence[BenchRow], by: str) -> Scaling:
        """From the rows of a benchmark; what has one number alone is left out.

        Raises:
            ValueError: nothing was measured with two numbers.
        """
        by = one_of("by", by, SCALES_BY)
        names = sorted(varying(rows) - _NOT_NAMED - {by})
        lines: dict[tuple[object, ...], list[BenchRow]] = {}
        for row in rows:
            rest = tuple(value for name, value in row.settings.items() if name != by)
            lines.setdefault(rest, []).append(row)
        found = {
            _label(line[0], names): _points(line, by) for line in lines.values() if len(line) > 1
        }
        if not found:
            raise ValueError(
                f"by={by!r}: no test was measured with two numbers of them. "
                f"Measure some, as in bench(model, {by.removeprefix('n_')}=[1, 2, 4])."
            )
        return cls(by, found)

    def to_pandas(self) -> pandas.DataFrame:
        """A row a point: `test`, the number, t/s and its range, speedup and efficiency."""
        import pandas

        rows = [
            {"test": name, **point._asdict()} for name, line in self.lines.items() for point in line
        ]
        return pandas.DataFrame(rows).rename(columns={"n": self.by})

    def __str__(self) -> str:
        return "\n".join(self._text())

    __repr__ = __str__

    def _text(self) -> Iterator[str]:
        width = max(4, *map(len, self.lines))
        yield f"{'test':{width}}  {self.by:>11}       t/s  speedup  efficiency  (range of t/s)"
        for name, line in self.lines.items():
            for n, median, low, high, speedup, efficiency in line:
                yield (
                    f"{name:{width}}  {n:11d} {median:9.2f}  {speedup:6.2f}x  {efficiency:10.0%}  "
                    f"({low:.2f} to {high:.2f})"
                )


def _label(row: BenchRow, names: Sequence[str]) -> str:
    settings = asdict(row)
    return visible(", ".join([row.test, *(f"{name} {settings[name]}" for name in names)]))


def _points(rows: Sequence[BenchRow], by: str) -> list[ScalingPoint]:
    rows = sorted(rows, key=lambda row: getattr(row, by))
    least, at_least = getattr(rows[0], by), rows[0].median_ts
    points = []
    for row in rows:
        n, speeds = getattr(row, by), row.samples_ts
        speedup = row.median_ts / at_least
        points.append(
            ScalingPoint(n, row.median_ts, min(speeds), max(speeds), speedup, speedup * least / n)
        )
    return points

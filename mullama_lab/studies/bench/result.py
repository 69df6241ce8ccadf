"""What one run of a benchmark measured, and the forms that it is written in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mullama_lab.glyphs import visible
from mullama_lab.studies.bench.machine import Machine
from mullama_lab.studies.bench.row import BenchRow
from mullama_lab.studies.bench.scaling import Scaling
from mullama_lab.studies.bench.table import table

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class BenchResult:
    """What one run of a benchmark measured; shown in a notebook as llama-bench's table.

    Attributes:
        rows: one for each test and set of settings.
        machine: where, and with which llama.cpp.
        run: an id. Rows of one run took turns, so that a busy machine slowed all alike.
        complete: False where Ctrl-C or an error ended it: some rows have fewer repeats then.
    """

    rows: tuple[BenchRow, ...]
    machine: Machine = field(default_factory=Machine)
    run: str = ""
    complete: bool = True

    def where(self, **settings: Any) -> BenchResult:
        """The rows with some settings, such as `n_threads=2` or `test="tg128"`.

        Raises:
            ValueError: a row has no such setting.
        """
        known = {*BenchRow.__annotations__, "test"}
        for name in settings:
            if name not in known:
                raise ValueError(f"{name}: a row has {', '.join(sorted(known))}.")
        rows = tuple(
            row
            for row in self.rows
            if all(getattr(row, name) == value for name, value in settings.items())
        )
        return replace(self, rows=rows)

    def scaling(self, by: str = "n_threads") -> Scaling:
        """How speed grows with threads, or with by="n_sequences".

        Raises:
            ValueError: no test was measured with two numbers of them.
        """
        return Scaling.of(self.rows, by)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each test: its settings, then median, mean, deviation, least and most t/s."""
        import pandas

        return pandas.DataFrame([self._full(row) for row in self.rows])

    def to_markdown(self) -> str:
        """llama-bench's table, with the median and the range of the repeats behind it."""
        return "\n".join([*table(self.rows, self.machine.backends), "", *self._facts()])

    def to_csv(self) -> str:
        """llama-bench's fields and ours behind them, a line for each test below their names."""
        text = io.StringIO()
        lines = [{**row.llama_bench(self.machine), **self._ours(row)} for row in self.rows]
        lists = ("samples_ns", "samples_ts")
        names = list(dict.fromkeys(name for line in lines for name in line if name not in lists))
        writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def to_jsonl(self) -> str:
        """A JSON object a line for each test: llama-bench's fields and ours behind them."""
        return "".join(
            json.dumps({**row.llama_bench(self.machine), **self._ours(row)}) + "\n"
            for row in self.rows
        )

    def to_json(self) -> str:
        """What `llama-bench -o json` writes, for the tools that read that."""
        return json.dumps([row.llama_bench(self.machine) for row in self.rows], indent=2) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON can carry it; `from_dict` reads it back."""
        return {
            "mullama_lab_bench": 1,
            "run": self.run,
            "complete": self.complete,
            "machine": self.machine.to_dict(),
            "rows": [{**asdict(row), "samples_ns": list(row.samples_ns)} for row in self.rows],
        }

    @classmethod
    def from_dict(cls, data: object) -> BenchResult:
        """What `to_dict` gave.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(data, Mapping) or data.get("mullama_lab_bench") != 1:
            raise ValueError("it is no run of mullama-lab bench")
        rows, about = data.get("rows"), data.get("machine")
        if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
            raise ValueError("it has no rows")
        if not isinstance(about, Mapping):
            raise ValueError("it does not say on which machine it was measured")
        return cls(
            rows=tuple(BenchRow.from_dict(row) for row in rows),
            machine=Machine.from_dict(about),
            run=str(data.get("run", "")),
            complete=data.get("complete") is True,
        )

    def _full(self, row: BenchRow) -> dict[str, Any]:
        return {
            "test": row.test,
            **row.settings,
            "median_ts": row.median_ts,
            "avg_ts": row.avg_ts,
            "stddev_ts": row.stddev_ts,
            "min_ts": min(row.samples_ts),
            "max_ts": max(row.samples_ts),
            "n_repeats": len(row.samples_ns),
            "test_time": row.test_time,
        }

    def _ours(self, row: BenchRow) -> dict[str, Any]:
        """What llama-bench's fields do not say."""
        about = {f"machine_{name}": value for name, value in self.machine.to_dict().items()}
        full = self._full(row)
        names = ("test", "n_sequences", "median_ts", "min_ts", "max_ts", "n_repeats")
        return {**{name: full[name] for name in names}, "run": self.run, **about}

    def _facts(self) -> Iterable[str]:
        machine = self.machine
        yield (
            f"build: {visible(machine.commit) or 'unknown'} (llama.cpp {machine.llama_cpp}, "
            f"llama-cpp-python {machine.llama_cpp_python}, mullama_lab {machine.mullama_lab})"
        )
        yield f"machine: {visible(machine.text())}"
        if busy := machine.busy():
            yield busy
        if not self.complete:
            yield "ended early: what was not measured is not here"

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return self.to_markdown()

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

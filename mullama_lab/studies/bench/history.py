"""A file of runs, a line of JSON each: what is appended stays, whatever else is in there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mullama_lab.counted import counted
from mullama_lab.engine.options import instance
from mullama_lab.errors import HistoryError
from mullama_lab.files.path import in_full
from mullama_lab.files.replacing import must_not_be_a_device
from mullama_lab.glyphs import visible
from mullama_lab.studies.bench.machine import Machine
from mullama_lab.studies.bench.result import BenchResult
from mullama_lab.studies.bench.row import BenchRow

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Entry:
    """One line of a history.

    Attributes:
        line: its number in the file, from 1.
        result: the run; None where the line cannot be read as one.
        mark: another machine's, or why it cannot be read; mostly "".
    """

    line: int
    result: BenchResult | None
    mark: str


class History:
    """Runs of benchmarks in a file, the oldest first; the first `append` makes the file.

        history = History("speed.jsonl")
        history.append(bench("smollm2-135m"))
        history.to_pandas()

    A line that is cut off, or that another program wrote, stays where it is and is marked.

    Args:
        path: of the file.

    Raises:
        HistoryError: no file can be there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.path = in_full(path)
            must_not_be_a_device(self.path)
            if self.path.is_dir() or not self.path.parent.is_dir():
                raise OSError(errno.EINVAL, "name a file, in a folder that is there")
        except OSError as error:
            raise HistoryError(f"{path} can be no history: {error.strerror}.") from error

    def append(self, result: BenchResult) -> None:
        """Write a run after the others; a line that was cut off before is ended first.

        Raises:
            HistoryError: it could not be written.
        """
        result = instance("result", result, BenchResult)
        text = json.dumps(result.to_dict(), allow_nan=False) + "\n"
        try:
            with self.path.open("ab+", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(size - 1)
                    text = text if file.read(1) == b"\n" else "\n" + text
                data = text.encode()
                if file.write(data) != len(data):  # in one piece, for others append too
                    raise OSError(errno.ENOSPC, "the disk is full")
                os.fsync(file.fileno())
        except OSError as error:
            raise HistoryError(
                f"{self.path} could not be written: {error.strerror}. What it held is still there."
            ) from error

    @property
    def entries(self) -> list[Entry]:
        """Every line that is not empty, in order.

        Raises:
            HistoryError: the file is there and cannot be read.
        """
        try:
            return list(_entries(self.path))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise HistoryError(f"{self.path} could not be read: {error.strerror}.") from error

    def baseline(self, result: BenchResult) -> BenchResult | None:
        """What a run may be compared with, from this machine; None if nothing is like it.

        Of the runs that were not interrupted the one with most of its tests, and of those the
        newest; an interrupted one where there is no other. Only the rows that have a match with
        the same model and settings are in it. The run itself, if it was appended already, is
        passed over.
        """
        wanted = {_key(row) for row in result.rows}
        found = []
        for entry in self.entries:
            run = entry.result
            if run is None or run.run == result.run:
                continue
            if run.machine.hardware != result.machine.hardware:
                continue
            rows = tuple(row for row in run.rows if _key(row) in wanted)
            if rows:
                found.append(replace(run, rows=rows))
        return max(reversed(found), key=lambda run: (run.complete, len(run.rows)), default=None)

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each test of each run; one with the mark alone for a damaged line."""
        import pandas

        tables = []
        for entry in self.entries:
            about = {"line": entry.line, "mark": entry.mark}
            if entry.result is None:
                tables.append(pandas.DataFrame([about]))
                continue
            table = entry.result.to_pandas()
            for place, (name, value) in enumerate(about.items()):
                table.insert(place, name, value)
            tables.append(table.assign(run=entry.result.run, cpu=entry.result.machine.cpu))
        return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame()

    def __repr__(self) -> str:
        entries = self.entries
        marked = sum(bool(entry.mark) for entry in entries)
        lines = counted(len(entries), "line")
        return visible(f"<History {self.path}: {lines}, {marked} of them marked>")


def _entries(path: Path) -> Iterator[Entry]:
    here = Machine.here().hardware
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _entry(number, line, here)


def _entry(number: int, line: bytes, here: tuple[object, ...]) -> Entry:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return Entry(number, None, "cut off, or no JSON")
    try:
        result = BenchResult.from_dict(data)
    except ValueError as error:
        return Entry(number, None, visible(str(error)))
    other = result.machine.hardware != here
    return Entry(number, result, visible(f"another machine: {result.machine.text()}") * other)


def _key(row: BenchRow) -> tuple[object, ...]:
    """The model and the settings; the same file may lie elsewhere."""
    return tuple(value for name, value in row.settings.items() if name != "model_filename")

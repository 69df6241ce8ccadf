"""The steps of a trace as a struct of arrays that grows.

One thread appends; others may read at any time and see whole steps only, because a step counts
only once all of it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.options import whole
from mullama_lab.engine.trace.columns import COLUMNS, NARROW, WIDE
from mullama_lab.engine.trace.record import KeptRow, States, StepRecord
from mullama_lab.engine.trace.step_texts import StepTexts

ROW_BUDGET = 256 << 20  # bytes of kept candidates that one trace holds at most
ROOM = 16  # steps that a new table has room for
MOST = 2**31 - 1

_narrow_values, _wide_values = attrgetter(*NARROW), attrgetter(*WIDE)  # of a record, in order


class StepTable:
    """All that is recorded of each step.

    Args:
        top: how many entries a step has in the wide columns.
    """

    def __init__(self, top: int, room: int = ROOM) -> None:
        self.top = top
        self.texts = StepTexts()
        self._n = 0
        self._arrays = {name: column.blank(room, top) for name, column in COLUMNS.items()}
        self._pieces: list[bytes] = []
        self._n_kept: list[tuple[int, ...]] = []
        self._states: list[States] = []
        self._rows: list[KeptRow | None] = []
        self._row_bytes = 0

    def __len__(self) -> int:
        return self._n

    def append(self, record: StepRecord) -> None:
        """Add one step; its row's candidates are kept only while all of them fit the budget."""
        i, arrays, top = self._n, self._arrays, self.top
        if i == len(arrays["token"]):
            arrays = self._arrays = self._with_room(2 * i or ROOM)
        for array, value in zip(arrays.values(), _narrow_values(record)):  # narrow ones come first
            array[i] = value
        for name, values in zip(WIDE, _wide_values(record)):
            arrays[name][i, : len(values)] = values if len(values) <= top else values[:top]
        self._pieces.append(record.piece)
        self.texts.append(record.text)
        self._n_kept.append(record.n_kept)
        self._states.append(record.state)
        row = record.kept
        if row is not None:
            ids, logits = row
            ids.flags.writeable = logits.flags.writeable = False
            row_bytes = self._row_bytes + ids.nbytes + logits.nbytes
            if row_bytes <= ROW_BUDGET:
                self._row_bytes = row_bytes
            else:
                row = None
        self._rows.append(row)
        self._n = i + 1

    def _with_room(self, room: int) -> dict[str, NDArray[Any]]:
        """The arrays as they are, with room for more steps."""
        return {
            name: np.concatenate([array, COLUMNS[name].blank(room - len(array), self.top)])
            for name, array in self._arrays.items()
        }

    # Reading.

    def column(self, name: str) -> NDArray[Any]:
        """One column of the steps there are, read-only."""
        n = self._n  # before the array, which grows first
        view = self._arrays[name][:n]
        view.flags.writeable = False
        return view

    def values(self, step: int, names: tuple[str, ...]) -> dict[str, Any]:
        """One step's entries in some narrow columns, as Python numbers."""
        arrays = self._arrays
        return {name: arrays[name][step].item() for name in names}

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each step's token."""
        return self._pieces[: self._n]

    @property
    def n_kept(self) -> NDArray[np.int32]:
        """Candidates left by each stage, (n, stages); -1 where a chain had fewer stages."""
        rows = self._n_kept[: self._n]
        width = max(map(len, rows), default=0)
        padded = [row + (-1,) * (width - len(row)) for row in rows]
        return np.array(padded, np.int32).reshape(len(rows), width)

    def piece(self, step: int) -> bytes:
        """The bytes of one step's token."""
        return self._pieces[step]

    def n_kept_at(self, step: int) -> tuple[int, ...]:
        """Candidates left by each stage at one step."""
        return self._n_kept[step]

    def state(self, step: int) -> States:
        """What each stage had learnt before a step."""
        return self._states[step]

    def row(self, step: int) -> KeptRow | None:
        """What is kept of a step's row."""
        return self._rows[step]

    # Parts.

    def sliced(self, a: int, b: int) -> StepTable:
        """A copy of steps a to b; kept rows are shared."""
        part = StepTable(self.top, room=0)
        part._arrays = {name: array[a:b].copy() for name, array in self._arrays.items()}
        part._take_lists(self, a, b)
        part.texts = self.texts.sliced(a, b)
        part._n = b - a
        return part

    def begun(self, n: int, top: int) -> StepTable:
        """A copy of the first n steps with room for more, its wide columns cut or filled to top."""
        part = StepTable(top, room=n + ROOM)
        width = min(top, self.top)
        for name, array in self._arrays.items():
            if COLUMNS[name].wide:
                part._arrays[name][:n, :width] = array[:n, :width]
            else:
                part._arrays[name][:n] = array[:n]
        part._take_lists(self, 0, n)
        part.texts = self.texts.begun(n)
        part._n = n
        return part

    def _take_lists(self, other: StepTable, a: int, b: int) -> None:
        self._pieces = other._pieces[a:b]
        self._n_kept = other._n_kept[a:b]
        self._states = other._states[a:b]
        self._rows = other._rows[a:b]
        self._row_bytes = sum(row[0].nbytes + row[1].nbytes for row in self._rows if row)

    # Out and in again.

    def __getstate__(self) -> dict[str, Any]:
        return vars(self.sliced(0, self._n))  # whole steps only, also while it grows

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for row in self._rows:  # a pickle forgets that they are read-only
            if row is not None:
                row[0].flags.writeable = row[1].flags.writeable = False

    def packed(self) -> dict[str, Any]:
        """Plain values that survive JSON, without the kept rows."""
        n = self._n
        return {
            "columns": {name: self.column(name).tolist() for name in (*NARROW, *WIDE)},
            "n_kept": [list(kept) for kept in self._n_kept[:n]],
            "states": [[list(values) for values in state] for state in self._states[:n]],
            "pieces": [piece.hex() for piece in self._pieces[:n]],
            "texts": [text.hex() for text in self.texts.parts[:n]],
            "text_bytes": self.texts.end_in_bytes,
        }

    @classmethod
    def unpacked(cls, data: Mapping[str, Any], top: int) -> StepTable:
        """The table that `packed` gave; ValueError, TypeError or KeyError if it gave no such."""
        table = cls(top, room=0)
        table._arrays = _read_columns(data["columns"], top)
        table._n = n = len(table._arrays["token"])
        table._n_kept = [
            tuple(whole("n_kept", left, 0, MOST) for left in kept) for kept in data["n_kept"]
        ]
        table._states = [
            tuple(tuple(map(float, values)) for values in state) for state in data["states"]
        ]
        table._pieces = [bytes.fromhex(piece) for piece in data["pieces"]]
        table.texts = StepTexts([bytes.fromhex(text) for text in data["texts"]])
        lists = (table._n_kept, table._states, table._pieces, table.texts.parts)
        if any(len(column) != n for column in lists):
            raise ValueError("its columns differ in length")
        if data["text_bytes"] is not None:
            table.texts.end_at(whole("text_bytes", data["text_bytes"], 0, 1 << 40))
        table._rows = [None] * n
        return table


def _read_columns(lists: Mapping[str, Any], top: int) -> dict[str, NDArray[Any]]:
    """The arrays that were written as lists, one entry a step."""
    n = len(lists["token"])
    arrays = {}
    for name, column in COLUMNS.items():
        absent = column.absent is not None and name not in lists
        arrays[name] = column.read([column.absent] * n if absent else lists[name], n, top)
    for name in ("token", "rank"):
        if n and arrays[name].min() < 0:
            raise ValueError(f"{name} has {arrays[name].min()}")
    for name in ("logprob", "logprob_after"):
        if n and not arrays[name].max() < 0.01:  # rounding may leave some more than 0
            raise ValueError(f"{name} has {arrays[name].max()}, which is no log-probability")
    return arrays

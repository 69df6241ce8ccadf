"""The arrays of a trace: a column, or a table of `top` numbers a step, for each fact.

Their rows are steps, with room for more than there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Arrays: TypeAlias = dict[str, NDArray[Any]]

COLUMNS: dict[str, tuple[type, float]] = {
    "token": (np.int32, 0),
    "logprob": (np.float32, 0),
    "logprob_after": (np.float32, 0),
    "rank": (np.int32, 0),
    "entropy": (np.float32, 0),
    "logsumexp": (np.float64, 0),
    "decode_ns": (np.int64, 0),
    "sample_ns": (np.int64, 0),
    "constraint_ns": (np.int64, 0),
    "capture_ns": (np.int64, 0),
    "forced": (np.bool_, False),
}
TABLES: dict[str, tuple[type, float]] = {
    "top_ids": (np.int32, -1),
    "top_logprobs": (np.float32, -np.inf),
    "after_ids": (np.int32, -1),
    "after_logprobs": (np.float32, -np.inf),
}
_KINDS = COLUMNS | TABLES


def blank(n: int, top: int) -> Arrays:
    """Columns and tables with room for n steps."""
    columns = {name: np.full(n, fill, kind) for name, (kind, fill) in COLUMNS.items()}
    tables = {name: np.full((n, top), fill, kind) for name, (kind, fill) in TABLES.items()}
    return columns | tables


def doubled(arrays: Arrays) -> Arrays:
    """The same steps with twice the room."""
    return {
        name: np.concatenate([array, np.full_like(array, _KINDS[name][1])])
        for name, array in arrays.items()
    }


def begun(arrays: Arrays, n: int, top: int) -> Arrays:
    """A copy of the first n steps with room for more, its tables cut or filled to `top`."""
    copy = blank(n + 16, top)
    for name, array in arrays.items():
        if array.ndim == 1:
            copy[name][:n] = array[:n]
        else:
            width = min(top, array.shape[1])
            copy[name][:n, :width] = array[:n, :width]
    return copy


def read(lists: Mapping[str, Any], top: int) -> Arrays:
    """The arrays that were written as lists, one entry a step."""
    n = len(lists["token"])
    lists = {"forced": [False] * n, **lists}  # dicts of before had none
    arrays = {name: _read(name, lists[name], kind) for name, (kind, _) in _KINDS.items()}
    for name in ("token", "rank"):
        if n and arrays[name].min() < 0:
            raise ValueError(f"{name} has {arrays[name].min()}")
    for name in ("logprob", "logprob_after"):
        if n and not arrays[name].max() < 0.01:  # rounding may leave some more than 0
            raise ValueError(f"{name} has {arrays[name].max()}, which is no log-probability")
    return arrays | {name: arrays[name].reshape(n, top) for name in TABLES}


def _read(name: str, values: Any, kind: type) -> NDArray[Any]:
    array = np.array(values, kind)
    if not issubclass(kind, np.floating) and not np.array_equal(array, np.array(values)):
        raise ValueError(f"{name} has what is no {kind.__name__}")
    return array

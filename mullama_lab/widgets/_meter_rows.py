"""What a Monitor read, as meters: plain values that a page can draw.

It takes the columns of a `Monitor` as they come and knows nothing of how they are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import size_in_words

Columns = Mapping[str, NDArray[np.float64]]

_CORE = re.compile(r"cpu_\d+_percent")


def meters_of(columns: Columns, average: float) -> list[dict[str, Any]]:
    """A meter for each quantity that is known, of columns of one number a reading.

    Each has `name`, `now`, `average` and `top` in words (top is the upper end of its scale, which
    begins at 0), and `values`: shares of that, None for what was not known.

    Args:
        average: of tokens a second, over the time in which there were any.
    """
    if not len(columns.get("seconds", ())):
        return []
    cores = [values for name, values in columns.items() if _CORE.fullmatch(name)]
    n_cells_max = float(columns["n_cells_max"][-1])
    meters = [_meter("tokens/s", columns["tokens_per_second"], _number, average=average)]
    if "resident_bytes" in columns:
        meters.append(_meter("resident memory", columns["resident_bytes"], _size))
    if cores:
        name = f"CPU, mean of {len(cores)} cores" if len(cores) > 1 else "CPU"
        meters.append(_meter(name, np.mean(cores, axis=0), _percent, top=100.0))
    meters.append(_meter("KV cells", columns["n_cells"], _number, top=n_cells_max))
    meters.append(_meter("waiting", columns["n_waiting"], _number))
    return meters


def _meter(
    name: str,
    values: NDArray[np.float64],
    say: Callable[[float], str],
    *,
    average: float | None = None,
    top: float = 0.0,
) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    most = max(top, float(known.max()) if len(known) else 0.0)
    if average is None:
        average = float(known.mean()) if len(known) else nan
    return {
        "name": name,
        "now": _or_not_known(say, float(values[-1])),
        "average": _or_not_known(say, average),
        "top": say(most),
        "values": [round(v / (most or 1.0), 3) if isfinite(v) else None for v in values.tolist()],
    }


def _or_not_known(say: Callable[[float], str], value: float) -> str:
    return say(value) if isfinite(value) else "n/a"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _size(value: float) -> str:
    return size_in_words(int(value))


def _percent(value: float) -> str:
    return f"{value:.0f} %"

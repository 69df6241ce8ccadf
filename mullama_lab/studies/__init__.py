"""Studies: functions that answer one question each and return a table or a small result.

A module for each question, loaded on first use: `studies.replay.replay(trace, chain, on=model)`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mullama_lab.studies import (
        explore,
        fate,
        flips,
        late_interaction,
        margin,
        noise,
        order,
        replay,
        retrieval_quality,
        seeds,
        standard_library,
        states,
        sweeps,
    )

__all__ = [
    "explore",
    "fate",
    "flips",
    "late_interaction",
    "margin",
    "noise",
    "order",
    "replay",
    "retrieval_quality",
    "seeds",
    "standard_library",
    "states",
    "sweeps",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Studies: functions that answer one question each and return a table or a small result.

A module for each question, loaded on first use: `studies.replay.replay(trace, chain, on=model)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mullama_lab.on_use import loaded_on_use

if TYPE_CHECKING:
    from mullama_lab.studies import (
        bench,
        blend,
        control_vectors,
        effect,
        explore,
        fate,
        flips,
        forbidden,
        grammar_tax,
        late_interaction,
        margin,
        monitor,
        noise,
        order,
        planner,
        replay,
        retrieval_quality,
        roofline,
        seeds,
        standard_library,
        states,
        sweeps,
        timing,
        tokenization,
    )

__all__ = [
    "bench",
    "blend",
    "control_vectors",
    "effect",
    "explore",
    "fate",
    "flips",
    "forbidden",
    "grammar_tax",
    "late_interaction",
    "margin",
    "monitor",
    "noise",
    "order",
    "planner",
    "replay",
    "retrieval_quality",
    "roofline",
    "seeds",
    "standard_library",
    "states",
    "sweeps",
    "timing",
    "tokenization",
]
__dir__ = __all__.copy  # what tab completion offers

__getattr__ = loaded_on_use(__name__, __all__)

"""llama.cpp as objects; numpy in, numpy out. A module is loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mullama_lab.on_use import loaded_on_use

if TYPE_CHECKING:
    from mullama_lab.engine import (
        chat,
        encoder,
        index,
        memory,
        model,
        multivector,
        session,
        stages,
        tiny,
        trace,
        tree,
    )

__all__ = [
    "chat",
    "encoder",
    "index",
    "memory",
    "model",
    "multivector",
    "session",
    "stages",
    "tiny",
    "trace",
    "tree",
]
__dir__ = __all__.copy  # what tab completion offers
__getattr__ = loaded_on_use(__name__, __all__)

"""What is recorded of a generation, and how far two records lie apart."""

from __future__ import annotations

from mullama_lab.engine.trace.trace import Trace

__all__ = ["Trace"]
__dir__ = __all__.copy  # what tab completion offers

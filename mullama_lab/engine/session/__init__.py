"""A session: a context with the thread that owns it, and all that a caller asks of it."""

from __future__ import annotations

from mullama_lab.engine.session.session import Session

__all__ = ["Session"]
__dir__ = __all__.copy  # what tab completion offers

"""Many documents' token vectors, kept on disk and searched."""

from __future__ import annotations

from mullama_lab.engine.index.index import MultiVectorIndex

__all__ = ["MultiVectorIndex"]
__dir__ = __all__.copy  # what tab completion offers

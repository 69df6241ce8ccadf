"""A vector for each token of a text, by a late-interaction model."""

from __future__ import annotations

from mullama_lab.engine.encoder.encoder import MultiVectorEncoder

__all__ = ["MultiVectorEncoder"]
__dir__ = __all__.copy  # what tab completion offers

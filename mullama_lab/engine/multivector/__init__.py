"""Texts as one vector for each token, and how well one answers another (MaxSim)."""

from __future__ import annotations

from mullama_lab.engine.multivector.multivector import MultiVector

__all__ = ["MultiVector"]
__dir__ = __all__.copy  # what tab completion offers

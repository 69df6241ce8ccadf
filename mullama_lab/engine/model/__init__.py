"""A model: the weights and the vocabulary of one file, and what is known of it."""

from __future__ import annotations

from mullama_lab.engine.model.model import Model

__all__ = ["Model"]
__dir__ = __all__.copy  # what tab completion offers

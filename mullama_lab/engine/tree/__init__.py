"""Branches from one prompt, as a tree that can be undone, walked and written down."""

from __future__ import annotations

from mullama_lab.engine.tree.tree import Tree

__all__ = ["Tree"]
__dir__ = __all__.copy  # what tab completion offers

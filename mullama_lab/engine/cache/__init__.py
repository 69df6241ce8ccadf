"""One llama.cpp context: which texts its cache holds, and what it cost to get them there."""

from __future__ import annotations

from mullama_lab.engine.cache.cache import Cache, Portion

__all__ = ["Cache", "Portion"]

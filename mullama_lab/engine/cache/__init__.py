"""One llama.cpp context: which tokens its cache holds, and what it cost to get them there."""

from __future__ import annotations

from mullama_lab.engine.cache.cache import Context

__all__ = ["Context"]

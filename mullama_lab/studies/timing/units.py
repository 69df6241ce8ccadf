"""Units of time."""

from __future__ import annotations

NS_PER_MS = 1e6

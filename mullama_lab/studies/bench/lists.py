"""One value, or a list of them, where a caller may give either."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mullama_lab.engine.options import listed, whole
from mullama_lab.glyphs import brief


def several(name: str, values: Any, of: str) -> list[Any]:
    """One value or a list of them, as a list; at least one."""
    is_one = isinstance(values, str) or not isinstance(values, Iterable)
    found = [values] if is_one else listed(name, values, of)
    if not found:
        raise ValueError(f"{name}={brief(values)}: give at least one.")
    return found


def whole_numbers(name: str, values: Any, low: int, high: int) -> list[int]:
    """The same of whole numbers in a range."""
    return [whole(name, one, low, high) for one in several(name, values, "whole numbers")]

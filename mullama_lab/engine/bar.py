"""The bar that long work shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

SHOWN_AFTER = 2  # seconds


def bar(what: str, total: int, unit: str, *, shown: bool = True) -> tqdm:
    """A tqdm bar that appears after two seconds and goes when it is closed."""
    from tqdm.auto import tqdm

    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",
        delay=SHOWN_AFTER,
        leave=False,
        disable=not shown,
    )

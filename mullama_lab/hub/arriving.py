"""How many bytes of a file have arrived: shown as a bar, or told to a function that may stop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mullama_lab.errors import LoadCancelled
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from tqdm import tqdm

Arrived = Callable[[int, int], "bool | None"]
"""Gets the bytes that have arrived and those there are in all; False stops the download."""


def bar_class(progress: bool | Arrived) -> type[tqdm]:
    """A bar that shows it, or one that prints nothing, and tells a function if there is one."""
    from mullama_lab.bars import TextBar

    if progress is True:
        return TextBar
    if progress is not False and not callable(progress):
        raise TypeError(
            f"progress={brief(progress)} must be True, False or a function of two numbers."
        )
    tell = progress if callable(progress) else None

    class Telling(TextBar):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if tell and tell(int(self.n), int(self.total or 0)) is False:
                raise LoadCancelled("the download was stopped by its progress function.")

    return Telling

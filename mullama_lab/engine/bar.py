"""What long work shows, and what a long wait does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from tqdm import tqdm

SHOWN_AFTER = 2  # seconds


def bar(what: str, total: int, unit: str, *, shown: bool = True) -> tqdm:
    """A tqdm bar that appears after two seconds and goes when it is closed."""
    from mullama_lab.bars import TextBar

    try:
        is_shown = bool(shown)
    except (TypeError, ValueError):  # an array
        raise TypeError(f"progress={brief(shown)}: it must be True or False.") from None
    return TextBar(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",
        delay=SHOWN_AFTER,
        disable=not is_shown,
    )


@contextmanager
def waiting(behind: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Say after two seconds what a wait is for, as long as it is, where a person watches.

    Args:
        behind: what it waits for now; "" if for nothing that needs to be said.

    Yields:
        what to call now and then while it waits.
    """
    began = monotonic()
    shown: tqdm | None = None

    def tell() -> None:
        nonlocal shown
        seconds = monotonic() - began
        text = behind() if seconds >= SHOWN_AFTER and _is_watched() else ""
        if text and shown is None:
            from mullama_lab.bars import TextBar

            shown = TextBar(bar_format="{desc}")
        if shown is not None and text:
            shown.set_description_str(f"{text} ({seconds:.0f} s)")
        elif shown is not None:
            shown.close()
            shown = None

    try:
        yield tell
    finally:
        if shown is not None:
            shown.close()


def _is_watched() -> bool:
    """Whether a person sees this thread wait, in a notebook or a terminal."""
    if threading.current_thread() is not threading.main_thread():
        return False
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        return True
    return sys.stderr is not None and sys.stderr.isatty()

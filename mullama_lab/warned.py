"""Warnings that point to the caller's own line, however deep in the package they arise."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_PACKAGE = __name__.partition(".")[0]
_heard = threading.local()


def warn(message: str) -> None:
    """Warn once for each line, outside this package, that brings it about."""
    messages: list[str] | None = getattr(_heard, "messages", None)
    if messages is not None:
        messages.append(message)
        return
    warnings.warn(message, stacklevel=_callers_frame()[0])


def warner() -> Callable[[str], None]:
    """What warns later, from any thread, and points to the caller's line that runs now.

    Where this thread is `heard`, it is told to who hears.
    """
    messages: list[str] | None = getattr(_heard, "messages", None)
    if messages is not None:
        return messages.append
    frame = _callers_frame()[1]
    place = frame.f_code.co_filename, frame.f_lineno
    return lambda message: warnings.warn_explicit(message, UserWarning, *place)


def _callers_frame() -> tuple[int, FrameType]:
    """The innermost one outside this package, and how many above the calling function it is."""
    depth, frame = 0, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        depth, frame = depth + 1, frame.f_back
    return depth, frame


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what this thread is warned of; a worker has no caller's line, and must not print."""
    messages: list[str] = []
    _heard.messages = messages
    try:
        yield messages
    finally:
        _heard.messages = None

"""Warnings that point to the caller's own line, however deep in the package they arise."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGE = __name__.partition(".")[0]
_heard = threading.local()


def warn(message: str) -> None:
    """Warn once for each line, outside this package, that brings it about."""
    messages: list[str] | None = getattr(_heard, "messages", None)
    if messages is not None:
        messages.append(message)
        return
    depth, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, stacklevel=depth)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what this thread is warned of; a worker has no caller's line, and must not print."""
    messages: list[str] = []
    _heard.messages = messages
    try:
        yield messages
    finally:
        _heard.messages = None

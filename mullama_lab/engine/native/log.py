"""llama.cpp's log: sent to `logging`, and collected while something is opened."""

from __future__ import annotations

import atexit
import ctypes
import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mullama_lab.engine.native.library import C
from mullama_lab.glyphs import visible

logger = logging.getLogger("mullama_lab.llama_cpp")
logger.addHandler(logging.NullHandler())  # what matters of it is in our exceptions

# As in ggml.h; the numbers in llama-cpp-python's own logger are out of date.
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_recent: deque[tuple[int, str]] = deque(maxlen=400)
_log_state = threading.local()


@C.llama_log_callback
def _on_log(level: int, text: bytes, _user: object) -> None:
    if level == 5:  # a continuation of the line before
        level = getattr(_log_state, "level", 1)
    _log_state.level = level
    line = text.decode("utf-8", "replace").rstrip("\n")
    if line.strip(" ."):
        line = visible(line)  # it quotes the file
        number = _LEVELS.get(level, logging.DEBUG)
        _recent.append((number, line))
        # Its information is our detail: a user who sets the root logger to INFO wants no dump.
        logger.log(number if number >= logging.WARNING else logging.DEBUG, "%s", line)


@contextmanager
def captured_log() -> Iterator[list[tuple[int, str]]]:
    """Collect what llama.cpp logs inside the block, as (level, line)."""
    _recent.clear()
    lines: list[tuple[int, str]] = []
    try:
        yield lines
    finally:
        lines.extend(_recent)


def last_error(lines: Sequence[tuple[int, str]]) -> str:
    """The last things llama.cpp complained about, on one line."""
    said = [line.strip() for level, line in lines if level >= logging.ERROR]
    return "; ".join(said[-2:])


C.llama_log_set(_on_log, ctypes.c_void_p(0))
# A thread that still logs when there is no Python left must not call it: libc's `abs` does nothing.
_SILENCE = ctypes.cast(ctypes.CDLL(None).abs, C.llama_log_callback)
atexit.register(C.llama_log_set, _SILENCE, ctypes.c_void_p(0))

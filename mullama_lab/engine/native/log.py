"""llama.cpp's log: sent to `logging`, and collected for whoever opens something.

llama.cpp logs on the thread that called it, so what is said during an opening is what that
thread said, and openings on other threads keep their own words.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mullama_lab.engine.c_library import c_function
from mullama_lab.engine.leaving import call_afterwards
from mullama_lab.engine.native.library import C
from mullama_lab.glyphs import visible

logger = logging.getLogger("mullama_lab.llama_cpp")
logger.addHandler(logging.NullHandler())  # what matters of it is in our exceptions

# As in ggml.h; the numbers in llama-cpp-python's own logger are out of date.
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUATION = 5  # of the line before
_ABOUT_SIZES = ("MiB", "dev = ", "assigned to device")


class Complaints:
    """What llama.cpp warned of and failed at while one thing was opened.

    Attributes:
        warnings, errors: its lines, in order.
    """

    def __init__(self, printer: logging.Handler | None) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self._printer = printer

    def hear(self, level: int, line: str) -> None:
        """Take in one line."""
        if level == logging.WARNING:
            self.warnings.append(line)
        elif level == logging.ERROR:
            self.errors.append(line)
        if self._printer is not None:
            self._printer.handle(logging.LogRecord(logger.name, level, "", 0, line, None, None))

    def reason(self, otherwise: str = "it gave no reason") -> str:
        """The last two errors, on one line."""
        said = [line.strip() for line in self.errors if not line.endswith("failed to load model")]
        return "; ".join(said[-2:]) or otherwise


class _ThreadState(threading.local):
    """What one thread's log lines belong to."""

    def __init__(self) -> None:
        self.level = logging.DEBUG  # of its newest line
        self.openings: list[Complaints] = []  # the innermost last
        self.sizes: list[list[str]] = []  # the innermost last


_thread = _ThreadState()


@contextmanager
def complaints(*, printed: bool = False) -> Iterator[Complaints]:
    """Collect what llama.cpp complains of on this thread inside the block.

    Blocks may lie in one another, as when a progress callback loads another model: a line
    belongs to the innermost.

    Args:
        printed: also print all lines, whatever their level, to the standard error stream.
    """
    heard = Complaints(logging.StreamHandler() if printed else None)
    _thread.openings.append(heard)
    try:
        yield heard
    finally:
        _thread.openings.pop()


@contextmanager
def said_of_sizes() -> Iterator[list[str]]:
    """Collect what llama.cpp says of memory on this thread inside the block.

    That is the lines which name sizes, and those which say what layer is on which device.
    A line belongs to the innermost block.
    """
    lines: list[str] = []
    _thread.sizes.append(lines)
    try:
        yield lines
    finally:
        _thread.sizes.pop()


@C.llama_log_callback
def _on_log(ggml_level: int, text: bytes, _user: object) -> None:
    if ggml_level != _CONTINUATION:
        _thread.level = _LEVELS.get(ggml_level, logging.DEBUG)
    level = _thread.level
    line = text.decode("utf-8", "replace").rstrip("\n")
    if not line.strip(" ."):
        return
    line = visible(line)  # it quotes the file
    if _thread.openings:
        _thread.openings[-1].hear(level, line)
    if _thread.sizes and any(word in line for word in _ABOUT_SIZES):
        _thread.sizes[-1].append(line)
    # Its information is our detail: a user who sets the root logger to INFO wants no dump.
    logger.log(level if level >= logging.WARNING else logging.DEBUG, "%s", line)


C.llama_log_set(_on_log, ctypes.c_void_p(0))
# A thread that still logs when there is no Python left must not call it: C's `abs` does nothing.
_SILENCE = ctypes.cast(c_function("abs"), C.llama_log_callback)
call_afterwards(lambda: C.llama_log_set(_SILENCE, ctypes.c_void_p(0)))

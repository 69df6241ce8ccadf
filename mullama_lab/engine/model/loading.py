"""What a person sees of a model while it loads: a bar, or llama.cpp's log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mullama_lab.engine._native import log as llama_log
from mullama_lab.engine.bar import bar

Progress = Callable[[float], "bool | None"]


@contextmanager
def printed_log(verbose: bool) -> Iterator[None]:
    """Send llama.cpp's log to the standard error stream, besides where logging sends it."""
    if not verbose:
        yield
        return
    handler, level = logging.StreamHandler(), llama_log.level
    llama_log.addHandler(handler)
    llama_log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        llama_log.removeHandler(handler)
        llama_log.setLevel(level)


@contextmanager
def reporter(progress: bool | Progress | None, name: str) -> Iterator[Progress | None]:
    """The function llama.cpp reports to: the caller's, or a bar after two seconds."""
    if progress is None or progress is False:
        yield None
    elif callable(progress):
        yield progress
    elif progress is True:
        with bar(name, 100, "%") as shown:
            yield lambda done: shown.update(round(100 * done) - shown.n) and None
    else:
        raise TypeError(
            f"progress={progress!r:.80} must be None, True or a function of one number."
        )

"""One thread that does what a lab is asked, in that order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from mullama_lab.engine.worker import WAIT_STEP
from mullama_lab.errors import ClosedError, MullamaError

log = logging.getLogger(__name__)

T = TypeVar("T")


class Work:
    """The thread and its queue.

    Args:
        name: of the thread.
        on_error: told what fails, on the thread, also when nobody waits for it.
    """

    def __init__(self, name: str, on_error: Callable[[BaseException], object]) -> None:
        self._threads = ThreadPoolExecutor(1, name)
        self._on_error = on_error

    def later(self, do: Callable[..., T], *args: Any) -> Future[T]:
        """Do it after what was asked before, and return at once; ClosedError after `close`."""
        try:
            return self._threads.submit(self._guarded, do, *args)
        except RuntimeError:
            raise ClosedError("the lab is closed. Make another one.") from None

    def now(self, do: Callable[..., T], *args: Any) -> T:
        """Do it after what was asked before, and wait for the result."""
        future = self.later(do, *args)
        while not future.done():  # in steps: not every interrupt ends a wait
            wait([future], WAIT_STEP)
        if future.cancelled():
            raise ClosedError("the lab was closed before this could start.")
        return future.result()

    def close(self) -> None:
        """Drop what waits, and end the thread after what it is doing."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _guarded(self, do: Callable[..., T], *args: Any) -> T:
        try:
            return do(*args)
        except BaseException as error:
            if not isinstance(error, (MullamaError, ValueError, TypeError)):
                log.exception("a lab failed")
            self._on_error(error)
            raise

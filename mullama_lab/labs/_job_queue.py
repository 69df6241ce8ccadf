"""Jobs that are done one after the other on one thread.

A queue, and no `LatestOnly`: each job counts, in the order in which it was asked for, and whoever
asked may want what it returns.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.errors import ClosedError, MullamaError

log = logging.getLogger(__name__)

T = TypeVar("T")


class JobQueue:
    """An executor with one thread, whose jobs belong to a lab.

    Args:
        name: of the thread.
        on_error: told what fails, on the thread, also when nobody waits for it.
    """

    def __init__(self, name: str, on_error: Callable[[BaseException], object]) -> None:
        self._executor = ThreadPoolExecutor(1, name)
        self._on_error = on_error
        self._process = os.getpid()

    def later(self, do: Callable[..., T], *args: Any) -> Future[T]:
        """Do it after what was asked before, and return at once.

        Raises:
            ClosedError: after `close`, or in a fork, which does not have the thread.
        """
        if os.getpid() != self._process:
            raise ClosedError(
                "the lab belongs to the process that made it, and this is a fork of that. "
                "Make another one in the new process."
            )
        try:
            return self._executor.submit(self._guarded, do, *args)
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
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _guarded(self, do: Callable[..., T], *args: Any) -> T:
        try:
            return do(*args)
        except BaseException as error:
            if not isinstance(error, (MullamaError, ValueError, TypeError)):
                log.exception("a lab failed")
            self._on_error(error)
            raise

"""The recorder: makes the records of steps on a thread of its own while the next batch is decoded.

Where decoding takes every core a second thread would stall it: records are made at once there.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from mullama_lab.engine.worker import helping_here


class Recorder:
    """Does what it is given in order; its thread lives from the first work to `rest`.

    Args:
        aside: whether it may have a thread.
    """

    def __init__(self, *, aside: bool) -> None:
        self.aside = aside
        self._thread: ThreadPoolExecutor | None = None

    def do(self, make: Callable[[], None]) -> Future[None] | None:
        """Make a record soon, or now: then there is nothing to wait for."""
        if self.aside:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "mullama_lab record", helping_here())
            with suppress(RuntimeError):  # the main thread has ended: no pool takes anything more
                return self._thread.submit(make)
        make()
        return None

    def rest(self) -> None:
        """Let go of the thread until there is more to do."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

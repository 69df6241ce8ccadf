"""The recorder: a thread of its own that records steps while the next batch is decoded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from mullama_lab.engine.worker import helping_here


class Recorder:
    """Does what it is given in order; its thread lives from the first work to `rest`."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    def do(self, make: Callable[[], None]) -> Future[None] | None:
        """Make a record soon; at the exit of the interpreter now, and then there is no Future."""
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

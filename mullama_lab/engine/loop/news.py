"""Waiting for what a run brings, on a thread or in an event loop; and telling callbacks of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.step import Step
from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.glyphs import brief

T = TypeVar("T")
Result = TypeVar("Result", covariant=True)
log = logging.getLogger(__name__)
LOGGED = "what watches a generation failed"


class News:
    """Wakes whoever waits for a condition, each time that something is new."""

    def __init__(self) -> None:
        self._changed = usable_in_forks(threading.Condition())
        self._sleepers: list[Callable[[], None]] = []  # in event loops, each woken once
        self._listeners: tuple[Callable[[], object], ...] = ()

    def tell(self) -> None:
        """Have all of them look again."""
        with self._changed:
            self._changed.notify_all()
            sleepers, self._sleepers = self._sleepers, []
        for wake in sleepers:
            wake()
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                log.exception(LOGGED)

    def listen(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback()` at each `tell`; returns what undoes it, also twice."""

        def listener() -> object:  # of its own, so that each undo takes back its own
            return callback()

        def undo() -> None:
            with self._changed:
                self._listeners = tuple(one for one in self._listeners if one is not listener)

        with self._changed:
            self._listeners = (*self._listeners, listener)
        return undo

    def wait_until(self, ready: Callable[[], bool], each: Callable[[], None]) -> None:
        """Wait on this thread; `each` is called about five times a second."""
        with self._changed:
            while not ready():
                self._changed.wait(WAIT_STEP)
                each()

    async def until(self, ready: Callable[[], bool]) -> None:
        """Wait without holding up the event loop."""
        loop = asyncio.get_running_loop()
        while True:
            woken: asyncio.Future[None] = loop.create_future()
            with self._changed:
                if ready():
                    return
                self._sleepers.append(lambda woken=woken: _wake(loop, woken))
            await woken


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # the loop was closed
        loop.call_soon_threadsafe(lambda: None if woken.done() else woken.set_result(None))


class _InFlight(Protocol[Result]):
    _news: News

    @property
    def done(self) -> bool: ...
    def stop(self) -> None: ...
    def wait(self, timeout: float | None = None) -> Result: ...


class Awaitable(Generic[T]):
    """What can be awaited for the result of `wait`."""

    def __await__(self: _InFlight[T]) -> Generator[Any, None, T]:
        """Wait for its end as `wait` does, without holding up the event loop.

        Cancelling the task stops it, and the task ends when it has ended.
        """
        yield from until_or_stopped(self, lambda: self.done).__await__()
        return self.wait()


async def until_or_stopped(work: _InFlight[Any], ready: Callable[[], bool]) -> None:
    """Wait for a condition; whoever cancels that stops the work and waits for its end.

    To cancel again gives up the wait for its end.
    """
    try:
        await work._news.until(ready)
    except asyncio.CancelledError:
        work.stop()
        await work._news.until(lambda: work.done)
        raise


class StepWatcher:
    """Tells a callback of each step once, in order, beginning with the first."""

    def __init__(self, callback: Callable[[Step], object]) -> None:
        self._callback = callback
        self._seen = 0
        self._turn = usable_in_forks(threading.RLock())

    def tell(self, trace: Trace, n: int) -> None:
        """Tell of the first n steps, as far as it was not told yet."""
        with self._turn:
            while self._seen < n:
                self._seen += 1
                call_logged(self._callback, trace[self._seen - 1])


def call_logged(callback: Callable[[T], object], news: T) -> None:
    """Call a callback; what it raises is logged and stops nothing."""
    try:
        callback(news)
    except Exception:
        log.exception(LOGGED)


def must_be_callable(callback: object, of: str = "") -> None:
    """Refuse what cannot be called; TypeError."""
    if not callable(callback):
        takes = f"a {of}" if of else "no arguments"
        raise TypeError(f"callback={brief(callback)}: it must be a function of {takes}.")

"""Stream: a generation that is read step by step, and ends when it is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

from mullama_lab.engine.loop.news import until_or_stopped
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.trace.step import Step


class Stream(Iterator[Step], AsyncIterator[Step]):
    """The Steps of a generation, in a `for` or an `async for`; made by `session.stream`.

    It begins with the first step that is asked for. Leaving the loop stops it, also by an
    exception or by cancelling the task; a stream kept in a variable is stopped with `close`
    or `aclose`.
    """

    _begun = False  # for one whose making failed

    def __init__(self, run: Run, launch: Callable[[Run], Run]) -> None:
        self._run = run
        self._launch = launch
        self._seen = 0
        self._closed = False
        self._in_event_loop = False

    def __iter__(self) -> Iterator[Step]:
        return self

    def __aiter__(self) -> AsyncIterator[Step]:
        return self

    def __next__(self) -> Step:
        step = None
        if self._goes_on():
            try:
                step = self._run.step_or_end(self._seen)
            except BaseException:
                self.close()
                raise
        return self._given(step, StopIteration)

    async def __anext__(self) -> Step:
        self._in_event_loop = True
        step = None
        if self._goes_on():
            try:
                step = await self._run.step_or_end_soon(self._seen)
            except BaseException:
                self._closed = True
                self._run.stop()
                raise
        return self._given(step, StopAsyncIteration)

    def close(self) -> None:
        """Stop it and wait for its end. Closing twice is fine."""
        self._closed = True
        if self._begun:
            self._run.stop_and_wait()

    async def aclose(self) -> None:
        """The same, without holding up the event loop."""
        self._closed = True
        if self._begun:
            self._run.stop()
            await until_or_stopped(self._run, lambda: self._run.done)

    def __del__(self) -> None:
        if not self._begun:
            return
        if self._in_event_loop:  # which must not wait
            self._run.stop()
        else:
            self._run.stop_and_wait()

    def __repr__(self) -> str:
        return f"<Stream of {self._run!r}>"

    def _goes_on(self) -> bool:
        """Whether there may be a step; the first time that is asked, it begins."""
        if not self._closed and not self._begun:
            self._launch(self._run)
            self._begun = True
        return not self._closed

    def _given(self, step: Step | None, end: type[Exception]) -> Step:
        if step is None:
            self._closed = True
            raise end
        self._seen += 1
        return step

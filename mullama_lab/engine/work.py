"""Work that a worker was asked to do: wait for it, stop it, be told of its end.

It knows nothing of threads but that somebody does it, who can be asked to stop.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

from mullama_lab.engine.bar import waiting
from mullama_lab.engine.leaving import end_daemon_thread, usable_in_forks
from mullama_lab.engine.options import seconds
from mullama_lab.errors import ClosedError, SessionError, Stopped
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")
WAIT_STEP = 0.2  # seconds


class Doer(Protocol):
    """Who does it: a Worker.

    Attributes:
        what, caller: what owns it, and what may call back while it works, in messages.
        busy_text, lost_text, closed_text: why a wait is long, or would never end.
    """

    what: str
    caller: str
    busy_text: str
    lost_text: str
    closed_text: str
    is_lost: bool

    @property
    def is_gone(self) -> bool: ...
    @property
    def is_this_thread(self) -> bool: ...
    def submit(self, *works: Work[Any]) -> None: ...
    def interrupt(self, work: Work[Any] | None = None) -> None: ...


class Work(ABC, Generic[T]):
    """What a worker was asked to do; can be waited for and stopped, also before it starts.

    `owner` stays alive until it has ended.
    """

    def __init__(self, owner: object = None) -> None:
        self._owner = owner
        self._future: Future[T] = Future()
        self._has_ended = False  # what the Future says too, but under a lock that a fork may copy
        self._worker: Doer | None = None
        self.told_by = 0  # the thread that tells of it before it is asked for
        self.claimed = False  # by the worker, or by a stop before it started
        self._stop_requested = False

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            f"a {type(self).__name__} is work in flight, so it cannot be copied or pickled. "
            "Its result can: .result()."
        )

    def given_to(self, worker: Doer) -> None:
        """Note who does it, and so who is asked to stop."""
        self._worker = worker

    @property
    def stop_requested(self) -> bool:
        """Whether it was asked to end."""
        return self._stop_requested

    def request_stop(self) -> None:
        """Note that it shall end; `stop` also tells the worker."""
        self._stop_requested = True

    @property
    def done(self) -> bool:
        return self._has_ended or self._lost is not None

    @property
    def error(self) -> BaseException | None:
        """What it raised, once done."""
        return self._future.exception() if self._has_ended else self._lost

    @property
    def _lost(self) -> ClosedError | None:
        """Why it will never end: this is a fork, whose parent has the worker, or that failed."""
        worker = self._worker
        if worker is None or self._has_ended or not worker.is_gone:
            return None
        if self._has_ended:  # between the two looks, and the worker after it
            return None
        return ClosedError(worker.lost_text if worker.is_lost else worker.closed_text)

    def stop(self) -> None:
        """Ask it to end as soon as it can. Stopping what has ended does nothing."""
        self.request_stop()
        if self._lost is not None:
            return
        if self._worker is not None:
            self._worker.interrupt(self)
        elif not self.done:  # nobody was ever asked to do it
            self.refuse(Stopped("stopped before it started."))

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result; raises what the job raised, TimeoutError after `timeout` seconds."""
        self.must_not_wait_here()
        timeout = seconds("timeout", timeout)
        if not self._ended_within(timeout):
            raise TimeoutError(f"it still runs after {timeout} seconds. Wait longer, or stop it.")
        self._must_not_be_lost()
        if self._future.exception() is not None:
            end_daemon_thread()
        return self._future.result()

    def result_or_stop(self) -> T:
        """Wait for the result; if the wait is interrupted, stop the job and wait for its end."""
        with self.stopped_on_error():
            return self.result()

    def result_while(self, is_wanted: Callable[[], bool]) -> T:
        """The result; it is asked several times a second whether that is wanted, or it is stopped.

        An interrupted wait stops the job too.
        """
        self.must_not_wait_here()
        with self.stopped_on_error():
            while not self._ended_within(WAIT_STEP):
                if not is_wanted():
                    self.stop()
        return self.result()

    def result_beside(self, bar: tqdm, n_done: Callable[[], int]) -> T:
        """The result, with a bar that shows how much is done; an interrupted wait stops the job."""
        with bar, self.stopped_on_error():
            while not self.done:
                self._ended_within(WAIT_STEP)
                bar.update(n_done() - bar.n)
        return self.result()

    @contextmanager
    def stopped_on_error(self) -> Iterator[None]:
        """Stop the job, and wait for its end, if what is inside raises (Ctrl-C too)."""
        try:
            yield
        except BaseException:
            end_daemon_thread()  # the exit stops all work, and nobody waits for what becomes of it
            self.stop_and_wait()
            raise

    def stop_and_wait(self) -> None:
        """Stop it and wait for its end, whatever that is."""
        self.stop()
        if not self._is_done_here:
            self._ended_within(None)

    def _ended_within(self, timeout: float | None) -> bool:
        # In steps: not every interrupt ends a wait, but each is noticed after one.
        end = math.inf if timeout is None else time.monotonic() + timeout
        with self.told_wait() as tell:
            while not self.done and (left := end - time.monotonic()) > 0:
                wait([self._future], min(left, WAIT_STEP))
                tell()
        return self.done

    def told_wait(self) -> AbstractContextManager[Callable[[], None]]:
        """A wait for it that says what it waits for, if that is what was asked before it."""
        return waiting(lambda: self._behind)

    @property
    def _behind(self) -> str:
        """What must end before it can begin, and how to end that; "" once it has begun."""
        worker = self._worker
        return "" if worker is None or self.claimed else worker.busy_text

    def must_not_wait_here(self) -> None:
        """Refuse to wait for a job on a thread without which it never ends, or in a fork."""
        self._must_not_be_lost()
        if self._worker is None and self.told_by == threading.get_ident() and not self.done:
            raise SessionError(
                "what on_start calls cannot wait for the run that it is told of, which begins "
                "afterwards. run.on_step and run.on_end tell of what comes."
            )
        if self._is_done_here and not self.done:
            what, caller = ("session", "a Custom stage")
            if self._worker is not None:
                what, caller = self._worker.what, self._worker.caller
            raise SessionError(
                f"{caller} cannot wait for the {what} that is running it. "
                f"Use a second {what} of the same model."
            )

    def _must_not_be_lost(self) -> None:
        if (lost := self._lost) is not None:
            end_daemon_thread()
            raise lost

    @property
    def _is_done_here(self) -> bool:
        """Whether this is the thread that does it."""
        return self._worker is not None and self._worker.is_this_thread

    def when_done(self, call: Callable[[], object]) -> None:
        """Call something once it has ended, on whichever thread ends it; at once if it has."""
        if not callable(call):
            raise TypeError(f"{brief(call)} is no function that can be called at the end.")
        self._future.add_done_callback(lambda _: call())

    def end(self, result: T) -> None:
        """It has ended; only the worker calls this. Ending it twice does nothing."""
        self._owner = None
        if not self._has_ended:
            self._has_ended = True
            self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """End it with an error; ending it twice does nothing."""
        self._owner = None
        if not self._has_ended:
            self._has_ended = True
            self._future.set_exception(error)

    def refuse(self, error: BaseException) -> None:
        """End it before it began."""
        self.fail(error)


class Job(Work[T]):
    """A function to call on the worker."""

    def __init__(self, do: Callable[[], T], owner: object = None) -> None:
        super().__init__(owner)
        self._do: Callable[[], T] | None = do

    def run(self) -> None:
        """Do it; only the worker calls this."""
        do, self._do = self._do, None
        if do is None or self.stop_requested:
            self.refuse(Stopped("stopped before it started."))
            return
        try:
            result = do()
        except BaseException as error:
            self.fail(error)
        else:
            self.end(result)

    def fail(self, error: BaseException) -> None:
        self._do = None
        super().fail(error)


class Together(Work[None]):
    """Several works as one: it ends with the last of them, and to stop it stops them all."""

    def __init__(self, parts: Sequence[Work[Any]]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self._left = len(self.parts)
        self._counting = usable_in_forks(threading.Lock())
        for part in self.parts:
            part.when_done(self._count)
        if not self.parts:
            self.end(None)

    def submit_to(self, worker: Doer) -> None:
        """Have all of them done; `ClosedError` after `close`."""
        worker.submit(*self.parts)
        self.given_to(worker)

    def stop(self) -> None:
        self.request_stop()
        for part in self.parts:
            part.stop()

    def _count(self) -> None:
        with self._counting:
            self._left -= 1
            left = self._left
        if left == 0:
            errors = [part.error for part in self.parts if part.error is not None]
            failures = [error for error in errors if not isinstance(error, Stopped)]
            if error := next(iter([*failures, *errors]), None):
                self.fail(error)
            else:
                self.end(None)

    @property
    def _behind(self) -> str:
        waits = all(part._behind for part in self.parts)
        return self.parts[0]._behind if waits and self.parts else ""


def as_ended(works: Sequence[Work[Any]]) -> Iterator[int]:
    """The place of each work, as soon as it has ended."""
    left = {work._future: place for place, work in enumerate(works)}
    while left:
        for future in wait(left, WAIT_STEP, FIRST_COMPLETED).done:
            yield left.pop(future)

"""One thread that makes every call on one context, and the work it is given.

The thread knows nothing of models. It is a daemon, and it is the thread that frees the context,
after its last work, so none ever sees a context that is gone. In which order work is done, and
what is done side by side, is for its plan to say.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from abc import ABC
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from mullama_lab.engine.bar import waiting
from mullama_lab.engine.leaving import end_daemon_thread, usable_in_forks, wait_at_exit
from mullama_lab.engine.native.context import StopFlag
from mullama_lab.engine.options import seconds
from mullama_lab.errors import ClosedError, SessionError, Stopped
from mullama_lab.glyphs import brief

T = TypeVar("T")
WAIT_STEP = 0.2  # seconds


class Work(ABC, Generic[T]):
    """What a worker was asked to do; can be waited for and stopped, also before it starts.

    `owner` stays alive until it has ended.
    """

    def __init__(self, owner: object = None) -> None:
        self._owner = owner
        self._future: Future[T] = Future()
        self._worker: Worker | None = None
        self.claimed = False  # by the worker, or by a stop before it started
        self._stop_requested = False

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            f"a {type(self).__name__} is work in flight, so it cannot be copied or pickled. "
            "Its result can: .result()."
        )

    @property
    def stop_requested(self) -> bool:
        """Whether it was asked to end."""
        return self._stop_requested

    @property
    def done(self) -> bool:
        return self._future.done() or self._lost is not None

    @property
    def error(self) -> BaseException | None:
        """What it raised, once done."""
        return self._future.exception() if self._future.done() else self._lost

    @property
    def _lost(self) -> ClosedError | None:
        """Why it will never end: this is a fork, whose parent has the worker, or that failed."""
        worker = self._worker
        if worker is None or not worker.is_gone or self._future.done():
            return None
        return ClosedError(worker.lost_text if worker.is_lost else worker.closed_text)

    def stop(self) -> None:
        """Ask it to end as soon as it can. Stopping what has ended does nothing."""
        self._stop_requested = True
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
        """Refuse to wait for a job on the very thread that is to do it, or in a fork."""
        self._must_not_be_lost()
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
        if not self._future.done():
            self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """End it with an error; ending it twice does nothing."""
        self._owner = None
        if not self._future.done():
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

    def submit_to(self, worker: Worker) -> None:
        """Have all of them done; `ClosedError` after `close`."""
        worker.submit(*self.parts)
        self._worker = worker

    def stop(self) -> None:
        self._stop_requested = True
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


class Plan(Protocol):
    """Says what a worker does next; only the worker's thread calls it."""

    def add(self, work: Any) -> None:
        """Take something new to do."""

    def tick(self, worker: Worker) -> bool:
        """Do a part of what there is to do; False if there is nothing, until something is added."""
        ...

    def end(self, refusal: ClosedError) -> None:
        """Stop what is at work and refuse what waits: nothing is done any more."""


class OneByOne:
    """The plan that does jobs one after the other."""

    def __init__(self) -> None:
        self._jobs: deque[Job[Any]] = deque()

    def add(self, work: Job[Any]) -> None:
        self._jobs.append(work)

    def tick(self, worker: Worker) -> bool:
        if self._jobs:
            worker.run(self._jobs.popleft())
        return bool(self._jobs)

    def end(self, refusal: ClosedError) -> None:
        while self._jobs:
            self._jobs.popleft().refuse(refusal)


def as_ended(works: Sequence[Work[Any]]) -> Iterator[int]:
    """The place of each work, as soon as it has ended."""
    left = {work._future: place for place, work in enumerate(works)}
    while left:
        for future in wait(left, WAIT_STEP, FIRST_COMPLETED).done:
            yield left.pop(future)


_here = threading.local()  # .worker: whose thread this is, or whose work it helps with


def helping_here() -> Callable[[], None]:
    """What makes another thread count as this one: it must not wait for this worker either."""
    worker = getattr(_here, "worker", None)
    return lambda: setattr(_here, "worker", worker)


class Worker:
    """The thread, its queue, and the flag that stops a decode.

    Args:
        plan: what it does when; jobs one after the other unless told otherwise.
        at_end: called on the thread after its last job.
        what: what owns the context, in messages.
        opened_by: how another one is opened.
        caller: what may call back while a job runs.
    """

    def __init__(
        self,
        name: str,
        stop: StopFlag,
        at_end: Callable[[], None],
        *,
        plan: Plan | None = None,
        what: str = "session",
        opened_by: str = "model.session()",
        caller: str = "a Custom stage",
    ) -> None:
        self.what, self.caller = what, caller
        self.lost_text = (
            f"the {what} belongs to the process that opened it, and this is a fork of that. "
            "Load the model and open another one in the new process."
        )
        self.is_lost = False  # in a fork, which has none of the threads
        self.closed_text = f"the {what} is closed. Open another one with {opened_by}."
        self.busy_text = (
            f"Waiting for the {what}'s earlier work. To end that: interrupt, then {what}.stop()"
        )
        self._plan: Plan = OneByOne() if plan is None else plan
        self._queue: queue.SimpleQueue[Work[Any] | None] = queue.SimpleQueue()
        self._stop = stop
        self._lock = usable_in_forks(threading.Lock())
        self._current: Collection[Work[Any]] = ()
        self._may_cut_short = True
        self._closed = False
        self._at_end = at_end
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()
        wait_at_exit(self)

    @property
    def is_this_thread(self) -> bool:
        return getattr(_here, "worker", None) is self

    @property
    def is_gone(self) -> bool:
        """Whether nothing more is done: what has not ended by now never will."""
        return self.is_lost or not self._thread.is_alive()

    def submit(self, *works: Work[Any]) -> None:
        """Queue things to do, all of them or none; `ClosedError` after `close`."""
        with self._lock:
            closed = self._closed
            if not closed:
                if self.is_lost:
                    raise ClosedError(self.lost_text)
                for work in works:
                    work._worker = self
                    self._queue.put(work)
        if closed:
            end_daemon_thread()
            raise ClosedError(self.closed_text)

    def interrupt(self, work: Work[Any] | None = None) -> None:
        """Stop the given work, whether it is being done or waits; or all that is being done."""
        with self._lock:
            current = self._current
            if work is None:
                for one in current:
                    one._stop_requested = True
            elif work in current:
                work._stop_requested = True
            if current and (work is None or (work in current and self._may_cut_short)):
                self._stop.set()
            if work is None or work.claimed:
                return
            work.claimed = True
        work.refuse(Stopped("stopped before it started."))

    def claim(self, work: Work[Any]) -> bool:
        """Whether it may begin: it was neither begun nor stopped before."""
        with self._lock:
            mine, work.claimed = not work.claimed, True
        return mine

    def at_work(self, works: Collection[Work[Any]], *, may_cut_short: bool = True) -> None:
        """Say what is being done from now on, and so is stopped by `interrupt`.

        Args:
            may_cut_short: a decode may be cut short to stop one of several.
        """
        with self._lock:
            self._current, self._may_cut_short = works, may_cut_short
            self._stop.clear()
            if self._closed or (may_cut_short and any(work.stop_requested for work in works)):
                self._stop.set()

    def run(self, job: Job[Any]) -> None:
        """Do a job now; only the plan calls this."""
        if self.claim(job):
            self.at_work((job,))
            job.run()
            self.at_work(())

    def close(self) -> None:
        """Stop what is at work, refuse what waits, end the thread."""
        self.hurry()
        if not self.is_this_thread:
            self._thread.join()

    def hurry(self) -> None:
        """What `close` does, but for the wait."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self.interrupt()

    def ended_within(self, seconds: float) -> bool:
        """Wait for the thread's end after a `hurry`; whether that came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def renew(self) -> None:
        self.is_lost = True

    def _loop(self) -> None:
        _here.worker = self
        plan, busy = self._plan, False
        try:
            while self._take_up(wait=not busy):
                busy = plan.tick(self)
        finally:  # also where Python ends its daemon threads
            plan.end(ClosedError(f"the {self.what} was closed before this could start."))
            self._at_end()

    def _take_up(self, *, wait: bool) -> bool:
        """Give the plan all that was submitted, once there is something if it is to wait for it.

        False at the end.
        """
        while wait or not self._queue.empty():
            if (work := self._queue.get()) is None:
                return False
            self._plan.add(work)
            wait = False
        return True

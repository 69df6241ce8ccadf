"""One thread that makes every call on one context, and the jobs it is given.

The thread knows nothing of models. It is a daemon, and it is the thread that frees the context,
after its last job, so no job ever sees a context that is gone.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, NoReturn, TypeVar

from mullama_lab.engine.bar import waiting
from mullama_lab.engine.leaving import end_daemon_thread, usable_in_forks, wait_at_exit
from mullama_lab.engine.native.context import StopFlag
from mullama_lab.engine.options import seconds
from mullama_lab.errors import ClosedError, SessionError, Stopped
from mullama_lab.glyphs import brief

T = TypeVar("T")
WAIT_STEP = 0.2  # seconds


class Job(Generic[T]):
    """Something to do on the worker; can be waited for and stopped, also before it starts.

    `owner` stays alive until the job has ended.
    """

    def __init__(self, do: Callable[[], T], owner: object = None) -> None:
        self._do: Callable[[], T] | None = do
        self._owner = owner
        self._future: Future[T] = Future()
        self._worker: Worker | None = None
        self.claimed = False  # by the worker, or by a stop before it started
        self._stop_requested = False

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            "a Job is work in flight, so it cannot be copied or pickled. Its result can: "
            "job.result()."
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
        """Why it will never end here: this is a fork, and its worker is the parent's."""
        worker = self._worker
        if worker is None or not worker.is_lost or self._future.done():
            return None
        return ClosedError(worker.lost_text)

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

    def run(self) -> None:
        """Do it; only the worker calls this."""
        do, self._do = self._do, None
        if do is None or self.stop_requested:
            self.refuse(Stopped("stopped before it started."))
            return
        try:
            result = do()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
        finally:
            self._owner = None

    def refuse(self, error: BaseException) -> None:
        """End it without doing it."""
        self._do = self._owner = None
        self._future.set_exception(error)


class Part(Job[None]):
    """One of the things that a job does side by side: it ends before the job does, or with it.

    Whoever does the job calls `end`, and looks at `stop_requested` meanwhile.
    """

    def __init__(self, whole: Job[Any]) -> None:
        super().__init__(lambda: None)
        self._whole = whole
        whole.when_done(lambda: self.end(whole.error))

    @property
    def stop_requested(self) -> bool:
        """Whether it was asked to end, or all of the job was."""
        return self._stop_requested or self._whole.stop_requested

    def stop(self) -> None:
        """Ask it to end at its next token; the others go on."""
        self._stop_requested = True

    def end(self, error: BaseException | None = None) -> None:
        """It has ended; ending it twice does nothing."""
        if self.done:
            return
        if error is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(error)

    @property
    def _lost(self) -> ClosedError | None:
        return None if self._future.done() else self._whole._lost

    @property
    def _behind(self) -> str:
        return self._whole._behind

    @property
    def _is_done_here(self) -> bool:
        return self._whole._is_done_here


def as_ended(jobs: Sequence[Job[Any]]) -> Iterator[int]:
    """The place of each job, as soon as it has ended."""
    left = {job._future: place for place, job in enumerate(jobs)}
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
        self._queue: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._stop = stop
        self._lock = usable_in_forks(threading.Lock())
        self._current: Job[Any] | None = None
        self._closed = False
        self._at_end = at_end
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()
        wait_at_exit(self)

    @property
    def is_this_thread(self) -> bool:
        return getattr(_here, "worker", None) is self

    def submit(self, job: Job[T]) -> Job[T]:
        """Queue a job; `ClosedError` after `close`."""
        with self._lock:
            closed = self._closed
            if not closed:
                if self.is_lost:
                    raise ClosedError(self.lost_text)
                job._worker = self
                self._queue.put(job)
        if closed:
            end_daemon_thread()
            raise ClosedError(self.closed_text)
        return job

    def interrupt(self, job: Job[Any] | None = None) -> None:
        """Stop the given job, whether it is at work or waits; or whatever is at work."""
        with self._lock:
            current = self._current
            if current is not None and job in (None, current):
                current._stop_requested = True
                self._stop.set()
            if job is None or job.claimed:
                return
            job.claimed = True
        job.refuse(Stopped("stopped before it started."))

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
        while (job := self._queue.get()) is not None:
            with self._lock:
                closed = self._closed
                mine = not job.claimed
                job.claimed = True
                if mine and not closed:
                    self._current = job
                    self._stop.clear()
                    if job.stop_requested:
                        self._stop.set()
            if mine and closed:
                job.refuse(ClosedError(f"the {self.what} was closed before this could start."))
            elif mine:
                job.run()
            with self._lock:
                self._current = None
            del job
        self._at_end()

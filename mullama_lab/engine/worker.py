"""One thread that makes every call on one context, and the work it is given.

The thread knows nothing of models. It is a daemon, and it is the thread that frees the context,
after its last work, so none ever sees a context that is gone. In which order work is done, and
what is done side by side, is for its plan to say.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mullama_lab.engine.leaving import end_daemon_thread, usable_in_forks, wait_at_exit
from mullama_lab.engine.native.context import StopFlag
from mullama_lab.engine.work import Job, Work
from mullama_lab.errors import ClosedError, Stopped
from mullama_lab.glyphs import brief

logger = logging.getLogger(__name__)


class Plan(Protocol):
    """Says what a worker does next; only the worker's thread calls it."""

    def add(self, work: Any) -> None:
        """Take something new to do."""

    def tick(self, worker: Worker) -> bool:
        """Do a part of what there is to do; False if there is nothing, until something is added."""
        ...

    def end(self, worker: Worker, refusal: ClosedError, *, failed: bool) -> None:
        """Refuse what waits, and stop what is at work, or fail it: nothing is done any more."""


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

    def end(self, worker: Worker, refusal: ClosedError, *, failed: bool) -> None:
        while self._jobs:
            worker.refuse(self._jobs.popleft(), refusal)


# .worker: whose thread this is, or whose work it helps with; .work: what it is at.
_here = threading.local()


def helping_here() -> Callable[[], None]:
    """What makes another thread count as this one: it must not wait for this worker either."""
    worker = getattr(_here, "worker", None)
    return lambda: setattr(_here, "worker", worker)


@contextmanager
def at_work_on(work: Work[Any]) -> Iterator[None]:
    """Say what this thread works on, for `end_if_stopped`."""
    before, _here.work = getattr(_here, "work", None), work
    try:
        yield
    finally:
        _here.work = before


def end_if_stopped() -> None:
    """Raise Stopped if what this thread works on was asked to end."""
    work: Work[Any] | None = getattr(_here, "work", None)
    if work is not None and work.stop_requested:
        raise Stopped("stopped before there was a result.")


class Worker:
    """The thread, its queue, and the flag that stops a decode.

    Args:
        plan: what it does when; jobs one after the other unless told otherwise.
        at_end: called on the thread after its last job.
        what: what owns the context, in messages.
        opened_by: how another one is opened.
        caller: what may call back while a job runs.

    Attributes:
        at_rest: called on the thread whenever there is nothing left to do, and after its end; it
            must be quick and raise nothing.
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
        self.opened_by = opened_by
        self.closed_text = f"the {what} is closed. Open another one with {opened_by}."
        self.busy_text = (
            f"Waiting for the {what}'s earlier work. To end that: interrupt, then {what}.stop()"
        )
        self._plan: Plan = OneByOne() if plan is None else plan
        self._queue: queue.SimpleQueue[Work[Any] | None] = queue.SimpleQueue()
        self._stop = stop
        self._lock = usable_in_forks(threading.RLock())  # the collector may end a session inside it
        self._current: Collection[Work[Any]] = ()
        self._may_cut_short = True
        self.is_closed = False
        self._at_end = at_end
        self.at_rest: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()
        wait_at_exit(self)

    @property
    def is_this_thread(self) -> bool:
        return getattr(_here, "worker", None) is self

    @property
    def n_queued(self) -> int:
        """About how much was submitted that its plan has not been given yet; takes no lock."""
        return self._queue.qsize()

    @property
    def is_gone(self) -> bool:
        """Whether nothing more is done: what has not ended by now never will."""
        return self.is_lost or not self._thread.is_alive()

    def submit(self, *works: Work[Any]) -> None:
        """Queue things to do, all of them or none; `ClosedError` after `close`."""
        with self._lock:
            closed = self.is_closed
            if not closed:
                if self.is_lost:
                    raise ClosedError(self.lost_text)
                for work in works:
                    work.given_to(self)
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
                    one.request_stop()
            elif work in current:
                work.request_stop()
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

    def refuse(self, work: Work[Any], refusal: BaseException) -> None:
        """End what has not begun, unless a stop did so."""
        if self.claim(work):
            work.refuse(refusal)

    def set_current(self, works: Collection[Work[Any]], *, may_cut_short: bool = True) -> None:
        """Say what is being done from now on, and so is stopped by `interrupt`.

        Args:
            may_cut_short: a decode may be cut short to stop one of several.
        """
        with self._lock:
            self._current, self._may_cut_short = works, may_cut_short
            self._stop.clear()
            if self.is_closed or (may_cut_short and any(work.stop_requested for work in works)):
                self._stop.set()

    def run(self, job: Job[Any]) -> None:
        """Do a job now; only the plan calls this."""
        if self.claim(job):
            before, may_cut_short = self._current, self._may_cut_short
            self.set_current((*before, job))
            with at_work_on(job):
                job.run()
            self.set_current(before, may_cut_short=may_cut_short)

    def close(self) -> None:
        """Stop what is at work, refuse what waits, end the thread."""
        self.hurry()
        if not self.is_this_thread:
            self._thread.join()

    def hurry(self) -> None:
        """What `close` does, but for the wait."""
        with self._lock:
            if not self.is_closed:
                self.is_closed = True
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
        plan, busy, failed = self._plan, False, False
        refusal = f"the {self.what} was closed before this could start."
        try:
            while self._take_up(wait=not busy):
                busy = plan.tick(self)
                if not busy and self._queue.empty():
                    self.at_rest()
        except Exception as error:  # of the plan itself: what it does is no longer known
            logger.exception("the thread of a %s failed", self.what)
            failed = True
            refusal = (
                f"the {self.what} failed ({brief(error)}). Open another with {self.opened_by}."
            )
            self.closed_text = refusal
        finally:  # also where Python ends its daemon threads
            try:
                with self._lock:
                    self.is_closed = True
                self._take_up(wait=False)
                plan.end(self, ClosedError(refusal), failed=failed)
            finally:
                self._at_end()
                self.at_rest()

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

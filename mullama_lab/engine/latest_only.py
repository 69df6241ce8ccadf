"""LatestOnly: work on a thread of its own, where only the newest request counts.

It knows nothing of what the work is. Nothing here polls: a thread without work sleeps until more
is submitted, or ends after a second, and one that rests between two pieces is woken by nothing
but `close`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from mullama_lab.engine.leaving import has_begun, usable_in_forks
from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.errors import MullamaError

log = logging.getLogger(__name__)

LINGER = 1.0  # seconds a thread waits for more work before it ends
BURST = 3  # pieces of work that need no rest between them after a pause

Work = Callable[[], object]


class LatestOnly:
    """Does one piece of work at a time, aside; what is submitted meanwhile replaces what waits.

    The thread holds this object and the work it does. So that it keeps no owner alive, `on_error`
    should hold its owner weakly, and so should work that comes again and again.

    Args:
        name: of the thread.
        on_error: called on the thread with what a piece of work raises. What is no MullamaError
            and no ValueError is logged as well.
        rest: seconds from one piece to the next, but for a few after a pause.

    >>> latest = LatestOnly("example", print)
    >>> latest.submit(lambda: print("done"))
    >>> latest.settle()
    done
    """

    def __init__(
        self, name: str, on_error: Callable[[Exception], object], *, rest: float = 0.0
    ) -> None:
        self._name, self._on_error, self._rest = name, on_error, rest
        lock = threading.RLock()  # a finalizer may close it in the middle of a submit
        self._asked = usable_in_forks(threading.Condition(lock))  # what the thread waits for
        self._done = usable_in_forks(threading.Condition(lock))  # what `settle` waits for
        self._waiting: Work | None = None
        self._is_at_work = self._closed = False
        self._n_asked = self._n_taken = 0
        self._rested_until = 0.0
        self._thread: threading.Thread | None = None

    def submit(self, work: Work) -> None:
        """Do this next, in place of what waits; after `close` nothing is done."""
        with self._asked:
            if self._closed or has_begun():
                return
            self._waiting = work
            self._n_asked += 1
            self._asked.notify_all()
            if not self._is_alive:
                self._start_thread()

    def drop(self) -> None:
        """Forget what waits; what is at work is no longer current."""
        with self._asked:
            self._waiting = None
            self._n_asked += 1
            self._asked.notify_all()

    def is_current(self, wait: float = 0.0) -> bool:
        """Whether the work at hand is still wanted, also in `wait` seconds: for that work to ask.

        It is not once something newer was submitted, or after `drop` or `close`.
        """
        with self._asked:
            if wait:
                self._asked.wait_for(lambda: not self._is_newest, wait)
            return self._is_newest

    @property
    def is_busy(self) -> bool:
        """Whether anything waits or is at work."""
        with self._asked:
            return self._is_alive and (self._is_at_work or self._waiting is not None)

    @property
    def is_this_thread(self) -> bool:
        """Whether the work at hand asks."""
        return self._thread is threading.current_thread()

    def settle(self) -> None:
        """Wait until nothing waits or is at work; the work itself does not wait for its own end."""
        with self._done:
            while self.is_busy and not self.is_this_thread:
                self._done.wait(WAIT_STEP)  # in steps: not every interrupt ends a wait

    def close(self) -> None:
        """Drop what waits and take no more; the thread ends after what it is doing."""
        with self._asked:
            self._closed = True
            self.drop()
            self._done.notify_all()

    @property
    def _is_newest(self) -> bool:
        return not self._closed and self._n_taken == self._n_asked

    @property
    def _is_alive(self) -> bool:
        """Whether there is a thread; a fork has none of its parent's."""
        return self._thread is not None and self._thread.is_alive()

    def _start_thread(self) -> None:
        self._is_at_work = False
        self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = self._waiting = None
            if not has_begun():  # an interpreter that ends starts no threads
                raise

    def _loop(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            except Exception as error:
                self._tell(error)
            del work  # the owner may go while the thread waits
            self._finish()

    def _next(self) -> Work | None:
        """The newest work; None, and the thread ends, if there is none for a while."""
        with self._asked:
            self._asked.wait_for(lambda: self._closed or self._waiting is not None, LINGER)
            work, self._waiting = self._waiting, None
            self._n_taken = self._n_asked
            self._is_at_work = work is not None
            if work is None:
                self._thread = None
            return work

    def _finish(self) -> None:
        """Say that a piece of work is done, and rest before the next."""
        with self._done:
            self._is_at_work = False
            self._done.notify_all()
            now = monotonic()
            self._rested_until = (
                max(self._rested_until, now - (BURST - 1) * self._rest) + self._rest
            )
            if self._rested_until > now:
                self._done.wait_for(lambda: self._closed, self._rested_until - now)

    def _tell(self, error: Exception) -> None:
        if not isinstance(error, (MullamaError, ValueError)):
            log.error("%s failed", self._name, exc_info=error)
        try:
            self._on_error(error)
        except Exception:
            log.exception("what is told of errors of %s failed", self._name)

"""What happens to native memory and locks when the interpreter exits, and in a fork.

At exit Python stops daemon threads as soon as they need the interpreter, even inside a callback
of llama.cpp, and then C++'s static destructors run while such a thread may still use the objects.
So native work is ended first: whatever runs is asked to stop and gets `PATIENCE` seconds. Memory
that no thread uses any more is freed; the rest is left for the operating system.

A daemon thread that asks for something new after that ends silently, as Python ends it anyway.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol, TypeVar

from mullama_lab.engine.c_library import c_function

PATIENCE = 2.0  # seconds; a Jupyter server kills a kernel that takes 5

_has_begun = False


class Ending(Protocol):
    """Native work or memory that must be ended before the interpreter exits."""

    def hurry(self) -> None:
        """Ask running work to stop and refuse new work; returns at once."""

    def ended_within(self, seconds: float) -> bool:
        """Wait until the work has ended, at most this long; whether it did."""
        ...

    def renew(self) -> None:
        """Called in a forked child: the threads that used it exist in the parent only."""


_endings: weakref.WeakSet[Ending] = weakref.WeakSet()
_afterwards: list[Callable[[], object]] = []
_locks: weakref.WeakSet[Any] = weakref.WeakSet()

L = TypeVar("L")


def wait_at_exit(ending: Ending) -> None:
    """End it when the interpreter exits, if it still exists by then; at once if that has begun."""
    _endings.add(ending)
    if _has_begun:
        ending.hurry()


def call_afterwards(call: Callable[[], object]) -> None:
    """Call this at exit, once native work has ended or got all the time it gets."""
    _afterwards.append(call)


def has_begun() -> bool:
    """Whether the interpreter is exiting."""
    return _has_begun


def end_daemon_thread() -> None:
    """End this thread if it is a daemon and the interpreter is exiting.

    Called before an error that would say "closed": it was closed by the exit, and nobody waits
    for the answer.
    """
    if _has_begun and threading.current_thread().daemon:
        raise SystemExit


class Users:
    """Counts the threads inside native calls of one kind, so that an exit can wait for them."""

    def __init__(self) -> None:
        self._closed = False
        self._n = 0
        self._state = usable_in_forks(threading.Condition())
        wait_at_exit(self)

    def enter(self) -> bool:
        """Count one more thread; False if no more may enter."""
        with self._state:
            if self._closed or _has_begun:
                return False
            self._n += 1
        return True

    def enter_too(self) -> None:
        """Count one more on behalf of a thread that is inside already; always possible."""
        with self._state:
            self._n += 1

    def leave(self) -> None:
        """Count one less."""
        with self._state:
            self._n -= 1
            self._state.notify_all()

    def hurry(self) -> None:
        with self._state:
            self._closed = True

    def ended_within(self, seconds: float | None) -> bool:
        with self._state:
            return self._state.wait_for(lambda: self._n == 0, seconds)

    def renew(self) -> None:
        self._n = 0


class NativeMemory(Users):
    """Memory of llama.cpp that any number of threads use; freed once, when none does any more.

    Attributes:
        pointer: where it is; None once it was freed.
    """

    def __init__(self, pointer: Any, free: Callable[[Any], object]) -> None:
        super().__init__()
        self.pointer = pointer
        self._free = free

    def ended_within(self, seconds: float | None) -> bool:
        if not super().ended_within(seconds):
            return False
        with self._state:
            pointer, self.pointer = self.pointer, None
        if pointer is not None:
            self._free(pointer)
        return True

    def close(self) -> None:
        """Refuse new users, wait for those there are, and free it. Closing twice is fine."""
        self.hurry()
        self.ended_within(None)


@atexit.register
def _end_native_work() -> None:
    global _has_begun
    _has_begun = True
    endings, end = list(_endings), monotonic() + PATIENCE
    all_ended = False
    try:
        for ending in endings:
            ending.hurry()
        ended = [ending.ended_within(max(0.0, end - monotonic())) for ending in endings]
        all_ended = all(ended)
    finally:  # a second Ctrl-C, too
        if not all_ended:
            _skip_static_destructors()
        for call in _afterwards:
            call()


def _skip_static_destructors() -> None:
    """Let the process exit before C++'s static destructors run: a thread still uses their objects.

    `on_exit` runs `_exit(code)` before every exit handler that was registered earlier. glibc has
    it; macOS and Windows do not, and there such a thread may crash the exit.
    """
    with suppress(AttributeError, OSError):  # not every C library has it
        c_function("on_exit")(c_function("_exit"), None)


def usable_in_forks(lock: L) -> L:
    """Unlock a Lock, RLock or Condition in forked children: a parent's thread may hold it there."""
    _locks.add(lock)
    return lock


def _reset_in_fork() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # as Python's own modules do with theirs
    endings = list(_endings)
    _endings.clear()  # a fork leaves its parent's memory alone
    for ending in endings:
        ending.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_in_fork)

"""The end of the interpreter, which may find threads in the middle of native calls.

Python then ends daemon threads wherever they next ask for it, also below llama.cpp's own functions,
and the C library takes down what those stand on. So what is native ends before: whoever is at work
is asked to stop and has a moment for that; memory that nobody uses any more is freed, and what is
still in use is left as it is, for the operating system to take.

A daemon thread that would begin something new by then ends, in silence, as Python ends it
everywhere else.
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
    """Something native that must be over before the interpreter is."""

    def hurry(self) -> None:
        """Stop what is at work and begin nothing new; returns at once."""

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end; whether that came."""
        ...

    def renew(self) -> None:
        """This is a fork: the threads that used it are the parent's."""


_endings: weakref.WeakSet[Ending] = weakref.WeakSet()
_locks: weakref.WeakSet[Any] = weakref.WeakSet()

L = TypeVar("L")


def wait_at_exit(ending: Ending) -> None:
    """Have the interpreter's end wait for it, if it lives until then; or end it, if that is now."""
    _endings.add(ending)
    if _has_begun:
        ending.hurry()


def has_begun() -> bool:
    """Whether the interpreter is ending."""
    return _has_begun


def end_daemon_thread() -> None:
    """End this thread if it is a daemon of an interpreter that is ending.

    What it asks for is closed then, but not by anybody's fault, and nobody waits for its answer.
    """
    if _has_begun and threading.current_thread().daemon:
        raise SystemExit


class Users:
    """The threads that are inside native calls of one kind, counted so that an end can wait."""

    def __init__(self) -> None:
        self._closed = False
        self._n = 0
        self._state = usable_in_forks(threading.Condition())
        wait_at_exit(self)

    def enter(self) -> bool:
        """Count one more; False, and none more, after the end."""
        with self._state:
            if self._closed or _has_begun:
                return False
            self._n += 1
        return True

    def enter_too(self) -> None:
        """Count one more, for something that another one inside began; also after the end."""
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
    """Memory of llama.cpp that any number of threads may use; freed once, when none does.

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
def _leave() -> None:
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
            _keep_what_native_code_stands_on()


def _keep_what_native_code_stands_on() -> None:
    """Have the process end without C++'s static destructors: a thread still uses those objects.

    `on_exit` calls `_exit` with the exit code, before what was registered before it.
    """
    with suppress(AttributeError, OSError):  # not every C library has it
        c_function("on_exit")(c_function("_exit"), None)


def usable_in_forks(lock: L) -> L:
    """Have a Lock, RLock or Condition be free in a fork, whose parent's threads may hold it."""
    _locks.add(lock)
    return lock


def _renew() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # as Python's own modules do with theirs
    endings = list(_endings)
    _endings.clear()  # a fork leaves its parent's memory alone
    for ending in endings:
        ending.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)

"""What owns native memory: it has an end, and says so.

A handle may own the thread that makes every call on its memory. What it shares with others, such
as a model's weights, is freed only when the last of them has ended.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

from mullama_lab.engine.leaving import end_daemon_thread
from mullama_lab.engine.native.context import StopFlag
from mullama_lab.engine.worker import Plan, Worker
from mullama_lab.errors import ClosedError, SessionError

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

H = TypeVar("H", bound="Handle")


class Handle(ABC):
    """Owns native memory until `close`, or until its `with` block ends."""

    @abstractmethod
    def close(self) -> None:
        """Free what it owns. Closing twice is fine."""

    def __enter__(self: H) -> H:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        kind = type(self).__name__
        raise TypeError(
            f"a {kind} owns native memory, so it cannot be copied or pickled. "
            f"Use this one in both places (threads may share it), or open another {kind}."
        )


class Freeable(Protocol):
    """A context of llama.cpp; only the thread that works with it may free it."""

    def close(self) -> None: ...


class ContextOwner(Handle):
    """Owns a context of a model, and the worker thread that makes every call on it."""

    model: Model
    _worker: Worker
    _close: weakref.finalize

    def _own(
        self,
        context: Freeable,
        stop: StopFlag,
        plan: Plan | None = None,
        *,
        what: str,
        opened_by: str,
        caller: str,
    ) -> None:
        """Start the thread; the words are those of `Worker`."""
        free = _freeing(context, self.model)
        try:
            self._worker = Worker(
                f"mullama_lab {what} {id(self):x}",
                stop,
                at_end=free,
                plan=plan,
                what=what,
                opened_by=opened_by,
                caller=caller,
            )
        except BaseException:  # the system may have no more threads
            free()
            raise
        self._close = weakref.finalize(self, self._worker.close)
        self._close.atexit = False  # the worker's end is waited for there, but not for ever
        self.model._handles[self] = None

    def stop(self) -> None:
        """Stop whatever is at work, from any thread."""
        self._worker.interrupt()

    @property
    def closed(self) -> bool:
        """Whether it, or its model, was closed, or its thread failed."""
        return not self._close.alive or self._worker.is_closed

    def close(self) -> None:
        """Stop what is at work and free the context. Closing twice is fine."""
        if self._worker.is_this_thread:
            what, caller = self._worker.what, self._worker.caller
            raise SessionError(
                f"{caller} cannot close the {what} that is running it. "
                f"Call {what}.stop() there, and close it afterwards."
            )
        self._close()

    def must_be_open(self) -> None:
        """Refuse what was closed.

        Raises:
            ClosedError: it, or its model, was closed.
        """
        if self.closed:
            end_daemon_thread()
            raise ClosedError(self._worker.closed_text)


def _freeing(context: Freeable, model: Model) -> Callable[[], None]:
    """What frees the context; until then it uses and keeps the model, which is freed later."""
    memory = model._memory
    memory.enter_too()  # it is being opened, which is a use

    def end() -> None:
        nonlocal model
        context.close()
        memory.leave()
        del model

    return end

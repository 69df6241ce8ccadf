"""A model of llama.cpp in memory: what uses it, and when it may be freed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mullama_lab.engine.leaving import NativeMemory, end_daemon_thread
from mullama_lab.engine.native import model as native
from mullama_lab.errors import ClosedError


class ModelMemory(NativeMemory):
    """The native model; any number of threads may use it until it is closed.

    Args:
        handle: what llama.cpp loaded.
        name: of the model, in messages.
    """

    def __init__(self, handle: Any, name: str) -> None:
        super().__init__(handle, native.free_model)
        self.name = name
        self._handle, self._vocabulary = handle, native.get_vocabulary(handle)

    @property
    def closed(self) -> bool:
        """Whether new users are refused."""
        return self._closed

    @property
    def handle(self) -> Any:
        """The native model, for whoever keeps it from being freed meanwhile."""
        self.must_be_open()
        return self._handle

    @property
    def vocabulary(self) -> Any:
        """The native vocabulary, for whoever keeps it from being freed meanwhile."""
        self.must_be_open()
        return self._vocabulary

    def must_be_open(self) -> None:
        """Refuse what was closed; ClosedError."""
        if self.closed:
            end_daemon_thread()
            raise ClosedError(f"the model {self.name} is closed. Load it again with Model.load.")

    @contextmanager
    def in_use(self) -> Iterator[Any]:
        """The native vocabulary, and nothing of the model is freed before the block ends."""
        if not self.enter():
            self.hurry()  # the interpreter is exiting, if it was not closed
        self.must_be_open()
        try:
            yield self._vocabulary
        finally:
            self.leave()

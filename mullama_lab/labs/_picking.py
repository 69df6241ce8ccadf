"""The picker of a bench: in its place while no model is open, over it when another is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from mullama_lab.engine.session import Session
from mullama_lab.widgets import ModelPicker
from mullama_lab.widgets._kept import CLOSED, Shelf, weakly
from mullama_lab.widgets._loading import Opened
from mullama_lab.widgets._offers import Before


class Picking:
    """Shows a picker on a lab's shelf, and takes it away when something was picked.

    Args:
        shelf: the lab, which a cell shows.
        bench: lies on the shelf once something is open.
        take: a method that puts what was picked to work; what it raises is said in the picker.
    """

    def __init__(self, shelf: Shelf, bench: Shelf, take: Callable[[Opened], object]) -> None:
        self._shelf, self._bench, self._take = shelf, bench, weakly(take)
        self._lock = threading.RLock()
        self._picker: ModelPicker | None = None  # made when it is first needed

    @property
    def picker(self) -> ModelPicker:
        """The picker, shown or not."""
        with self._lock:
            if self._picker is None:
                self._picker = ModelPicker()
                self._picker.on_load(weakly(self._picked))
                self._picker.on_leave(weakly(self.show_bench))
            return self._picker

    def show(
        self, at_work: Session | None = None, n_runs: int = 0, before: Sequence[Before] = ()
    ) -> None:
        """Have a person pick: in place of the bench, or over one that works on a session.

        Args:
            n_runs: of the model that is at work.
            before: models that were at work on the bench, with runs.
        """
        with self._lock:
            picker = self.picker
            picker.at_work, picker.n_runs, picker.before = at_work, n_runs, before
            picker.refresh()
            if at_work is not None:
                picker.choose(at_work)
            is_over = self._bench in self._shelf.children
            self.picker.may_leave = is_over
            self._shelf.children = [*([self._bench] if is_over else []), self.picker]

    def show_bench(self) -> None:
        """Show the bench alone."""
        with self._lock:
            if self._shelf.children != (self._bench,):
                self._shelf.children = [self._bench]

    def close(self, why: str = CLOSED) -> None:
        """Stop what is on its way."""
        with self._lock:
            if self._picker is not None:
                self._picker.close(why)

    def _picked(self, opened: Opened) -> None:
        self._take(opened)
        self.show_bench()

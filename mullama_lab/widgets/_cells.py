"""The cells of a notebook: which run of which one this is, and what their newest runs made.

A notebook clears a cell's output before it runs the cell again, so what an earlier run of it
made or showed is seen nowhere any more, while IPython's output history still holds it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_UNDERSCORES = ("_", "__", "___")


@dataclass(frozen=True)
class CellRun:
    """One run of one cell.

    Attributes:
        cell: the notebook's id of it; where a front end sends none, its source.
        run: another text for each run.
    """

    cell: str
    run: str


OUTSIDE = CellRun("", "")  # in a kernel, but in no cell: a button's callback, for instance


def current_run() -> CellRun | None:
    """The run of a cell that the kernel is at; None where there is no kernel."""
    kernel = getattr(_shell(), "kernel", None)
    if kernel is None:
        return None
    try:
        request = kernel.get_parent()
        header, content = request["header"], request["content"]
        if header["msg_type"] != "execute_request":
            return OUTSIDE
        cell = request.get("metadata", {}).get("cellId") or content["code"]
        return CellRun(str(cell), str(header["msg_id"]))
    except (AttributeError, KeyError, TypeError):  # another kernel than ipykernel
        return OUTSIDE


class NewestRuns(Generic[T]):
    """Things by the cell they come from, those of its newest run only.

    What comes from no cell stays until it is discarded.
    """

    def __init__(self) -> None:
        self._cells: dict[str, tuple[str, list[T]]] = {}

    def add(self, here: CellRun, thing: T) -> list[T]:
        """Note a thing; gives those of the cell's earlier runs, which are forgotten."""
        run, things = self._cells.get(here.cell, (here.run, []))
        same = run == here.run
        kept = things if same else []
        if thing not in kept:
            self._cells[here.cell] = (here.run, [*kept, thing])
        return [] if same else things

    def discard(self, is_meant: Callable[[T], bool]) -> None:
        """Forget some things, wherever they come from."""
        for cell, (run, things) in list(self._cells.items()):
            left = [thing for thing in things if not is_meant(thing)]
            if left:
                self._cells[cell] = (run, left)
            else:
                self._cells.pop(cell, None)

    def __iter__(self) -> Iterator[T]:
        return iter([thing for _, things in list(self._cells.values()) for thing in things])


def forget_outputs(things: list[Any]) -> None:
    """Take things out of `Out`, `_`, `__`, `___` and `_7`, as IPython's `del_var` does.

    Names that a person gave stay.
    """
    shell = _shell()
    if shell is None or not things:
        return
    meant = {id(thing) for thing in things}
    with suppress(AttributeError, KeyError, TypeError):  # no output history in this shell
        names, history = shell.user_ns, shell.user_ns["_oh"]
        for number in [n for n, value in history.items() if id(value) in meant]:
            del history[number]
            for namespace in (names, shell.user_ns_hidden):  # what %who leaves out
                namespace.pop(f"_{number}", None)
        hook, last = shell.displayhook, shell.last_execution_result
        for name in _UNDERSCORES:
            if id(names.get(name)) in meant:
                names[name] = ""  # as in a new session
            if id(getattr(hook, name, None)) in meant:
                setattr(hook, name, "")
        if last is not None and id(last.result) in meant:
            shell.last_execution_result = None


def _shell() -> Any:
    """The running IPython, which is asked for only where it was imported already."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()

"""Save and Open on the screen: a lab in a file of the working folder, by its name.

Nothing is lost by one press: a file that another lab wrote, and runs that are in no file, are
replaced only when that was said and the button is pressed again.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Protocol

from mullama_lab.counted import counted
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import ClosedError
from mullama_lab.files.path import in_full
from mullama_lab.widgets import RunPanel
from mullama_lab.widgets.panel_bar import FileReply

SUFFIX = ".lab"
MOST_NAMES = 100


class Bench(Protocol):
    """What is saved and opened: a Workbench."""

    panel: RunPanel

    def save(self, path: str | Path) -> Path: ...
    def open_file(self, path: str | Path) -> None: ...


class LabFiles:
    """Answers what a panel bar asks of files; it does not keep its bench alive."""

    def __init__(self, bench: Bench) -> None:
        self._bench = weakref.ref(bench)
        self._path: Path | None = None  # of the file that the bench was saved to or opened from
        self._kept: list[Trace] = []  # the runs in it

    def names(self) -> list[str]:
        """The files of labs in the working folder."""
        return sorted(path.name for path in Path.cwd().glob(f"*{SUFFIX}"))[:MOST_NAMES]

    def save(self, name: str, is_sure: bool) -> FileReply:
        """Save the bench under a name; asks where that is another file that is there."""
        bench, path = self._must_be_there(), _path_of(name)
        if path.exists() and path != self._path and not is_sure:
            return {"said": f"{path.name} is there. Press Save again to replace it.", "asks": True}
        runs = _traces(bench)
        bench.save(path)
        self._path, self._kept = path, runs
        return {"said": f"Saved {counted(len(runs), 'run')} to {path.name}.", "asks": False}

    def open(self, name: str, is_sure: bool) -> FileReply:
        """Have the bench go on where a file left off; asks where runs of it are in no file."""
        bench, path = self._must_be_there(), _path_of(name)
        unsaved = [one for one in _traces(bench) if not any(one is kept for kept in self._kept)]
        if unsaved and path.exists() and not is_sure:
            runs = counted(len(unsaved), "run")
            said = f"{runs} here would be gone: save first, or press Open again to go on without."
            return {"said": said, "asks": True}
        bench.open_file(path)
        self._path, self._kept = path, _traces(bench)
        return {"said": f"Opened {path.name}: {counted(len(self._kept), 'run')}.", "asks": False}

    def _must_be_there(self) -> Bench:
        bench = self._bench()
        if bench is None:
            raise ClosedError("the lab is gone. Make another one.")
        return bench


def _path_of(name: str) -> Path:
    """The file that is meant, in the working folder.

    Raises:
        ValueError: it is no name of a file there.
    """
    name = name.strip()
    if not name.strip(".") or any(sign in name for sign in "/\\:\0"):
        raise ValueError(
            f"{name!r} names no file of the working folder. Give a name alone, such as "
            f"stories{SUFFIX}; lab.save(path) takes any path."
        )
    return in_full(name if Path(name).suffix else name + SUFFIX)


def _traces(bench: Bench) -> list[Trace]:
    return [run.trace for run in bench.panel.runs]

"""Save and Open on the screen: a lab in a file of the working folder, by its name.

Nothing is lost by one press: a file that is not as this lab left it, and work that is in no file,
are replaced only when that was said and the button is pressed again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mullama_lab.counted import counted
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.errors import ClosedError, SessionFileError
from mullama_lab.files.path import in_full
from mullama_lab.files.stamp import FileStamp
from mullama_lab.labs._filed_work import FiledWork, Marks
from mullama_lab.labs._saved_work import Work
from mullama_lab.widgets import ExploreBar, RunPanel
from mullama_lab.widgets.panel_bar import FileReply
from mullama_lab.widgets.run_panel import BUSY

SUFFIX = ".lab"
MOST_NAMES = 100


class SavedBench(Protocol):
    """What is saved and opened: a Workbench."""

    panel: RunPanel
    bar: ExploreBar

    @property
    def session(self) -> Session: ...
    def save(self, path: str | Path) -> Path: ...
    def open_file(self, path: str | Path) -> None: ...


class LabFiles:
    """Answers what a panel bar asks of files; it does not keep its bench alive.

    Args:
        work: gives what there is to save.
    """

    def __init__(self, bench: SavedBench, work: Callable[[], Work]) -> None:
        self._bench = weakref.ref(bench)
        self._work = work
        self._filed: dict[str, FiledWork] = {}  # by the id of the model that it is of

    def note(self, model: Model, filed: FiledWork) -> None:
        """The work on a model was saved or opened, by whomever."""
        self._filed[model.id] = filed

    def names(self) -> list[str]:
        """The files of labs in the working folder."""
        return sorted(path.name for path in _folder().glob(f"*{SUFFIX}"))[:MOST_NAMES]

    def save(self, name: str, is_sure: bool) -> FileReply:
        """Save the bench under a name; asks where a file is there that is not as it left it."""
        bench, path = self._must_be_there(), _path_of(name)
        stranger = _stranger(path, self._filed_by(bench))
        if stranger and not is_sure:
            return {"said": f"{stranger} Press Save again to replace it.", "asks": True}
        is_busy = bench.panel.state in BUSY or bench.bar.state in BUSY
        but = " What is under way is not in it." if is_busy else ""
        n_runs = self._n_runs
        bench.save(path)
        return {"said": f"Saved {n_runs} to {path.name}.{but}", "asks": False}

    def open(self, name: str, is_sure: bool) -> FileReply:
        """Have the bench go on where a file left off; asks where work here is in no file."""
        bench, path = self._must_be_there(), _path_of(name)
        filed = self._filed_by(bench)
        gone = (Marks() if filed is None else filed.marks).lacks(self._work())
        if gone and path.exists() and not is_sure:
            said = f"{gone} here would be gone: save first, or press Open again to go on without."
            return {"said": said, "asks": True}
        bench.open_file(path)
        return {"said": f"Opened {path.name}: {self._n_runs}.", "asks": False}

    def _filed_by(self, bench: SavedBench) -> FiledWork | None:
        return self._filed.get(bench.session.model.id)

    @property
    def _n_runs(self) -> str:
        return counted(len(self._work().runs), "run")

    def _must_be_there(self) -> SavedBench:
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
    return in_full(_folder() / (name if name.endswith(SUFFIX) else name + SUFFIX))


def _folder() -> Path:
    """The working folder.

    Raises:
        SessionFileError: it was deleted.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise SessionFileError(
            "the working folder was deleted. Go to another one with os.chdir(path)."
        ) from None


def _stranger(path: Path, filed: FiledWork | None) -> str:
    """What is at a path, in a sentence, if it is not the work that was filed; else ""."""
    try:
        now = FileStamp.of(path)
    except OSError:
        return ""  # nothing is there, or saving says what is wrong with it
    if filed is None or filed.path != path:
        return f"{path.name} is there."
    is_other = now != filed.stamp
    return f"{path.name} was written to since it was saved or opened here." if is_other else ""

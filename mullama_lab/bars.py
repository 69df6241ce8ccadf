"""tqdm's bar as text, in a notebook too, and nothing of it when it is closed.

tqdm's own bar for notebooks is a widget: a saved notebook shows "model not found" in its place.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
from typing import Any

from tqdm import tqdm


class TextBar(tqdm):
    """A tqdm that writes on stderr, or below a notebook's cell."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        ipython = sys.modules.get("IPython")
        shell = None if ipython is None else ipython.get_ipython()
        is_notebook = getattr(shell, "kernel", None) is not None
        own = {"file": _Output(shell)} if is_notebook else {}
        super().__init__(*args, **{"leave": False, **own, **settings})


# tqdm's own lock is shared with forks: one that is killed as it draws would stop every bar here.
_lock: Any = threading.RLock()
TextBar.set_lock(_lock)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # a thread here may hold it then


class _Output:
    """One output of a cell, whose text each line that is written takes the place of."""

    encoding = "utf-8"

    def __init__(self, shell: Any) -> None:
        self._publish = shell.display_pub.publish
        self._id = uuid.uuid4().hex
        self._text = ""
        self._is_there = False

    def write(self, text: str) -> None:
        if not text.startswith("\r") or (line := text.strip()) == self._text:
            return  # it moves to the line of another bar, or brings nothing new
        self._text = line
        place = {"display_id": self._id}
        self._publish({"text/plain": line}, transient=place, update=self._is_there)
        self._is_there = True

    def flush(self) -> None:
        """Nothing waits."""

"""The work that is in a file: which file that is, how it looked then, and what is not in it.

A trace is known by a weak reference: what a lab lists no more is kept by nobody here.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mullama_lab.counted import counted
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.files.stamp import FileStamp
from mullama_lab.labs._saved_work import Work


class Marks:
    """What some work is known again by: its traces, and the names of its branches."""

    def __init__(self, work: Work | None = None) -> None:
        trees = [] if work is None else work.trees
        runs = [] if work is None else [run.trace for run in work.runs]
        self._traces = {id(trace): weakref.ref(trace) for trace in (*runs, *_paths(trees))}
        self._names = _names(trees)

    def lacks(self, work: Work) -> str:
        """What of the work that there is now is not in this, such as "2 runs and 3 paths"."""
        runs = self._unknown([run.trace for run in work.runs])
        paths = self._unknown(_paths(work.trees)).keys() - runs.keys()
        said = [counted(len(runs), "run")] if runs else []
        said += [counted(len(paths), "path")] if paths else []
        was, now = self._names.items(), _names(work.trees).items()
        if was - now or any(name for _, name in now - was):  # a path is pruned, or has a new name
            said.append("changes of the tree")
        return " and ".join(filter(None, [", ".join(said[:-1]), *said[-1:]]))

    def _unknown(self, traces: Sequence[Trace]) -> dict[int, Trace]:
        known = {key: one() for key, one in self._traces.items()}
        return {id(trace): trace for trace in traces if known.get(id(trace)) is not trace}


@dataclass(frozen=True, eq=False)
class FiledWork:
    """The file that some work was written to, or read from."""

    path: Path
    stamp: FileStamp
    marks: Marks


def _paths(trees: Sequence[Tree]) -> list[Trace]:
    return [branch.trace for tree in trees for branch in tree]


def _names(trees: Sequence[Tree]) -> dict[tuple[bytes, int], str]:
    """What each branch is called, by the tokens of its prompt and its number."""
    return {
        (tree.prompt_tokens.tobytes(), branch.number): branch.name
        for tree in trees
        for branch in tree
    }

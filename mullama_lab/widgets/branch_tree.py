"""BranchTree: the branches from one prompt, with the probability of each path.

It shows a Tree and changes it: names, pruning, undo, redo. It decodes nothing; a run that
makes a branch is shown while it goes on, and whoever began it adds its trace when it ends.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.counted import counted
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import n_shared
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.nodes import Branch, Node
from mullama_lab.widgets import _front_end, _tree_rows
from mullama_lab.widgets._compare import Compared, Comparison, Cost, compare, numbers_to_compare
from mullama_lab.widgets._followed_runs import FollowedRuns
from mullama_lab.widgets._kept import CLOSED, weakly
from mullama_lab.widgets._view import Undo, View, must_be_function, short_text, whole_number

__all__ = ["BranchTree"]
__dir__ = __all__.copy  # what tab completion offers

MOST_GROWING = 40  # bytes of the text of a branch in the making
_OF_ONE = re.compile(r"branch (\d+) (added|pruned|renamed|went on)")


class BranchTree(View):
    """Branches from one prompt as a tree of segments.

    A drawn path keeps its column; what turns off it stands above its next segment, set in by one
    and the likeliest first, with the end of the text that both share. `step` is that of the
    segment's first token, as in `trace[step]`. `Enter` or a click on a segment selects the path
    that ends with it: `on_select` callbacks get `(node, trace)`. New paths scroll into view and
    are marked for a moment. A click on the heading of a figure sorts siblings by it, the largest
    first, then the smallest, then as before; the last of them goes on in the column.

    >>> view = BranchTree()
    >>> view
    BranchTree(0 branches)

    Args:
        tree: the Tree to show; `view.tree = other` shows another one.
        title: a line above it.
    """

    _esm = _front_end.module("branch_tree")
    _css = _front_end.style("branch_tree")

    revision = traitlets.Int(0, help="Counts the changes of what is shown.").tag(sync=True)
    n = traitlets.Int(0, help="Branches there are.").tag(sync=True)
    selected = traitlets.Unicode("", help="Key of the node whose path is selected.").tag(sync=True)
    to_undo = traitlets.Unicode("", help="The change that undo takes back.").tag(sync=True)
    to_redo = traitlets.Unicode("", help="The change that redo makes again.").tag(sync=True)
    compared = traitlets.List(traitlets.Int(), help="Branches side by side.").tag(sync=True)
    growing = traitlets.List(
        traitlets.Dict(), help="Branches in the making: where they turn off, and their text so far."
    ).tag(sync=True)
    title = traitlets.Unicode("", help="A line above the tree.").tag(sync=True)
    sorted_by = traitlets.Enum(
        ("", *_tree_rows.FIGURES), "", help="The column by which siblings stand; empty for none."
    ).tag(sync=True)
    ascending = traitlets.Bool(False, help="Whether the least of them is first.").tag(sync=True)

    def __init__(self, tree: Tree | None = None, *, title: str = "") -> None:
        self._tree = Tree()
        self._trees_shown = 0  # tells a new path from the path of another tree
        self._unwatch: Undo = lambda: None
        self._followed = FollowedRuns(self._show_growing)
        self._lock = threading.RLock()
        self._call: Callable[[Trace], str] = lambda trace: ""
        self._cost_of: Callable[[Trace], Cost | None] = lambda trace: None
        self._called: dict[int, str] = {}  # branches that have no name, also pruned ones
        super().__init__(title=title)
        self.tree = self._tree if tree is None else tree

    # From Python

    @property
    def tree(self) -> Tree:
        """The Tree that is shown."""
        return self._tree

    @tree.setter
    def tree(self, tree: Tree) -> None:
        if not isinstance(tree, Tree):
            raise TypeError(f"tree is a {type(tree).__name__}; give a Tree, which may be empty")
        self._unwatch()
        self._tree = tree
        self._trees_shown += 1
        self._called = {}
        self._unwatch = tree.on_change(weakly(self._changed))
        self.selected = ""
        self._changed()

    def on_select(self, callback: Callable[[Node, Trace], Any]) -> Undo:
        """Call `callback(node, trace)` when a path is selected; returns what undoes it."""
        return self._listen("select", callback)

    def call_with(self, called: Callable[[Trace], str]) -> None:
        """Have branches without a name be called what `called(trace)` says, such as "run 5".

        "" leaves it at "branch 4", after the number in the tree. `call_anew` asks it again.
        """
        self._call = called
        self.call_anew()

    def call_anew(self) -> None:
        """Show branches that have no name by what they are called by now."""
        with self.hold_sync():
            self._say_changes()
            self._redraw()

    def costs_with(self, cost_of: Callable[[Trace], Cost | None]) -> None:
        """Ask `cost_of(trace)` what the grammars of a path that is compared cost; None for none.

        It is called on any thread.
        """
        must_be_function("costs_with", cost_of)
        self._cost_of = cost_of

    def select(self, key: str) -> Trace:
        """Select the path that ends with a node; who said `on_select` is told."""
        node, trace = self._tree.node(key), self._tree.path(key)
        self.selected = node.key
        self._tell("select", node, trace)
        return trace

    def compare(self, *numbers: int) -> Comparison:
        """Two to four branches by number, side by side: where they part and the KL there.

        The view shows them too.
        """
        found = self._comparison(numbers)
        self.compared = [side.number for side in found.sides]
        return found

    def sort(self, by: str = "", *, ascending: bool = False) -> None:
        """Let siblings stand by a figure, the largest first; what is parent and child stays.

        Args:
            by: "first" (the chance of a segment's first token), "share" (per token), "path",
                "after" (of the path, before and after the chain), "n" (tokens), or "" for the
                tree's own order: what turns off a path, the likeliest first, then what goes on.
            ascending: the smallest first.
        """
        with self.hold_sync():
            self.sorted_by, self.ascending = by, ascending
            self._redraw()

    def follow(self, run: Run) -> None:
        """Show a branch in the making until its run ends."""
        self._followed.follow(run)
        self._show_growing(run)

    def settle(self) -> None:
        """Wait until the runs that are followed have ended; for code, not for callbacks."""
        self._followed.settle()

    def to_code(self) -> str:
        """Python that shows a tree in the same order, once `tree` is there."""
        title = f", title={self.title!r}" if self.title else ""
        made = f"BranchTree(tree{title})"
        if self.sorted_by:
            ascending = ", ascending=True" if self.ascending else ""
            made = f"view = {made}\nview.sort({self.sorted_by!r}{ascending})\nview"
        return f"from mullama_lab.widgets import BranchTree\n\n{made}"

    def close(self, why: str = CLOSED) -> None:
        self._unwatch()
        self._unwatch = lambda: None
        self._followed.close()
        super().close(why)

    def __repr__(self) -> str:
        n = len(self._tree)
        return f"BranchTree({counted(n, 'branch', 'branches')})"

    # What happens

    def _changed(self) -> None:
        tree = self._tree
        known = {node.key for node in tree.nodes}
        numbers = {branch.number for branch in tree}
        with self.hold_sync():
            self.n = len(tree)
            self._say_changes()
            self.compared = [number for number in self.compared if number in numbers]
            if self.selected not in known:
                self.selected = ""
            self._redraw()

    def _redraw(self) -> None:
        with self._lock:
            self.revision += 1

    def _say_changes(self) -> None:
        self._called |= {branch.number: self._unnamed(branch) for branch in self._tree}
        self.to_undo, self.to_redo = map(self._in_words, (self._tree.to_undo, self._tree.to_redo))

    def _in_words(self, change: str) -> str:
        """A change of the tree, with the branch as it is called here."""
        found = _OF_ONE.fullmatch(change)
        if found is None:
            return change
        number = int(found[1])
        return f"{self._called.get(number, f'branch {number}')} {found[2]}"

    def _unnamed(self, branch: Branch) -> str:
        """What a branch is called where it has no name."""
        return self._call(branch.trace) or replace(branch, name="").label

    def _show_growing(self, _: Run) -> None:
        with self._lock:
            self.growing = [_growing(self._tree, run) for run in self._followed.in_flight]

    def _comparison(self, numbers: Sequence[int]) -> Comparison:
        branches = [self._tree.branch(number) for number in dict.fromkeys(numbers)]
        return compare(
            [
                Compared(b.number, b.name or self._unnamed(b), b.trace, cost=self._cost_of(b.trace))
                for b in branches
            ]
        )

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        tree = self._tree
        if op == "rows":
            revision = self.revision
            shown = _tree_rows.rows(tree, self._unnamed, self.sorted_by, self.ascending)
            return {**shown, "revision": revision, "tree": self._trees_shown}
        if op == "sort":
            self._request_sort(short_text(args, "by"))
            return {}
        if op == "text":
            return _tree_rows.whole_text(tree, short_text(args, "key"))
        if op == "select":
            self.select(short_text(args, "key"))
            return {}
        if op == "rename":
            number = whole_number(args, "number", low=1, high=2**31 - 1)
            tree.rename(number, args.get("name", ""))
            return {}
        if op == "prune":
            return {"pruned": [branch.number for branch in tree.prune(short_text(args, "key"))]}
        if op == "undo":
            return {"change": self._in_words(tree.undo())}
        if op == "redo":
            return {"change": self._in_words(tree.redo())}
        if op == "compare":
            numbers = numbers_to_compare(args, "branches")
            if len(numbers) < 2:
                self.compared = numbers
                return {}
            return self.compare(*numbers).to_dict()
        return super()._on_request(op, args)

    def _request_sort(self, by: str) -> None:
        """The largest first, then the smallest, then the tree's own order again."""
        if by != self.sorted_by:
            self.sort(by)
        elif self.ascending:
            self.sort()
        else:
            self.sort(by, ascending=True)

    # Without a browser

    def _plain_text(self) -> str:
        text = repr(self._tree)
        if len(self._tree):
            text += f"\n[{_tree_rows.summary(self._tree)}]"
        return f"{self.title}\n{text}" if self.title else text

    def _static_html(self) -> Element:
        return _tree_rows.static(self._tree, self._unnamed, self.title)


def _growing(tree: Tree, run: Run) -> dict[str, Any]:
    """Where a run's path leaves the tree, and the text it has since."""
    trace = run.trace
    shared = max((n_shared(trace.tokens, branch.trace.tokens) for branch in tree), default=0)
    text = b"".join(trace.pieces[shared : len(trace)])
    return {
        "from": shared,
        "state": run.state,
        "tokens": len(trace),
        "text": text[-MOST_GROWING:].hex(),
        "cut": len(text) > MOST_GROWING,
    }

"""The panel of the tree: each generation is a path, and an exploration finds more of them.

Generations of one prompt make one tree; another prompt begins another one, and the former comes
back with its prompt.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeAlias

import numpy as np

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.options import whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.nodes import ROOT, Branch, Node
from mullama_lab.engine.vocabulary.one_token import one_token
from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.errors import GrammarBroken, MullamaError
from mullama_lab.labs._desk import Desk
from mullama_lab.labs._explorer import Explorer
from mullama_lab.labs._panel import Panel
from mullama_lab.labs._room import Room, to_prune
from mullama_lab.labs._trees import Trees, ending_of
from mullama_lab.widgets import BranchTree, ExploreBar
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets._runs import acting
from mullama_lab.widgets._view import Undo

log = logging.getLogger(__name__)

TOP = 64  # alternatives recorded on explored paths
MOST_PROMPT = 60  # characters of the prompt's end in the bar


_Turn: TypeAlias = tuple[tuple[int, ...], int]  # the tokens before, and the one that is given


def _turn(trace: Trace, step: int, token: int) -> _Turn:
    return tuple(trace.history(step).tolist()), token


class TreePanel(Panel):
    """Puts what was generated into trees, and shows the one of the prompt.

    Args:
        tree: one to begin with, such as a loaded one; its prompt is taken over.

    Attributes:
        running: generations whose traces are in no tree yet.
        asked: the prompt's tokens, as they were seen last.
        is_typed: whether that prompt was typed since, and so comes before what is selected.
        explorer: finds the likeliest paths; None where no session is at work.
    """

    key, title = "tree", "Tree"

    def __init__(self, desk: Desk, tree: Tree | None = None) -> None:
        self.desk, self.strip = desk, desk.strip
        self.bar, self.view = ExploreBar(), BranchTree(tree)
        self.views = (self.bar, self.view)
        self.explorer: Explorer | None = None
        self.running: dict[Run, None] = {}
        self._first_tree = tree
        self._session: Session | None = None
        self._ended = threading.Condition(threading.RLock())
        self._branching = threading.Lock()
        self._asked: dict[Run, _Turn] = {}  # branches on their way
        self._trees = Trees(lambda: self.view.tree)
        self._unwatch: Undo = lambda: None
        self.asked: list[int] = []
        self.is_typed = False
        self._explored_first: Tree | None = None  # shown for an exploration, with no path yet
        self._parents: dict[_Turn, Trace] = {}  # what each branch goes off
        self.view.on_select(weakly(self._selected))
        self.view.call_with(weakly(self.desk.panel.called))
        self.view.costs_with(weakly(self.desk.panel.cost_of))
        self.strip.choosing = "branch here"
        self.strip.goes_off_with(weakly(self._parent_of))
        self.strip.on_back(weakly(self._back))

    @property
    def tree(self) -> Tree:
        """The one that is shown."""
        return self.view.tree

    def begin(self, session: Session) -> None:
        tree, self._first_tree = self._first_tree, None
        self._session = session
        self.explorer = Explorer(session, self.bar, weakly(self._origin))
        self.say_chain()
        if tree is not None and len(tree):
            self._trees.keep(tree)
            self.desk.panel.prompt = tree.prompt
            self._show(tree)
            last = tree.branches[-1]
            self._select_end(last)
            self.strip.trace = last.trace
        else:
            self._show(self.tree)

    def end(self) -> None:
        self.close()
        self.explorer = self._session = None
        self.bar.clear()
        self.asked, self.is_typed, self._explored_first = [], False, None
        self._parents.clear()
        self.view.tree = Tree()
        self._trees = Trees(lambda: self.view.tree)

    @property
    def trees(self) -> Trees:
        """Those of all prompts; setting them shows the one of the prompt that there is now.

        Where that prompt has none yet it is that of the text above, or an empty one.
        """
        return self._trees

    @trees.setter
    def trees(self, trees: Trees) -> None:
        with self._ended:
            self._trees, self.asked, self._explored_first = trees, [], None
            self._parents.clear()
            self.running.clear()  # what they add to is gone
            self._ended.notify_all()
        shown = self.strip.trace
        tree = None if shown is None else trees.known(shown.prompt_tokens.tolist())
        self._show(Tree() if tree is None else tree)
        self.request_changed()

    def trees_of(self, trees: Iterable[Tree]) -> Trees:
        """Some trees, each of another prompt, as `trees` may be set to."""
        made = Trees(lambda: self.view.tree)
        for tree in trees:
            made.keep(tree)
        return made

    def close(self) -> None:
        if self.explorer is not None:
            self.explorer.close()
        with self._ended:
            self._unwatch()
            self._unwatch = lambda: None
            self.running.clear()
            self._ended.notify_all()

    def follow(self, run: Run) -> None:
        """A generation began, whoever began it: show it, and the tree it will join."""
        with self._ended:
            if self._session is None:
                return
            self.running[run] = None
            self.is_typed = False
            tree = self._trees.of(run.trace)
            if tree is not self.tree:
                self._show(tree)
            self.view.follow(run)
        self._something_happened()
        arrived = weakly(self._arrived)
        run.when_done(lambda: arrived(run))

    def request_changed(self) -> None:
        """Another prompt shows its own tree, if there is one, and is what Explore goes on from."""
        try:
            tokens = self.desk.prompt_tokens()
        except (MullamaError, ValueError):
            return  # Run says what is wrong with it
        with self._ended:
            if tokens == self.asked:
                return  # it was the seed
            self.asked = tokens
            tree = self._trees.known(tokens)
            if tree is not None and tree is not self.tree:
                self._show(tree)
            self.is_typed = tokens != self.tree.prompt_tokens.tolist()
        self._something_happened()

    def chain_changed(self, before: Chain, after: Chain) -> None:
        """Runs on their way go on with it, and so will those that begin."""
        with self._ended:
            running = tuple(self.running)
        for run in running:
            if not run.done:
                with suppress(GrammarBroken):  # it goes on as it was: its text is another
                    run.chain = after
        self.say_chain()

    def say_chain(self) -> None:
        """Say in the bar what draws."""
        session = self.desk.at_work
        spell = None if session is None else session.model.piece
        self.bar.note = f"Runs and branches are drawn by: {acting(self.desk.chain, spell)}."

    def start_branch(self, parent: Trace, step: int, token: int | str, seed: int | None) -> Run:
        """Begin a branch off a trace and return its Run at once.

        Raises:
            ValueError: no such step or token, or that path is there or on its way already.
        """
        step, model = whole("step", step, 0, len(parent) - 1), self.desk.session.model
        token = one_token(model, token)
        is_own, is_last = token == parent.tokens[step], step == len(parent) - 1
        if is_own and is_last and model.is_eog(token):
            raise ValueError("the text has come to its end there. Choose another token.")
        if is_own and not is_last:
            raise ValueError(
                f"step {step} has that token already. Choose another one there, or the last "
                "token of the text to go on from its end."
            )
        key = _turn(parent, step, token)
        if seed is None:
            seed = self.desk.panel.seed if parent.seed is None else parent.seed
        with self._branching:
            if key in self._asked.values():
                raise ValueError("that branch is on its way already.")
            self._parents[key] = parent
            run = self.desk.start_branch(parent, step, token, seed)
            self._asked[run] = key
        forget = weakly(self._branch_ended)
        run.when_done(lambda: forget(run))
        return run

    def prune_to_fit(self) -> tuple[Branch, ...]:
        """Prune unnamed branches, the least likely per token first, until the tree fits."""
        key = self.view.selected
        selected = self.tree.node(key).ends if key else ()
        return self.tree.prune(to_prune(self.tree, self.desk.session.n_ctx, selected))

    def say_origin(self) -> None:
        """Say in the bar where an exploration would go on."""
        node = self._node_to_go_on_from()
        panel, session = self.desk.panel, self._session
        prompt = "" if panel.chat else panel.prompt
        if node is not None and node.key == ROOT and session is not None:
            prompt = session.model.detokenize(self.tree.prompt_tokens.tolist())
        with self.bar.hold_sync():
            self.bar.origin = "" if node is None or node.key == ROOT else ending_of(node)
            self.bar.prompt = ("…" if len(prompt) > MOST_PROMPT else "") + prompt[-MOST_PROMPT:]

    def stop(self) -> None:
        """End the exploration; what was found stays."""
        if self.explorer is not None:
            self.explorer.stop()

    def settle(self, run: Run | None = None) -> None:
        """Wait until a run, or (None) all that was asked for, is in a tree and shown."""
        with self._ended:
            while self.running if run is None else run in self.running:
                self._ended.wait(WAIT_STEP)
        if run is None:
            if self.explorer is not None:
                self.explorer.settle()
            self.view.settle()

    # Inside.

    def _selected(self, node: Node, trace: Trace) -> None:
        """A person selected a segment, which so comes before what was typed."""
        self.is_typed = False
        self._something_happened()

    def _something_happened(self) -> None:
        """What an exploration found is no news any more; say where the next one would go on."""
        explorer = self.explorer
        if explorer is not None:
            explorer.forget()
            self.say_origin()

    def _node_to_go_on_from(self) -> Node | None:
        """The segment that is selected, or None for the prompt that is asked for."""
        key = self.view.selected
        if self.is_typed or not key:
            return None
        return next((node for node in self.tree.nodes if node.key == key), None)

    def _parent_of(self, trace: Trace, step: int) -> Trace | None:
        """The text that a trace was made to go off at a step, if that was done here."""
        return self._parents.get(_turn(trace, step, int(trace.tokens[step])))

    def _back(self, trace: Trace) -> None:
        """Show a text again; the branches off it stay in the tree."""
        tree = self._trees.of(trace)
        if tree is not self.tree:
            self._show(tree)
        for node in tree.nodes:
            path = () if node.trace is None else node.trace.tokens[: node.stop]
            if np.array_equal(path, trace.tokens):
                self.view.select(node.key)
                return
        raise ValueError("that text is not in the tree: it still grows, or was pruned.")

    def _branch_ended(self, run: Run) -> None:
        self._asked.pop(run, None)

    def _arrived(self, run: Run) -> None:
        """A run has ended (on the session's worker): its path joins the tree."""
        trace = run.trace
        with self._ended:
            try:
                has_path = len(trace) > trace.n_copied or (run.started and len(trace))
                if run in self.running and has_path:
                    branch = self._trees.of(trace).add(trace)
                    if self.strip.trace is trace:
                        self._select_end(branch)
            except Exception:
                log.exception("a path could not join the tree")
            finally:
                self.running.pop(run, None)
                self._ended.notify_all()

    def _show(self, tree: Tree) -> None:
        with self._ended:
            self.view.tree = tree
            self._unwatch()
            self._unwatch = tree.on_change(weakly(self._tree_changed))
            self.is_typed = False
        self._tree_changed()

    def _tree_changed(self) -> None:
        session = self._session
        if session is None:
            return
        self.bar.room = [Room(self.tree).n, session.n_ctx]
        shown = self.strip.trace
        branch = None if shown is None else self.tree.find(shown)
        if branch is not None:  # what it ends with is another segment if a path turned off it
            self._select_end(branch)
        if len(self.tree) and self._explored_first is self.tree:
            self._explored_first = None
            is_typed = self.is_typed
            self.view.select(ROOT)
            self.is_typed = is_typed
        self._something_happened()

    def _select_end(self, branch: Branch) -> None:
        """Mark the segment that a branch ends with, if it is shown."""
        for node in self.tree.nodes:
            if branch.number in node.ends:
                self.view.selected = node.key

    def _origin(self) -> tuple[Trace, Tree]:
        """Where an exploration goes on, and the tree it is for."""
        node = self._node_to_go_on_from()
        if node is not None and node.key != ROOT:
            path = self.tree.path(node.key)
            if self.desk.session.model.is_eog(int(path.tokens[-1])):
                raise ValueError(
                    "the selected path has come to its end, so nothing follows. "
                    "Select a segment before it, or the prompt."
                )
            return path, self.tree
        is_of_tree = node is not None and len(self.tree) > 0
        tokens = self.tree.prompt_tokens.tolist() if is_of_tree else self.desk.prompt_tokens()
        start = self.desk.session.empty_trace(tokens, top=TOP)
        tree = self._trees.of(start)
        shown = self.strip.trace
        if shown is None or shown.prompt_tokens.tolist() != tokens:
            self._explored_first = tree  # the text above is that of another prompt
        if tree is not self.tree:
            self._show(tree)
        return start, tree

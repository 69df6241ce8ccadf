"""BranchLab: go off from any token of a generation, and see the paths as a tree.

The lab joins a run panel, a token strip, an explore bar and a branch tree with one Session. Each
generation from the prompt becomes a path of the tree when it ends; choosing an alternative in
the strip begins another one. The session does one at a time, in the order they were asked for;
exploring goes on between them.

Callbacks of the views arrive on any thread. They set values, queue work and return.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import instance, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.chain_sampler import check
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.nodes import ROOT, Branch
from mullama_lab.engine.vocabulary.one_token import one_token
from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief
from mullama_lab.labs import _branch_code
from mullama_lab.labs._bench import Bench
from mullama_lab.labs._explorer import Explorer
from mullama_lab.labs._lab import CLOSED, must_be_text
from mullama_lab.labs._room import Room, to_prune
from mullama_lab.labs._trees import Trees, ending_of
from mullama_lab.studies.explore import Exploration
from mullama_lab.widgets import BranchTree, ExploreBar, RunPanel, TokenStrip
from mullama_lab.widgets._compare import Comparison
from mullama_lab.widgets._kept import Shelf, weakly
from mullama_lab.widgets._runs import acting
from mullama_lab.widgets._view import Undo

log = logging.getLogger(__name__)

TOP = 64  # alternatives recorded on explored paths


class BranchLab(Bench):
    """A bench for branches: prompt, streaming text, a tree of paths, exploration.

        lab = BranchLab(model, prompt="The capital of France is")
        trace = lab.run()
        lab.branch(0, " a")                # what if it had said that?
        lab.explore(budget=64)             # the likeliest paths, best first
        lab.compare(1, 2)

    Every generation of the lab's session from the same prompt joins the tree, also one that a
    cell starts, but not the many of `generate_many` and `branch_many`. Another prompt begins
    another tree; the former comes back with its prompt.

    Args:
        model: a Model (the lab opens a session of its own) or a Session to share.
        prompt, seed, max_tokens: what a run starts from; max_tokens is that of a branch, too.
        chain: for runs and branches; None is llama.cpp's default chain.
        tree: a Tree to begin with, such as a loaded one; its prompt is taken over.

    Attributes:
        session: the Session at work.
        panel, strip, bar, branches: the four views.
    """

    def __init__(
        self,
        model: Model | Session,
        prompt: str = "Once upon a time",
        *,
        chain: Chain | Stage | None = None,
        seed: int = 0,
        max_tokens: int = 64,
        tree: Tree | None = None,
    ) -> None:
        if tree is not None and not isinstance(tree, Tree):
            raise TypeError(f"tree={brief(tree)}: give a Tree.")
        self.panel = RunPanel(prompt, seed=seed, max_tokens=max_tokens, listed=False)
        self.strip = TokenStrip()
        self.bar = ExploreBar()
        self.branches = BranchTree(tree)
        views = (self.panel, self.strip, self.bar, self.branches)
        super().__init__(model, views, _laid_out(*views))
        self._lock = threading.RLock()
        self._ended = threading.Condition()
        self._running: dict[Run, None] = {}  # until their traces are in a tree
        self._asked: dict[Run, tuple[tuple[int, ...], int]] = {}  # branches on their way
        self._trees = Trees(lambda: self.tree)
        self._explorer = Explorer(self.session, self.bar, self._origin)
        self._unwatch: Undo = lambda: None
        self._chain = Chain()
        self.chain = Chain.of(chain)
        self._watch_session(self._follow)
        self._undo += [
            self.panel.on_run(lambda _: self.start()),
            self.panel.on_stop(lambda _: self._stop_all()),
            self.strip.on_choose(self._chosen),
            self.branches.on_select(lambda node, trace: self._show(trace)),
            self.bar.on_explore(lambda _: self.start_explore()),
            self.bar.on_stop(lambda _: self.stop_exploring()),
            self.bar.on_trim(lambda _: self.prune_to_fit()),
        ]
        self._observe(self.branches, lambda _: self._say_origin(), "selected")
        self._observe(self.panel, lambda _: self._prompt_changed(), "prompt")
        self._begin_with(tree)

    # Driving it: what the browser does, from Python.

    @property
    def chain(self) -> Chain:
        """The chain of runs and branches. Setting it also changes those that are on their way."""
        return self._chain

    @chain.setter
    def chain(self, chain: Chain | Stage) -> None:
        chain = Chain.of(chain)
        check(chain, self.session.model)
        self._chain = chain
        for run in tuple(self._running):
            run.chain = chain
        self.bar.note = f"Runs and branches are drawn by: {acting(chain)}."

    @property
    def tree(self) -> Tree:
        """The Tree that is shown."""
        return self.branches.tree

    @property
    def exploration(self) -> Exploration | None:
        """The newest exploration."""
        return self._explorer.exploration

    def set(self, **settings: Any) -> None:
        """Change settings: prompt, seed, max_tokens, chain; budget and length of an exploration.

        Raises:
            ValueError, TypeError: what is wrong with the value; nothing changes then.
        """
        panel, bar = (self.panel,), (self.bar,)
        known = {
            "prompt": panel, "seed": panel, "max_tokens": panel, "chain": (self,),
            "budget": bar, "length": bar,
        }  # fmt: skip
        self._set(settings, known)

    def start_branch(
        self, step: int, token: int | str, *, trace: Trace | None = None, seed: int | None = None
    ) -> Run:
        """Begin a branch and return its Run at once; see `branch`."""
        self._must_be_open()
        parent = self.trace if trace is None else instance("trace", trace, Trace)
        if parent is None or not len(parent):
            raise ValueError("no text is shown to branch off: run the prompt first.")
        step = whole("step", step, 0, len(parent) - 1)
        token = one_token(self.session.model, token)
        is_own, is_last = token == parent.tokens[step], step == len(parent) - 1
        if is_own and is_last and self.session.model.is_eog(token):
            raise ValueError("the text has come to its end there. Choose another token.")
        if is_own and not is_last:
            raise ValueError(
                f"step {step} has that token already. Choose another one there, or the last "
                "token of the text to go on from its end."
            )
        key = (tuple(parent.history(step).tolist()), token)
        with self._lock:
            if key in self._asked.values():
                raise ValueError("that branch is on its way already.")
            if seed is None:
                seed = self.panel.seed if parent.seed is None else parent.seed
            run = self.session.start_branch(
                parent, step, token, self.chain, max_tokens=self.panel.max_tokens, seed=seed
            )
            self._asked[run] = key
        forget = weakly(self._forget)
        run.when_done(lambda: forget(run))
        return run

    def branch(
        self, step: int, token: int | str, *, trace: Trace | None = None, seed: int | None = None
    ) -> Trace:
        """Go on from another token than the one at a step, to the end, and give the trace.

        While another run or branch is at work it waits for that. The very token of the last
        step goes on from the end of the text.

        Args:
            step: where, in the trace that is shown.
            token: an id, or a text that is exactly one token.
            trace: another trace to branch off.
            seed: None is that of the trace.

        Raises:
            ValueError: nothing is shown, no such step or token, or the token is there already.
        """
        return self._seen_through(self.start_branch(step, token, trace=trace, seed=seed))

    def start_explore(self, budget: int | None = None, length: int | None = None) -> Exploration:
        """Begin to explore and return at once; see `explore`."""
        self._must_be_open()
        return self._explorer.start(budget, length)

    def explore(self, budget: int | None = None, length: int | None = None) -> Exploration:
        """Find the likeliest paths after the selected segment, or after the prompt.

        They join the tree as one change. Ctrl-C or Stop ends it, and what was found stays.

        Args:
            budget: prefixes to go on from; None is what the bar says.
            length: the most tokens of a path; None is what the bar says.

        Raises:
            ValueError: one is going on, or a number is out of range.
            ContextFull: the paths might become longer than the context.
        """
        return self._explorer.see_through(self.start_explore(budget, length))

    def stop_exploring(self) -> None:
        """End the exploration; what was found stays."""
        self._explorer.stop()

    def select(self, key: str) -> Trace:
        """Show the path that ends with a node of the tree."""
        return self.branches.select(key)

    def compare(self, *numbers: int) -> Comparison:
        """Two to four branches side by side: where they part and the KL there."""
        return self.branches.compare(*numbers)

    def prune_to_fit(self) -> tuple[Branch, ...]:
        """Prune unnamed branches, the least likely per token first, until the tree fits.

        One change of the tree; what is selected stays. Returns what was pruned.

        Raises:
            ValueError: every branch is named or selected.
        """
        tree = self.tree
        return tree.prune(to_prune(tree, self.session.n_ctx, self._selected_numbers()))

    def wait(self) -> None:
        """Wait until all that was asked for is in the tree and shown."""
        with self._ended:
            while self._running:
                self._ended.wait(WAIT_STEP)
        self._explorer.settle()
        self.strip.settle()
        self.panel.settle()
        self.branches.settle()

    def to_code(self) -> str:
        """Python that makes the tree again without a browser."""
        return _branch_code.code(self.tree, self.session, self.panel, self.chain)

    def close(self, why: str = CLOSED) -> None:
        must_be_text("why", why)
        self._explorer.close()
        self._unwatch()
        self._unwatch = lambda: None
        super().close(why)

    # What happens

    def _begin_with(self, tree: Tree | None) -> None:
        if tree is not None and len(tree):
            self._trees.keep(tree)
            self.panel.prompt = tree.prompt
            self._watch(tree)
            last = tree.branches[-1]
            self._select_end(last)
            self._show(last.trace)
        else:
            self._show_tree(self.tree)

    def _chosen(self, step: int, token: int) -> None:
        self.start_branch(step, token)

    def _forget(self, run: Run) -> None:
        self._asked.pop(run, None)

    def _follow(self, run: Run) -> None:
        """A generation began, whoever began it."""
        with self._ended:
            self._running[run] = None
        tree = self._trees.of(run.trace)
        if tree is not self.tree:
            self._show_tree(tree)
        self.strip.follow(run)
        self.panel.follow(run)
        self.branches.follow(run)
        arrived = weakly(self._arrived)
        run.when_done(lambda: arrived(run))

    def _arrived(self, run: Run) -> None:
        """A run has ended (on the session's worker): its path joins the tree."""
        trace = run.trace
        try:
            if len(trace) > trace.n_copied or (run.started and len(trace)):
                branch = self._trees.of(trace).add(trace)
                if self.strip.trace is trace:
                    self._select_end(branch)
        except Exception:
            log.exception("a path could not join the tree")
        finally:
            with self._ended:
                self._running.pop(run, None)
                self._ended.notify_all()

    def _prompt_changed(self) -> None:
        """Another prompt shows its own tree, if there is one."""
        try:
            tokens = self.session.prompt_tokens(self.panel.prompt)
        except (MullamaError, ValueError):
            return  # Run says what is wrong with it
        tree = self._trees.known(tokens)
        if tree is not None and tree is not self.tree:
            self._show_tree(tree)

    def _show_tree(self, tree: Tree) -> None:
        self.branches.tree = tree
        self._watch(tree)

    def _watch(self, tree: Tree) -> None:
        self._unwatch()
        self._unwatch = tree.on_change(weakly(self._tree_changed))
        self._tree_changed()

    def _tree_changed(self) -> None:
        self.bar.room = [Room(self.tree).n, self.session.n_ctx]
        shown = self.strip.trace
        branch = None if shown is None else self.tree.find(shown)
        if branch is not None:  # what it ends with is another segment if a path turned off it
            self._select_end(branch)
        self._say_origin()

    def _show(self, trace: Trace) -> None:
        self.strip.trace = trace

    def _select_end(self, branch: Branch) -> None:
        """Mark the segment that a branch ends with, if it is shown."""
        for node in self.tree.nodes:
            if branch.number in node.ends:
                self.branches.selected = node.key

    def _selected_numbers(self) -> tuple[int, ...]:
        """The branches that end where the selection does."""
        key = self.branches.selected
        return self.tree.node(key).ends if key else ()

    def _origin(self) -> tuple[Any, Tree]:
        """Where an exploration goes on, and the tree it is for."""
        key = self.branches.selected
        if key not in ("", ROOT):
            path = self.tree.path(key)
            if self.session.model.is_eog(int(path.tokens[-1])):
                raise ValueError(
                    "the selected path has come to its end, so nothing follows. "
                    "Select a segment before it, or the prompt."
                )
            return path, self.tree
        start = self.session.empty_trace(self.panel.prompt, top=TOP)
        tree = self._trees.of(start)
        if tree is not self.tree:
            self._show_tree(tree)
        return start, tree

    def _say_origin(self) -> None:
        key = self.branches.selected
        nodes = [node for node in self.tree.nodes if node.key == key != ROOT]
        self.bar.origin = ending_of(nodes[0]) if nodes else ""

    def _stop_all(self) -> None:
        self.stop_exploring()
        for run in tuple(self._running):
            run.stop()
        self.session.stop()

    def _seen_through(self, run: Run) -> Trace:
        trace = super()._seen_through(run)
        with self._ended:
            while run in self._running:
                self._ended.wait(WAIT_STEP)
        return trace

    def __repr__(self) -> str:
        n = len(self.tree)
        branches = "1 branch" if n == 1 else f"{n} branches"
        return f"BranchLab({self.session.model.name}, {branches}, {self.panel!r})"


def _laid_out(panel: RunPanel, strip: TokenStrip, bar: ExploreBar, branches: BranchTree) -> Shelf:
    """The views one below the other: `.mll-lab-stack` of run_panel.css."""
    return Shelf([Shelf([panel, strip, bar, branches], "mll-lab-stack")], "mll-lab")

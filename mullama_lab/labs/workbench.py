"""The workbench: one session, one chain and one history, and panels that show and turn them.

The run bar and the text are always there. Below them a person arranges panels: the samplers and
the distribution they make, the tree of what was generated, what other settings would have made of
the run, the grammar that it keeps to, and the adapters that act on the model. The other labs around
a session are arrangements of it.

Callbacks of the views arrive on any thread. They set values, queue work and return.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from traitlets import TraitError

from mullama_lab.engine.loop.news import call_logged
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import flag, instance, listed, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.chain_sampler import check
from mullama_lab.engine.stages.preview import Preview
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.nodes import Branch, Node
from mullama_lab.errors import MullamaError, SessionError, SessionFileError
from mullama_lab.files.path import in_full
from mullama_lab.files.stamp import FileStamp
from mullama_lab.glyphs import brief
from mullama_lab.labs._adapters_panel import AdaptersPanel
from mullama_lab.labs._bench_panel import BenchPanel
from mullama_lab.labs._costs import Costs
from mullama_lab.labs._desk import Desk, carried_over, must_be_there
from mullama_lab.labs._effects import Effects
from mullama_lab.labs._explorer import Explorer
from mullama_lab.labs._filed_work import FiledWork, Marks
from mullama_lab.labs._grammar_panel import GrammarPanel
from mullama_lab.labs._lab import Lab, set_together
from mullama_lab.labs._lab_files import LabFiles
from mullama_lab.labs._memory_panel import MemoryPanel
from mullama_lab.labs._panel import Panel
from mullama_lab.labs._picking import Picking
from mullama_lab.labs._put_by import PutAway
from mullama_lab.labs._samplers_panel import SamplersPanel
from mullama_lab.labs._saved_work import SETTINGS, Work, of_a_stranger, put_in_force, read, write
from mullama_lab.labs._time_panel import TimePanel
from mullama_lab.labs._tree_panel import TreePanel
from mullama_lab.labs._trees import Trees
from mullama_lab.labs._what_if_panel import WhatIfPanel
from mullama_lab.studies.bench import BenchResult
from mullama_lab.studies.explore import Exploration
from mullama_lab.studies.fate import fate
from mullama_lab.studies.monitor import Monitor
from mullama_lab.widgets import (
    ChainEditor,
    PanelBar,
    RunPanel,
    TokenStrip,
)
from mullama_lab.widgets._compare import Comparison
from mullama_lab.widgets._history import History
from mullama_lab.widgets._kept import Shelf, weakly
from mullama_lab.widgets._loading import Opened
from mullama_lab.widgets._offers import known_as
from mullama_lab.widgets._runs import PastRun
from mullama_lab.widgets._session_code import session_code
from mullama_lab.widgets._view import View
from mullama_lab.widgets.panel_bar import panel_keys
from mullama_lab.widgets.run_panel import BUSY

__all__ = ["Workbench"]
__dir__ = __all__.copy  # what tab completion offers

B = TypeVar("B", bound="Workbench")


class Workbench(Lab):
    """A bench for one session: what runs, what decides the next token, and what came of it.

        bench = Workbench(model, prompt="Once upon a time")  # without a model: choose one there
        bench.set("Temperature", t=1.2)
        trace = bench.run()
        bench.branch(0, " a")                    # what if it had said that?
        bench.save("stories.lab")                # for Workbench.reopen("stories.lab", model)
        bench.set(panels=["samplers", "tree"])   # beside each other

    Every generation of the bench's session shows in it, also one that a cell starts with
    `bench.session.generate(...)`, but not the many of `generate_many` and `branch_many`; Stop
    ends whatever the session is doing. Generations of the prompt are paths of one tree; another
    prompt begins another tree, and the former comes back with its prompt.

    Args:
        model: a Model (the bench opens a session of its own) or a Session to share; None shows a
            picker of models and sessions in the bench's place. `load` does what the picker does.
        prompt: a text to go on from; or the messages of a chat, to be answered.
        seed, max_tokens, stop_strings: which draws, and where a run ends.
        chain: for runs and branches; None is llama.cpp's default chain.
        tree: a Tree to begin with, such as a loaded one; its prompt is taken over.
        panels: those that are shown, from left to right: "samplers", "tree", "what-if", "grammar",
            "adapters", "time", "memory", "bench".

    Attributes:
        panel, strip: prompt and Run; the text as tokens.
        editor, next_token: the chain, and the distribution it makes.
        bar, branches: exploration, and the tree.
        what_if: what other settings would have chosen.
        grammar_bench: a grammar, and a text put to it.
        adapter_cards, dial, blend_pad: LoRA adapters and control vectors, and how strongly they
            act; what the one that is chosen does to the next token, and what two do together.
        trainer: pairs of texts, typed one a line, and the control vector that is learnt from them.
        meters, time_strip: what a monitor reads while a run goes on; what each token cost.
        memory_map, plan_board: what holds how many bytes; what other settings would take.
        bench_board: tokens a second by test and threads, measured when it is asked to.
    """

    PANELS: ClassVar[Sequence[str]] = ("samplers",)  # shown at first
    _of_its_picture = f"{Lab._of_its_picture} lab.save(path) keeps runs."

    def __init__(
        self,
        model: Model | Session | None = None,
        prompt: str | Sequence[Mapping[str, str]] = "Once upon a time",
        *,
        chain: Chain | Stage | None = None,
        seed: int = 0,
        max_tokens: int = 128,
        stop_strings: str | Sequence[str] = (),
        tree: Tree | None = None,
        panels: Sequence[str] | None = None,
    ) -> None:
        if model is not None and not isinstance(model, (Model, Session)):
            raise TypeError(
                f"{type(self).__name__} takes a Model or a Session, not {brief(model)}. "
                "Load one first: Model.load(...)."
            )
        if tree is not None and not isinstance(tree, Tree):
            raise TypeError(f"tree={brief(tree)}: give a Tree.")
        text = prompt if isinstance(prompt, str) else ""
        self.panel = RunPanel(text, seed=seed, max_tokens=max_tokens, stop_strings=stop_strings)
        if not isinstance(prompt, str):
            turns = listed("prompt", prompt, "messages, or a text")
            set_together([(self.panel, "messages", turns), (self.panel, "chat", True)])
        self.strip, self.editor = TokenStrip(), ChainEditor(chain)
        self._desk = Desk(self.panel, self.strip, self.editor)
        self._costs, self._effects = Costs(self._desk), Effects(self._desk)
        self._samplers = SamplersPanel(self._desk)
        self._tree = TreePanel(self._desk, tree)
        self._what_if = WhatIfPanel(self._desk)
        self._grammar = GrammarPanel(self._desk)
        self._adapters = AdaptersPanel(self._desk, weakly(self._weights_changed))
        self._time, self._memory = TimePanel(self._desk), MemoryPanel(self._desk)
        self._speed = BenchPanel(self._desk)
        self._panels: tuple[Panel, ...] = (
            self._samplers, self._tree, self._what_if, self._grammar,
            self._adapters, self._time, self._memory, self._speed,
        )  # fmt: skip
        titles = {panel.key: panel.title for panel in self._panels}
        self._arrangement = PanelBar(titles, self.PANELS if panels is None else panels)
        self.next_token, self.what_if = self._samplers.view, self._what_if.view
        self.bar, self.branches = self._tree.bar, self._tree.view
        self.grammar_bench = self._grammar.view
        self.adapter_cards, self.dial = self._adapters.cards, self._adapters.dial
        self.trainer = self._adapters.trainer
        self.blend_pad = self._adapters.pad
        self.meters, self.time_strip = self._time.meters, self._time.view
        self.memory_map, self.plan_board = self._memory.view, self._memory.board
        self.bench_board = self._speed.board
        self._bench = self._laid_out()
        super().__init__([], "mll-lab")
        self._lock = threading.RLock()
        self._seen: dict[bool, Trace | None] = {}  # what was shown last of a text, and of a chat
        self._picking = Picking(self, self._bench, self._work_on)
        self._put_away = PutAway()
        self._undo += [
            lambda: self._bench.close(self._closed),
            self._let_go,
            lambda: self._picking.close(self._closed),
        ]
        self._listen()
        self._arranged()
        if model is None:
            self._picking.show()
        else:
            is_own = isinstance(model, Model)
            self._work_on(Opened(model.session() if is_own else model, is_own))
            self._picking.show_bench()

    def _listen(self) -> None:
        self.editor.must_fit_with(weakly(self._must_fit))
        self._lab_files = LabFiles(self, weakly(self._work))
        self._arrangement.files_with(self._lab_files)
        self.strip.explain_with(self._explain_step)
        self.strip.marks_with(lambda token: not self.session.model.piece(token, special=False))
        self._undo += [
            self._arrangement.on_pick(self._pick),
            self.panel.on_run(lambda _: self.start()),
            self.panel.on_stop(lambda _: self._stop_all()),
            self.panel.on_select(lambda past: self._show(past.trace)),
            self.panel.on_restore(self._restored),
            self.next_token.on_bias(self.editor.bias),
            self.strip.on_bias(self.editor.bias),
            self.strip.on_pick(self._picked),
            self.strip.on_choose(self._chosen),
            self.next_token.on_back(lambda: self._turn_to(None, 0)),
            self.dial.on_back(lambda: self._turn_to(None, 0)),
            self.branches.on_select(self._show_path),
            self.bar.on_explore(lambda _: self.start_explore()),
            self.bar.on_stop(lambda _: self.stop_exploring()),
            self.bar.on_trim(lambda _: self.prune_to_fit()),
        ]
        asked = ("seed", "prompt", "chat", "messages")
        self._observe(self.editor, lambda change: self._chain_changed(change["old"]), "chain")
        self._observe(self.panel, lambda _: self._request_changed(), *asked)
        self._observe(self.panel, lambda _: self._kind_changed(), "chat")
        self._observe(self.strip, lambda _: self._costs.find(), "state")
        self._observe(self.strip, lambda _: self._grammar.look_back(), "state")
        self._observe(self.strip, lambda _: self._effects.find(), "state", "layer")
        self._observe(self.branches, lambda _: self._tree.say_origin(), "selected")
        self._observe(self.panel, lambda _: self.branches.call_anew(), "history")
        self._observe(self._arrangement, lambda _: self._arranged(), "shown")

    # Driving it: what the browser does, from Python.

    @property
    def session(self) -> Session:
        """The session at work; closing the bench closes it, if the bench opened it.

        Raises:
            SessionError: no model is open yet.
        """
        return self._desk.session

    def load(
        self,
        source: str | Path | Model | Session,
        *,
        n_ctx: int | None = None,
        n_gpu_layers: int = 0,
    ) -> Session:
        """Work on a model or a session from now on, as if it was picked; returns when it is open.

            bench = Workbench()
            bench.load("smollm2-135m", n_ctx=2048)

        Prompt, chain, seed and panels stay as they are, but for stages of the chain that name
        tokens of another vocabulary. Runs and trees stay with their model: they are put by, and
        come back once it is at work again. What the bench opened before is closed. While it loads,
        the bench goes on as it is, and an error leaves it so.

        Args: as `ModelPicker.load`.
        Raises: as `Model.load` and `model.session`; ClosedError if the bench was closed.
        """
        self._must_be_open()
        return self._picking.picker.load(source, n_ctx=n_ctx, n_gpu_layers=n_gpu_layers)

    @property
    def chain(self) -> Chain:
        """The chain in force. Setting it also changes runs in flight, from the next token on."""
        return self.editor.chain

    @chain.setter
    def chain(self, chain: Chain | Stage) -> None:
        self.editor.chain = Chain.of(chain)

    @property
    def adapters(self) -> Mapping[LoraAdapter, float]:
        """The adapters that act, with their scales; as `session.adapters`, and on cards.

            bench.adapters = {style: 0.8, terse: -0.3}

        What is set acts from the next token on, in a run in flight too. Cards of those that are
        not named are switched off.
        """
        return self.adapter_cards.adapters

    @adapters.setter
    def adapters(self, adapters: Mapping[LoraAdapter, float]) -> None:
        self.adapter_cards.adapters = adapters

    @property
    def control(self) -> ControlVector | None:
        """The control vector that acts, the sum of those on cards; as `session.control`."""
        return self.adapter_cards.control

    @control.setter
    def control(self, vector: ControlVector | None) -> None:
        self.adapter_cards.control = vector

    @property
    def panels(self) -> list[str]:
        """The keys of the panels that are shown, from left to right."""
        return list(self._arrangement.shown)

    @panels.setter
    def panels(self, keys: Sequence[str]) -> None:
        self._arrangement.shown = panel_keys(keys)

    @property
    def trace(self) -> Trace | None:
        """The trace that the strip shows."""
        return self.strip.trace

    @property
    def preview(self) -> Preview | None:
        """The Preview that is shown, None before the first."""
        return self._samplers.preview

    @property
    def monitor(self) -> Monitor | None:
        """The Monitor of the session, which reads while a run goes on and "time" is shown."""
        return self._time.monitor

    @property
    def bench_result(self) -> BenchResult | None:
        """What the bench board shows, also while more is measured; None before anything was."""
        return self._speed.result

    @property
    def tree(self) -> Tree:
        """The Tree that is shown."""
        return self.branches.tree

    @property
    def exploration(self) -> Exploration | None:
        """The newest exploration."""
        explorer = self._tree.explorer
        return None if explorer is None else explorer.exploration

    def set(self, stage: str | int | None = None, /, **settings: Any) -> None:
        """Change settings: `bench.set("TopK", k=20)` of a stage, `bench.set(seed=3)` of the bench.

        Args:
            stage: the name of a stage or its place in the chain; None for the bench's own
                settings: prompt, messages, chat (which of the two runs), seed, max_tokens,
                stop_strings, chain, panels, adapters, control; budget and length of an exploration.
        Raises:
            ValueError, TypeError: what is wrong with the value; nothing changes then.
        """
        if stage is not None:
            self.editor.set(stage, **settings)
            return
        panel, bar, own = (self.panel,), (self.bar,), (self,)
        known = {  # the chain is last, for cards that are off cannot be put back
            "max_tokens": panel, "seed": panel, "prompt": panel, "messages": panel,
            "chat": panel, "stop_strings": panel,
            "budget": bar, "length": bar, "panels": own, "chain": own, "adapters": own,
            "control": own,
        }  # fmt: skip
        hint = " Name the stage first to set one of a stage: lab.set('TopK', k=20)."
        self._set(settings, known, hint)

    def prompt_tokens(self) -> list[int]:
        """The token ids that a run starts from: of the prompt, or of the chat as it is laid out.

        Raises:
            ValueError: the model has no chat template, or it refuses the messages.
        """
        return self._desk.prompt_tokens()

    def start(self) -> Run:
        """Begin a run and return it at once; the answer to a chat becomes its last turn."""
        self._must_be_open()
        return self._desk.start()

    def run(self) -> Trace:
        """Run to the end and give the trace; Ctrl-C or the Stop button stops it."""
        return self._seen_through(self.start())

    def stop(self) -> None:
        """Stop whatever the session is doing; what was generated stays."""
        self.panel.stop()

    def constrain(self, on: bool = True) -> None:
        """Have runs keep to the grammar of the grammar bench, or no more, from the next token on.

        Raises:
            GrammarError: the model cannot carry it out.
            TypeError: on is neither True nor False.
        """
        self._grammar.use(flag("on", on))

    def start_branch(
        self, step: int, token: int | str, *, trace: Trace | None = None, seed: int | None = None
    ) -> Run:
        """Begin a branch and return its Run at once; see `branch`."""
        self._must_be_open()
        parent = self.trace if trace is None else instance("trace", trace, Trace)
        if parent is None or not len(parent):
            raise ValueError("no text is shown to branch off: run the prompt first.")
        return self._tree.start_branch(parent, step, token, seed)

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

    def look_at(self, step: int | None) -> None:
        """Show the distribution at a step of the trace, or (None) at the end of the prompt.

        Raises:
            ValueError: no text is shown, or it has no such step; -1 is the last.
            SessionError: no model is open yet.
        """
        must_be_there(self._desk.at_work)
        trace = self.trace
        if step is None:
            self._samplers.look_at(None, 0)
            return
        if trace is None or not len(trace):
            raise ValueError("no text is shown to look at: run the prompt first.")
        self._samplers.look_at(trace, whole("step", step, -len(trace), len(trace) - 1))

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

    def prune_to_fit(self) -> tuple[Branch, ...]:
        """Prune unnamed branches, the least likely per token first, until the tree fits.

        One change of the tree; what is selected stays. Returns what was pruned.

        Raises:
            ValueError: every branch is named or selected.
        """
        return self._tree.prune_to_fit()

    def compare(self, *numbers: int) -> Comparison:
        """Two to four runs of the history side by side: where they part and the KL there."""
        return self.panel.compare(*numbers)

    def wait(self) -> None:
        """Wait until all that was asked for is done and shown."""
        self._desk.settle()
        self._adapters.settle()  # what comes of it is shown by others
        for panel in self._panels:
            panel.settle()
        self.strip.settle()
        self.panel.settle()
        self._costs.settle()
        self._effects.settle()

    def save(self, path: str | Path) -> Path:
        """Write what was made of the model into one file, which `reopen` takes up again.

            lab.save("capitals.lab")
            lab = Workbench.reopen("capitals.lab", model)   # in another kernel

        That is: the runs that are listed, with their traces (the kept rows of logits stay out),
        and the trees of all prompts, with the names of branches; and prompt or chat, seed,
        max_tokens, stop strings, chain and panels, and the adapters (by their paths) and the
        control vector that are in force in its session: cards that are off are not in it, and
        several vectors come back as their sum on one card. What is still under way (a run, an
        adapter that is being read, a vector that is being learnt) is not waited for and not in it.
        A file of that name is replaced when the new one is complete on the disk. The cache is not
        in it: `session.save` writes that.

        Returns the path in full.

        Raises:
            SessionNotSaved: the disk is full, or the place cannot be written to.
            SessionError: no model is open yet.
            ValueError: a chain has a Custom stage, whose function is no value.
        """
        self._adapters.settle_weights()
        work, model = self._work(), self.session.model
        marks = Marks(work)  # before it is written: what comes meanwhile need not be in it
        stamp = write(path, work, model)
        path = in_full(path)
        self._lab_files.note(model, FiledWork(path, stamp, marks))
        return path

    @classmethod
    def reopen(cls: type[B], path: str | Path, model: Model | Session) -> B:
        """A bench that goes on where `save` left off: its runs, trees, settings and panels.

        Any of the labs of a session opens what another one saved.

        Args:
            path: a file that `save` wrote.
            model: the model it was saved with, or a session of that to share, which keeps what
                is in force in it.

        Raises:
            SessionFileError: there is no such file, or it was cut off or altered; or an adapter
                that was in force is gone.
            SessionMismatch: it was saved with another model.
        """
        if not isinstance(model, (Model, Session)):
            raise TypeError(f"model={brief(model)}: give the Model that it was saved with.")
        work, stamp = read(path, model.model if isinstance(model, Session) else model)
        bench = cls(model, chain=work.chain)
        try:
            bench._go_on_from(path, work, stamp)
        except SessionFileError:
            bench.close()
            raise
        return bench

    def open_file(self, path: str | Path) -> None:
        """Go on where `save` left off, in place of the runs, trees and settings that are here.

            bench.open_file("capitals.lab")

        The file is of the model at work. In a session that was given to the bench what is in
        force stays so. An error leaves all as it is.

        Raises:
            SessionError: no model is open yet, or something is under way.
            SessionFileError, SessionMismatch: as `reopen`.
            ClosedError: the bench was closed.
        """
        with self._lock:
            self._must_be_open()
            model = self.session.model
            if self.panel.state in BUSY or self.bar.state in BUSY:
                raise SessionError("a run or an exploration is under way. Stop it, or let it end.")
            self._go_on_from(path, *read(path, model))

    def to_code(self) -> str:
        """Python that makes the bench again as it is, but for what was run: `save` keeps that."""
        panel = self.panel
        prompt = panel.messages if panel.chat else panel.prompt
        given: dict[str, object] = {"seed": panel.seed, "max_tokens": panel.max_tokens}
        if panel.stop_strings:
            given["stop_strings"] = panel.stop_strings
        more = "".join(f", {name}={value!r}" for name, value in given.items())
        panels = [panel for panel in self._panels if panel.key in self.panels]
        turned = "".join(f"\n{code}" for panel in panels if (code := panel.code("bench")))
        return (
            "import mullama_lab as ml\n\n"
            f"{session_code(self.session)}\n"
            f"chain = {self.chain_code()}\n"
            f"bench = ml.Workbench(session, {prompt!r}, chain=chain{more}, "
            f"panels={self.panels!r}){turned}"
        )

    def chain_code(self) -> str:
        """The chain as Python that `import mullama_lab as ml` is enough for."""
        return self.editor.code

    # What happens

    def _work_on(self, opened: Opened) -> None:
        """Work on a session, in place of the one before."""
        with self._lock:
            self._must_be_open()
            before, session = self._desk.at_work, opened.session
            if before is session:
                return
            left_out = [] if before is None else self._leave(before.model, session.model)
            self._desk.begin(opened)
            self.editor.spell_with(session.model.piece)
            self.panel.begin_mark = session.model.bos if session.model.add_bos else None
            self._arrangement.model = known_as(session.model)
            for panel in self._panels:
                panel.begin(session)
            if self.trace is not None:  # of a tree that was given
                self.panel.show(self.trace)
            self._bring_back(session.model)
            self._desk.watch(self._follow)
            said = [self._put_away.remark()]
            if left_out:
                names = ", ".join(type(stage).__name__ for stage in left_out)
                said = [f"{names} went by tokens of another vocabulary, and was left out.", *said]
            self.panel.message = " ".join(filter(None, said))

    def _leave(self, before: Model, after: Model) -> list[Stage]:
        """End the work on the session before; what came of its model is put by.

        Returns the stages of the chain that do not fit it.
        """
        for panel in self._panels:
            panel.stop()
        opened = self._desk.leave()
        self._put_away.put(before, self.panel.exchange(History()), self._tree.trees)
        for panel in self._panels:
            panel.end()
        self._seen.clear()
        self.strip.trace = None
        chain, left_out = carried_over(self.chain, before, after)
        if left_out:
            self.editor.chain = chain
        if opened is not None:
            opened.close()
        return left_out

    def _bring_back(self, model: Model) -> None:
        """Show what came of a model when it was at work before, the newest run first."""
        put_by = self._put_away.take(model)
        if put_by is not None:
            self._take_over(put_by.history, put_by.trees, put_by.history.runs[-1].number)

    def _go_on_from(self, path: str | Path, work: Work, stamp: FileStamp) -> None:
        """Go on with the work of a file; an error leaves all as it is.

        Raises:
            SessionFileError: it is no work of a lab, or what acted on the weights is gone.
        """
        self._adapters.settle_weights()
        session = self.session
        before = session.steering
        asked = [(self.panel, name, value) for name, value in work.settings.items()]
        try:
            trees, history = self._tree.trees_of(work.trees), History.of(work.runs)
            if self._desk.is_own:
                put_in_force(path, work.steering, session)
            set_together([(self, "chain", work.chain), *asked, (self, "panels", work.panels)])
        except (TraitError, ValueError, TypeError, SessionFileError) as error:
            if session.steering != before:
                session.adapters, session.control = before.adapters, before.control
            if isinstance(error, SessionFileError):
                raise
            raise of_a_stranger(path, error) from error
        self._adapters.catch_up()
        self._seen.clear()
        self._show(None)
        self._take_over(history, trees, work.shown)
        self._lab_files.note(session.model, FiledWork(in_full(path), stamp, Marks(work)))

    def _work(self) -> Work:
        """What there is to save."""
        settings = {name: getattr(self.panel, name) for name in (*SETTINGS, "stop_strings")}
        runs, trees = self.panel.runs, self._tree.trees.all
        in_force = self.session.steering
        return Work(settings, self.chain, self.panels, runs, trees, self.panel.shown, in_force)

    def _take_over(self, history: History, trees: Trees, shown: int) -> None:
        """Have runs and trees in place of those so far, and show a run, or none for 0."""
        self.panel.exchange(history)
        if shown:
            self.panel.select(shown)
        self._tree.trees = trees  # it marks what is shown

    def _pick(self) -> None:
        """Have a person pick another model or session, or one that was at work before."""
        runs = self.panel.runs
        self._picking.show(self.session, len(runs), self._put_away.models)

    def _let_go(self) -> None:
        with self._lock:  # a model that is being put to work is closed afterwards
            for panel in self._panels:
                panel.close()
            self._costs.close()
            self._effects.close()
            self._desk.close()

    @property
    def _explorer(self) -> Explorer:
        return must_be_there(self._tree.explorer)

    def _arranged(self) -> None:
        for panel in self._panels:
            panel.show_or_hide(panel.key in self._arrangement.shown)

    def _request_changed(self) -> None:
        if self._desk.at_work is not None:
            for panel in self._panels:
                panel.request_changed()

    def _kind_changed(self) -> None:
        """Show what was shown last of a text, or of a chat: nothing before its first run."""
        if self.panel.state in BUSY:
            return  # what runs stays in sight
        trace = self._seen.get(self.panel.chat)
        self._show(trace)
        if trace is not None:
            self.panel.show(trace)

    def _must_fit(self, stages: Sequence[Stage]) -> None:
        session = self._desk.at_work
        if session is not None:
            check(stages, session.model)

    def _chain_changed(self, before: Chain) -> None:
        session, chain = self._desk.at_work, self.chain
        if session is None:
            return
        for panel in self._panels:
            panel.chain_changed(before, chain)
        session.give_way()

    def _weights_changed(self) -> None:
        for panel in self._panels:
            panel.weights_changed()

    def _picked(self, step: int) -> None:
        """A token of the text was picked: the distribution is that of its step."""
        trace = self.trace
        if trace is not None:
            self._turn_to(trace, step)

    def _turn_to(self, trace: Trace | None, step: int) -> None:
        for panel in self._panels:
            panel.turn_to(trace, step)

    def _chosen(self, step: int, token: int) -> None:
        """A token of the text was chosen: its own looks at its step, another one branches."""
        trace = self.trace
        is_own = trace is not None and token == trace.tokens[step]
        if trace is not None and is_own and step < len(trace) - 1:
            self._turn_to(trace, step)
        else:
            self.start_branch(step, token)

    def _follow(self, run: Run) -> None:
        """A generation began, whoever began it."""
        for panel in self._panels:
            call_logged(panel.follow, run)  # the text and the history follow whatever becomes of it
        self._seen[self.panel.chat] = run.trace
        self.strip.follow(run)
        self.panel.follow(run)

    def _restored(self, past: PastRun) -> None:
        """The settings of a past run are in force again, but for its chain and its weights."""
        self.chain = past.chain
        try:
            self._adapters.bring_back(past.steering)
        except (MullamaError, ValueError) as error:
            raise SessionError(
                f"run {past.number} is in force again, but for what acted on the weights: {error}"
            ) from error

    def _show_path(self, node: Node, trace: Trace) -> None:
        self.panel.show(trace)
        self._show(trace)

    def _show(self, trace: Trace | None) -> None:
        self._seen[self.panel.chat] = self.strip.trace = trace
        for panel in self._panels:
            panel.show(trace)

    def _stop_all(self) -> None:
        for panel in self._panels:
            panel.stop()
        self.session.stop()

    def _seen_through(self, run: Run) -> Trace:
        """Wait for a run until every view shows its end."""
        trace = run.wait_or_stop()
        self.strip.settle()
        self.panel.settle()
        self._tree.settle(run)
        self._desk.settle()
        return trace

    def _explain_step(self, trace: Trace, step: int, token: int) -> str:
        """What would have kept a token at a step of a trace, as far as what it kept tells.

        Of a trace that came from a file, which kept no row, it is decoded again.
        """
        may_decode = trace.kept(step) is None and self.panel.state not in BUSY
        on = self.session if may_decode else self.session.model
        return fate(trace, step, token, on=on).remark()

    # Showing it

    def _still_views(self) -> tuple[View, ...]:
        if self._desk.at_work is None:
            return (self._picking.picker,)
        views = {panel.key: panel.still_views for panel in self._panels}
        shown = [view for key in self.panels for view in views[key]]
        return (self.panel, self.strip, *shown)

    def _laid_out(self) -> Shelf:
        """What runs and the text above the panels; the style is that of `panel_bar.css`."""
        panels = [
            Shelf(panel.views, "mll-panel", f"mll-panel-{panel.key}", "mll-fill")
            for panel in self._panels
        ]
        columns = Shelf(panels, "mll-panels")
        return Shelf([self.panel, self.strip, self._arrangement, columns], "mll-fill")

    def __repr__(self) -> str:
        n = len(self.tree)
        paths = "1 path" if n == 1 else f"{n} paths"
        session = self._desk.at_work
        model = "no model yet" if session is None else session.model.name
        return f"{type(self).__name__}({model}, {self.chain!r}, {paths})"

"""What all panels of a workbench share: the session at work, what is asked of it, and the text."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

from mullama_lab import hub
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import MullamaError, SessionError
from mullama_lab.widgets import ChainEditor, RunPanel, TokenStrip
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets._loading import Opened

T = TypeVar("T")

_TOKENS = "tokenizer.ggml.tokens"


class Desk:
    """A session at work, and how it is asked for runs and branches.

    Attributes:
        panel, strip, editor: what is asked for, the text, and the chain.
        weights: the adapters and vectors in force, in words; "" for none.
    """

    weights = ""

    def __init__(self, panel: RunPanel, strip: TokenStrip, editor: ChainEditor) -> None:
        self.panel, self.strip, self.editor = panel, strip, editor
        self._opened: Opened | None = None
        self._begun: weakref.WeakSet[Run] = weakref.WeakSet()
        self._asked: dict[Run, tuple[Session, list[dict[str, str]]]] = {}  # not yet answered
        self._answering = threading.RLock()
        self._unwatch: Callable[[], object] = lambda: None
        self._first: list[Callable[[], object]] = []  # before each run and branch

    @property
    def chain(self) -> Chain:
        """The chain in force."""
        return self.editor.chain

    @property
    def at_work(self) -> Session | None:
        """The session at work, if there is one."""
        opened = self._opened
        return None if opened is None else opened.session

    @property
    def is_own(self) -> bool:
        """Whether the session at work was opened for the bench, not given to it."""
        return self._opened is not None and self._opened.is_own

    @property
    def session(self) -> Session:
        """The session at work.

        Raises:
            SessionError: none is.
        """
        return must_be_there(self.at_work)

    def begin(self, opened: Opened) -> None:
        """Work on a session from now on."""
        self._opened = opened

    def runs_after(self, act: Callable[[], object]) -> None:
        """Have this called before each run and branch; what it raises refuses the run."""
        self._first.append(weakly(act))

    def watch(self, follow: Callable[[Run], object]) -> None:
        """Have a method told of each run that begins on the session, whoever begins it."""
        unwatch = weakref.finalize(self, self.session.on_start(weakly(follow)))
        unwatch.atexit = False  # the session may outlive the bench
        self._unwatch = unwatch

    def close(self) -> None:
        """Close what was opened for the session; it is still known which one it was."""
        self._unwatch()
        if self._opened is not None:
            self._opened.close()

    def leave(self) -> Opened | None:
        """Have no session at work any more; what was begun here is stopped and has ended then."""
        opened, self._opened = self._opened, None
        self._unwatch()
        for run in tuple(self._begun):
            run.stop()
        for run in tuple(self._begun):
            with contextlib.suppress(MullamaError):
                run.wait()
        return opened

    def prompt_tokens(self) -> list[int]:
        """The token ids that a run starts from: of the prompt, or of the chat as it is laid out.

        Raises:
            ValueError: the model has no chat template, or it refuses the messages.
        """
        panel, session = self.panel, self.session
        if not panel.chat:
            return session.prompt_tokens(panel.prompt)
        rendered = session.model.render_chat(panel.messages, continue_final=panel.goes_on)
        return session.prompt_tokens(rendered.tokens)

    def start(self, chain: Chain | Setting | None = None) -> Run:
        """Begin a run; the answer to a chat becomes its last turn.

        Args:
            chain: another one than that in force; a Setting also says what acts on the weights.
        """
        self._ready()
        panel, session, asked = self.panel, self.session, self.panel.messages
        run = session.start(
            self.prompt_tokens() if panel.chat else panel.prompt,
            self.chain if chain is None else chain,
            max_tokens=panel.max_tokens,
            seed=panel.seed,
            stop=panel.stop_strings,
        )
        self._begun.add(run)
        if panel.chat:
            with self._answering:
                self._asked[run] = session, asked
            answered = weakly(self._take_answer)
            run.when_done(lambda: answered(run))
        return run

    def compare(self, runs: Sequence[Run], is_wanted: Callable[[], bool]) -> None:
        """Wait for runs, and show them side by side if that is still wanted."""
        for run in runs:
            run.wait()
        self.panel.settle()
        past = self.panel.runs
        found = [one.number for run in runs for one in past if one.trace is run.trace]
        if is_wanted():
            self.panel.compared = found

    def start_branch(self, parent: Trace, step: int, token: int, seed: int) -> Run:
        """Begin a branch off a trace."""
        self._ready()
        run = self.session.start_branch(
            parent,
            step,
            token,
            self.chain,
            max_tokens=self.panel.max_tokens,
            seed=seed,
            stop=self.panel.stop_strings,
        )
        self._begun.add(run)
        return run

    def settle(self) -> None:
        """Have the answers in the chat that have come: a run ends before it tells so."""
        with self._answering:  # which is held until the one at hand stands in the chat
            asked = tuple(self._asked)
        for run in asked:
            if run.done:
                self._take_answer(run)

    def _ready(self) -> None:
        """Have what was turned be in force, or raise why nothing may run."""
        for act in self._first:
            act()

    def _take_answer(self, run: Run) -> None:
        """Put what was said into the chat, once, unless that or the model was changed since."""
        with self._answering:
            session, asked = self._asked.pop(run, (None, []))
            if session is not None and self.at_work is session and len(run.trace):
                self.panel.take_answer(run.trace.text, asked)


def must_be_there(what: T | None) -> T:
    """What there is only while a session is at work; SessionError where none is."""
    if what is None:
        raise SessionError(
            "no model is open on this bench. Choose one in its picker, or call "
            f"bench.load({hub.DEFAULT_MODEL!r})."
        )
    return what


def carried_over(chain: Chain, before: Model, after: Model) -> tuple[Chain, list[Stage]]:
    """A chain for another model, and the stages left out: those by token ids of its vocabulary."""
    if before.metadata.get(_TOKENS) == after.metadata.get(_TOKENS):
        return chain, []
    left = [stage for stage in chain if stage.names_tokens]
    return Chain([stage for stage in chain if not stage.names_tokens]), left

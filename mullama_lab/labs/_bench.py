"""What every lab around one Session shares: opening it, Run and Stop, closing it."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.glyphs import brief
from mullama_lab.labs._lab import Lab
from mullama_lab.studies.fate import fate
from mullama_lab.widgets import RunPanel, TokenStrip
from mullama_lab.widgets._kept import Shelf, weakly
from mullama_lab.widgets._view import View


class Bench(Lab, ABC):
    """A lab with a prompt that runs in one session, and a strip that shows what comes of it.

    Attributes:
        session: the Session at work; closing the lab closes it, if the lab opened it.
        panel, strip: the views every such lab has.
    """

    panel: RunPanel
    strip: TokenStrip

    def __init__(self, model: Model | Session, views: Sequence[View], shelf: Shelf) -> None:
        if not isinstance(model, (Model, Session)):
            raise TypeError(
                f"{type(self).__name__} takes a Model or a Session, not {brief(model)}. "
                "Load one first: Model.load(...)."
            )
        super().__init__(views, shelf)
        self.session = model.session() if isinstance(model, Model) else model
        if isinstance(model, Model):
            self._undo.append(self.session.close)
        self.strip.explain_with(self._explain_step)

    def _watch_session(self, follow: Callable[[Run], None]) -> None:
        """Call `follow(run)` at each generation of the session, which may outlive the lab."""
        undo = weakref.finalize(self, self.session.on_start(weakly(follow)))
        undo.atexit = False
        self._undo.append(undo)

    @property
    @abstractmethod
    def chain(self) -> Chain:
        """The chain of runs."""

    @property
    def trace(self) -> Trace | None:
        """The trace that the strip shows."""
        return self.strip.trace

    def start(self) -> Run:
        """Begin a run and return it at once."""
        self._must_be_open()
        panel = self.panel
        return self.session.start(
            panel.prompt, self.chain, max_tokens=panel.max_tokens, seed=panel.seed
        )

    def run(self) -> Trace:
        """Run to the end and give the trace; Ctrl-C or the Stop button stops it."""
        return self._seen_through(self.start())

    def stop(self) -> None:
        """Stop whatever the session is doing; what was generated stays."""
        self.panel.stop()

    def _seen_through(self, run: Run) -> Trace:
        """Wait for a run until every view shows its end."""
        trace = run.wait_or_stop()
        self.strip.settle()
        self.panel.settle()
        return trace

    def _explain_step(self, trace: Trace, step: int, token: int) -> str:
        """What would have kept a token at a step of a trace, as far as what it kept tells."""
        return fate(trace, step, token, on=self.session.model).remark()

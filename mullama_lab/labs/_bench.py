"""What every lab around one Session shares: opening, Run and Stop, three forms, closing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from mullama_lab.engine.generation.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.sampling.chain import Chain
from mullama_lab.engine.session import Session
from mullama_lab.engine.trace import Trace
from mullama_lab.studies.fate import fate
from mullama_lab.widgets import RunPanel, TokenStrip
from mullama_lab.widgets._view import View, still_forms


class Bench(ABC):
    """A lab with a prompt that runs in one session, and a strip that shows what comes of it.

    A subclass has a `chain` and `_laid_out`.

    Attributes:
        session: the Session at work.
        panel, strip: the views every such lab has.
        view: all views as they are laid out.
    """

    panel: RunPanel
    strip: TokenStrip
    view: Any

    def __init__(self, model: Model | Session, views: Sequence[View]) -> None:
        if not isinstance(model, (Model, Session)):
            raise TypeError(
                f"{type(self).__name__} takes a Model or a Session, not {model!r}. "
                "Load one first: Model.load(...)."
            )
        self._views = tuple(views)
        self._owns_session = isinstance(model, Model)
        self.session = model.session() if isinstance(model, Model) else model
        self._undo: list[Callable[[], None]] = []
        self.strip.explain_with(self._explain_step)

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

    def close(self) -> None:
        """Let go of the session (and close it, if the lab opened it) and of the views."""
        for undo in self._undo:
            undo()
        self._undo = []
        if self._owns_session:
            self.session.close()
        for view in self._views:
            view.close()

    def _seen_through(self, run: Run) -> Trace:
        """Wait for a run until every view shows its end."""
        with run._job.stopped_on_error():
            trace = run.wait()
        self.strip.settle()
        self.panel.settle()
        return trace

    def _explain_step(self, trace: Trace, step: int, token: int) -> str:
        """What would have kept a token at a step of a trace, as far as what it kept tells."""
        return fate(trace, step, token, on=self.session.model).remark()

    def _set(self, settings: dict[str, Any], known: dict[str, Any], hint: str = "") -> None:
        """Set several of the lab's own settings, each on what has it."""
        if unknown := sorted(set(settings) - set(known)):
            raise ValueError(
                f"a {type(self).__name__} has no setting {unknown[0]!r}; it has "
                f"{', '.join(known)}.{hint}"
            )
        for name, value in settings.items():
            setattr(known[name], name, value)

    # Showing it

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live = self.view._repr_mimebundle_() or {}
        data, metadata = live if isinstance(live, tuple) else (live, {})
        return {**data, **still_forms(self._views)}, metadata

    def snapshot(self) -> None:
        """Put the static form in the notebook, where it stays when the kernel is gone."""
        from IPython.display import display

        display(still_forms(self._views), raw=True)

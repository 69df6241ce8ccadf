"""The panel of the samplers: a chain, and the distribution of the next token after each stage.

A row of logits is decoded once, when the prompt or the step looked at changes; every turn of a
setting is a Preview of that row, which needs no decode and so works while a generation runs.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.preview import Preview
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.stale import is_stale_at
from mullama_lab.engine.work import Work
from mullama_lab.errors import MullamaError
from mullama_lab.labs._desk import Desk
from mullama_lab.labs._panel import Panel
from mullama_lab.studies.fate import fate_in_row
from mullama_lab.widgets import NextToken
from mullama_lab.widgets._endings import row_at
from mullama_lab.widgets._kept import weakly

TAIL = 24  # tokens before the next one that are shown


@dataclass(frozen=True, eq=False)
class _Aim:
    """Which row is looked at: the one after these tokens, drawn at this step of this seed."""

    tokens: list[int]
    step: int
    trace: Trace | None = None  # whose step it is; None at the end of what a run goes on from
    end_of: str = "prompt"  # of what, in words, where there is no trace
    row: NDArray[np.float32] | None = None  # None until it was decoded
    weights: str = ""  # what acted on them then, in words


class SamplersPanel(Panel):
    """Shows what the chain of an editor makes of a row.

    Attributes:
        preview: the Preview that is shown, None before the first.
    """

    key, title = "samplers", "Samplers"

    def __init__(self, desk: Desk) -> None:
        self.desk, self.editor, self.view = desk, desk.editor, NextToken()
        self.views = (self.editor, self.view)
        self.preview: Preview | None = None
        self._session: Session | None = None
        self._lock = threading.RLock()
        self._aim: _Aim | None = None
        self._put_off: tuple[Trace | None, int] | None = None  # what to look at once it is shown
        self._pending: Work[NDArray[np.float32]] | None = None  # decodes the row
        self._rows = LatestOnly("next-token", weakly(self._row_failed))
        self.view.explain_with(weakly(self._explain))

    def begin(self, session: Session) -> None:
        self._session = session
        self.turn_to(None, 0)

    def end(self) -> None:
        with self._lock:
            self.stop()
            self._rows.drop()
            self._session = self._aim = self._put_off = self._pending = self.preview = None
            self.view.clear()
            self.editor.annotate(None)
            self.desk.strip.mark(None, -1)

    def close(self) -> None:
        with self._lock:
            self.stop()
            self._rows.close()

    def catch_up(self) -> None:
        if self._put_off is not None:
            self.look_at(*self._put_off)

    def request_changed(self) -> None:
        self.turn_to(None, 0)

    def chain_changed(self, before: Chain, after: Chain) -> None:
        self.refresh()

    def weights_changed(self) -> None:
        """Decode the row anew; until then the one before is shown, and worked with."""
        with self._lock:
            aim = self._aim
            if aim is None or not self.is_shown:
                self.turn_to(None if aim is None else aim.trace, 0 if aim is None else aim.step)
            else:
                self._decode(aim)

    def follow(self, run: Run) -> None:
        self.show(run.trace)

    def show(self, trace: Trace | None) -> None:
        """Stay at the step that is looked at where the other trace has it too, or turn back."""
        with self._lock:
            aim = self._aim
            if aim is None or aim.trace is None or aim.trace is trace:
                return
            step = aim.step
            if trace is None or step >= len(trace) or _at(trace, step).tokens != aim.tokens:
                self.turn_to(None, 0)
                return
            self._aim = replace(aim, trace=trace)
            self.refresh()

    def turn_to(self, trace: Trace | None, step: int) -> None:
        """Look at a row, now or when the panel is shown."""
        if self.is_shown:
            self.look_at(trace, step)
        else:
            self._put_off = trace, step

    def look_at(self, trace: Trace | None, step: int) -> None:
        """Show the distribution at a step of a trace, or (None) at the end of the prompt."""
        with self._lock:
            session, self._put_off = self._session, None
            if session is None:
                return
            self.stop()
            try:
                aim = self._at_the_end() if trace is None else _at(trace, step)
                self._aim = aim
            except (MullamaError, ValueError) as error:
                self._not_there(error)
            else:
                self._decode(aim)

    def refresh(self) -> None:
        """Show what the chain makes of the row as it is now; nothing is decoded."""
        with self._lock:
            aim, chain, session = self._aim, self.editor.chain, self._session
            if aim is None or aim.row is None or session is None:
                return
            try:
                self.preview = chain.preview(
                    aim.row,
                    model=session.model,
                    history=aim.tokens,
                    seed=self._seed(aim),
                    step=aim.step,
                    state=_state(aim, chain),
                )
            except (MullamaError, ValueError) as error:
                self.view.fail(error)
                self.editor.annotate(None)
                return
            trace, with_what = aim.trace, aim.weights and f", with {aim.weights}"
            where = f"the end of the {aim.end_of}" if trace is None else row_at(trace, aim.step)
            self.view.show(
                self.preview,
                note=f"at {where}{with_what}",
                after=_text_before(aim, session),
                back="" if trace is None else "prompt",
                stale=trace is not None and is_stale_at(trace, aim.step),
            )
            self.desk.strip.mark(aim.trace, aim.step)
            self.editor.annotate(self.preview)

    def settle(self) -> None:
        """Wait until the row that is looked at was decoded and is shown."""
        job = self._pending
        if job is not None:
            with contextlib.suppress(MullamaError):  # the view says it
                job.result_or_stop()
        self._rows.settle()

    def stop(self) -> None:
        """Stop the decode of a row that nobody looks at any more."""
        if self._pending is not None:
            self._pending.stop()

    # Inside.

    def _at_the_end(self) -> _Aim:
        """Where a run goes on: in a chat that may be after what the assistant has said."""
        end_of = "last answer" if self.desk.panel.goes_on else "prompt"
        return _Aim(self.desk.prompt_tokens(), 0, end_of=end_of)

    def _decode(self, aim: _Aim) -> None:
        """Have its row decoded with the weights in force, and shown."""
        try:
            aim = replace(aim, weights=self.desk.weights)
            job = self._pending = self.desk.session.start_logits(aim.tokens)
        except (MullamaError, ValueError) as error:
            self._not_there(error)
        else:
            show = weakly(self._show_row)  # a session may be long at work before it decodes
            self._rows.submit(lambda: show(job.result(), aim))

    def _not_there(self, error: Exception) -> None:
        self._aim = self._pending = None
        self._rows.drop()
        self.view.fail(error)

    def _show_row(self, row: NDArray[np.float32], aim: _Aim) -> None:
        """Show a row that was decoded, unless another place is looked at by then.

        While a hand turns the weights each row comes after the next one was asked for.
        """
        with self._lock:
            now = self._aim
            if now is not None and now.tokens == aim.tokens:
                self._aim = replace(now, row=row, weights=aim.weights)
                self.refresh()

    def _row_failed(self, error: Exception) -> None:
        with self._lock:
            if self._rows.is_current():
                self.view.fail(error)

    def _explain(self, token: int) -> str:
        """What would have kept a token of the row that is looked at."""
        with self._lock:
            aim, chain, session = self._aim, self.editor.chain, self._session
        if aim is None or aim.row is None or session is None:
            return ""
        return fate_in_row(
            aim.row,
            token,
            chain,
            model=session.model,
            history=aim.tokens,
            seed=self._seed(aim),
            step=aim.step,
            state=_state(aim, chain),
        ).remark()

    def _seed(self, aim: _Aim) -> int:
        return self.desk.panel.seed if aim.trace is None else (aim.trace.seed or 0)


def _at(trace: Trace, step: int) -> _Aim:
    i = range(len(trace))[step]
    return _Aim(trace.history(i).tolist(), i, trace)


def _text_before(aim: _Aim, session: Session) -> str:
    text = session.model.detokenize(aim.tokens[-TAIL:], special=True)
    # what is left of a character that was cut in two
    return text.lstrip("\ufffd") if len(aim.tokens) > TAIL else text


def _state(aim: _Aim, chain: Chain) -> tuple[tuple[float, ...], ...]:
    """What the stages had learnt before the step, if the chain is of the same kinds."""
    if aim.trace is None:
        return ()
    then = aim.trace.chain_at(aim.step)
    same = list(map(type, then)) == list(map(type, chain))
    return aim.trace.state(aim.step) if same else ()

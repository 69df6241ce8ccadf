"""Two adapters or vectors in two dimensions: how far their blend goes, and what it does here.

The grid is computed cell by cell, from coarse to fine, in a session of the pad's own; between two
cells the point comes first, wherever a hand has dragged it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import numpy as np
import traitlets
from numpy.typing import NDArray

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.noise_floor import divergence, log_softmax
from mullama_lab.engine.options import instance
from mullama_lab.engine.session import Session
from mullama_lab.engine.steering.steering import LoraOrVector, Steering, Weights, name_of
from mullama_lab.widgets import _blend_forms, _front_end
from mullama_lab.widgets._blend_grid import BlendGrid, reach_for
from mullama_lab.widgets._blend_question import Question
from mullama_lab.widgets._followed_runs import MESSAGE_PERIOD
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets._levers import (
    Levers,
    checked_scale,
    in_words,
    steering_of,
)
from mullama_lab.widgets._next_token_effect import effect
from mullama_lab.widgets._rows_aside import RowsAside
from mullama_lab.widgets._session_code import lever_code, to_be_saved
from mullama_lab.widgets._view import Undo, whole_number
from mullama_lab.widgets._view_aside import ViewAside

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BlendPad"]
__dir__ = __all__.copy  # what tab completion offers

STATES = ("idle", "running", "finished", "stopped", "failed")
MOST_TARGET = 4096  # characters that a page sends
MOST_KEPT = 8  # times as far as the point needs it a map goes before it begins anew


@dataclass
class _Answers:
    """What is known of a question."""

    grid: BlendGrid
    base: tuple[NDArray[np.float32], float | None] | None = None  # row, and that of the target
    at: tuple[float, float] | None = None  # the point that is shown
    said: float = field(default=0.0)  # when the progress was said


class BlendPad(ViewAside):
    """Two adapters or control vectors at once: a map of their strengths, and a point to drag.

        pad = ml.widgets.BlendPad(happy, pirate, on=session, prompt="My day was")
        pad.at = (0.5, 1.2)
        pad.settle()
        pad.kl, pad.to_pandas()

    The map shows the Kullback-Leibler divergence of the next token from what it is without the
    two, in nats; or with a target, the log-probability of that text after the prompt. At the point
    there are both, and the next tokens. All of it is before any chain. What is in force in the
    session stays so, unless somebody turns it with `on_turn`.

    Args:
        first, second: LoraAdapters or ControlVectors, to the right and upwards; None shows an
            empty pad.
        on: the Session whose model, and whose other settings, are used.
        prompt: a text or token ids.
        target: a text that may follow the prompt; "" is none.
        at: the strengths at the point.

    Raises:
        ModelFileError, ValueError: one is for another model, they are the same, or the prompt or
            the target does not fit.
    """

    _esm = _front_end.module("blend_pad")
    _css = _front_end.style("blend_pad")
    _work_states = ("running",)

    axes = traitlets.List(traitlets.Dict(), help="Of each of the two: name, reach.").tag(sync=True)
    about = traitlets.Unicode("", help="What else acts.").tag(sync=True)
    at = traitlets.Tuple(traitlets.Float(), traitlets.Float(), default_value=(1.0, 1.0)).tag(
        sync=True
    )
    """The strengths of the first and of the second, where the point is."""
    target = traitlets.Unicode("", help="The text whose log-probability is mapped.").tag(sync=True)
    grid = traitlets.Dict(
        help="n cells a side; values row by row, from the lowest; of kl or logprob."
    ).tag(sync=True)
    done = traitlets.Int(0, help="How many cells are computed.").tag(sync=True)
    cells = traitlets.Int(0, help="How many there will be.").tag(sync=True)
    state = traitlets.Enum(STATES, "idle", help="What the map is doing.").tag(sync=True)

    def __init__(
        self,
        first: LoraOrVector | None = None,
        second: LoraOrVector | None = None,
        *,
        on: Session | None = None,
        prompt: Prompt = "Once upon a time",
        target: str = "",
        at: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self._question: Question | None = None
        self._prompt: Prompt = prompt
        self._first: Run | None = None  # comes before the map
        self._answers = _Answers(BlendGrid((1.0, 1.0)))
        super().__init__(target=target, at=at)
        if first is not None or second is not None:
            self.put_to(first, second, instance("on", on, Session), prompt, at=at)

    # From Python

    def put_to(
        self,
        first: Any,
        second: Any,
        on: Session,
        prompt: Prompt,
        *,
        at: tuple[float, float],
        others: Levers = (),
    ) -> None:
        """Blend two others, or have them stand after another prompt or beside others.

        Args:
            others: levers of what else may act, everywhere.
        """
        question = Question.of(first, second, on, prompt, self.target, steering_of(others))
        Weights.of(question.steering(*map(checked_scale, at)), on.model)
        with self._lock, self.hold_sync():
            self._work_beside(on)
            self._prompt = prompt
            self.about = f"beside {words}" if (words := in_words(others)) else ""
            self._ask_for(question, at)
            with self._placing():
                self.at = at

    def clear(self) -> None:
        """Show nothing, and let go of the session."""
        with self._lock, self.hold_sync():
            self._latest.drop()
            self._let_go()
            self._question = self._rows = None
            self._answers = _Answers(BlendGrid((1.0, 1.0)))
            self.axes, self.about, self.problem = [], "", ""
            self.shown, self.grid, self.done, self.state = {}, {}, 0, "idle"

    @property
    def levers(self) -> tuple[LoraOrVector, ...]:
        """The two; () where nothing is shown."""
        return () if self._question is None else self._question.levers

    @property
    def logprob(self) -> float | None:
        """How likely the target is at the point, in nats; None without one, or if not known."""
        return self.shown.get("logprob")

    def on_turn(self, callback: Callable[[float, float], object]) -> Undo:
        """Call `callback(x, y)` when the point is moved; returns what undoes it."""
        return self._listen("turn", callback)

    def stop(self) -> None:
        """Compute no more cells of the map; those that are there stay."""
        with self._lock:
            if self.state == "running":
                self.state = "stopped"

    def go_on(self) -> None:
        """Compute the rest of the map."""
        with self._lock:
            if self._question is not None and not self._answers.grid.is_done:
                self.state, self.problem = "running", ""
                self._ask()

    def let_first(self, run: Run) -> None:
        """Fill no cell of the map until a generation has ended."""
        self._first = run
        ask = weakly(self._ask)
        run.when_done(lambda: ask())

    def to_pandas(self) -> pd.DataFrame:
        """The map as it is: a row a strength of the second, a column a strength of the first."""
        import pandas as pd

        grid = self._answers.grid
        x, y = grid.axes()
        return pd.DataFrame(grid.values.copy(), pd.Index(y, name="y"), pd.Index(x, name="x"))

    def to_code(self) -> str:
        """Python that makes it again, once `ml` and `session` are there."""
        question = self._question
        if question is None:
            return "pad = ml.widgets.BlendPad()"
        prompt = self._prompt if isinstance(self._prompt, str) else list(question.prompt)
        target = f", target={self.target!r}" if self.target else ""
        made = ", ".join(map(lever_code, question.levers))
        saved = to_be_saved(Steering().plus(one, 1) for one in question.levers)
        code = f"pad = ml.widgets.BlendPad({made}, on=session, prompt={prompt!r}{target}, "
        return "\n".join([*saved, f"{code}at={self.at!r})"])

    # Inside: what is asked.

    @traitlets.validate("at")
    def _check_at(self, proposal: Any) -> tuple[float, float]:
        try:
            x, y = map(checked_scale, proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None
        return x, y

    @traitlets.validate("target")
    def _check_target(self, proposal: Any) -> str:
        if self._question is not None and self._rows is not None:
            self._question.aimed(self._rows.like, self._prompt, proposal["value"])  # or refused
        return proposal["value"]

    @traitlets.observe("at")
    def _moved(self, change: Any) -> None:
        with self._lock:
            if self._question is not None:
                self._ask_for(self._question, change["new"])
        self._tell_turned(*change["new"])

    @traitlets.observe("target")
    def _other_target(self, _: Any) -> None:
        with self._lock:
            question = self._question
            if question is not None and self._rows is not None:
                other = question.aimed(self._rows.like, self._prompt, self.target)
                self._ask_for(other, self.at)

    def _ask_for(self, question: Question, at: tuple[float, float]) -> None:
        """Answer it at a point; the map begins anew if it is another question, or too small."""
        before, grid = self._question, self._answers.grid
        reach = (reach_for(at[0]), reach_for(at[1]))
        if before is not None and before.levers == question.levers:
            x, y = (
                had if least <= had <= MOST_KEPT * least else least
                for had, least in zip(grid.reach, reach, strict=True)
            )
            reach = x, y
        if before != question or reach != grid.reach:
            self._question, self._answers = question, _Answers(BlendGrid(reach))
            axes = [
                {"name": name_of(one), "reach": end}
                for one, end in zip(question.levers, reach, strict=True)
            ]
            with self.hold_sync():
                if axes != self.axes:
                    self.axes, self.grid = axes, {}
                self.done, self.cells = 0, self._answers.grid.n_cells
                self.state = "running"
        self._ask()

    def _ask(self) -> None:
        self._latest.submit(weakly(self._do_next))

    # Inside: what is answered, on the thread of `_latest`.

    def _do_next(self) -> None:
        """Show what is at the point, or else fill a cell; then go on, if there is more to do."""
        with self._lock:
            question, answers, rows, at = self._question, self._answers, self._rows, self.at
        if question is None or rows is None:
            return
        if answers.base is None:
            answers.base = _seen(rows, question, question.others)
        if answers.at != at:
            self._show_point(rows, question, answers, at)
        elif self._may_fill:
            self._fill_cell(rows, question, answers)
        with self._lock:
            if self._answers is answers and (self._may_fill or self.at != answers.at):
                self._ask()

    @property
    def _may_fill(self) -> bool:
        return self.state == "running" and (self._first is None or self._first.done)

    def _show_point(
        self, rows: RowsAside, question: Question, answers: _Answers, at: tuple[float, float]
    ) -> None:
        assert answers.base is not None
        base_row, base_logprob = answers.base
        row, logprob = _seen(rows, question, question.steering(*at))
        shown = effect(base_row, row, rows.like.model)
        known = {"logprob": logprob, "base_logprob": base_logprob}
        with self._lock:
            if self._answers is answers:
                answers.at = at
                with self.hold_sync():
                    self.problem = ""
                    self.shown = {**shown, **known, "at": list(at)}

    def _fill_cell(self, rows: RowsAside, question: Question, answers: _Answers) -> None:
        assert answers.base is not None
        steering = question.steering(*answers.grid.next_cell)
        if question.target:
            value = rows.logprob(question.prompt, question.target, steering)
        else:
            row = rows.row(question.prompt, steering)
            value = divergence(log_softmax(answers.base[0]), log_softmax(row))
        with self._lock:
            if self._answers is not answers:
                return
            grid = answers.grid
            if grid.fill(value):
                with self.hold_sync():
                    self.grid = _to_send(grid, "logprob" if question.target else "kl")
                    self.done = grid.n_done
                    if grid.is_done:
                        self.state = "finished"
            elif monotonic() - answers.said > MESSAGE_PERIOD:
                self.done, answers.said = grid.n_done, monotonic()

    def _failed(self, error: Exception) -> None:
        with self._lock, self.hold_sync():
            if self._latest.is_current():
                self.state = "failed"
                self.fail(error)

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op == "set":
            seq = whole_number(args, "seq", low=0, high=2**53)
            at = [checked_scale(args.get(name, old)) for name, old in zip("xy", self.at)]
            self.at = (at[0], at[1])
            return {"seq": seq}
        if op == "target":
            text = args.get("text")
            if not isinstance(text, str) or len(text) > MOST_TARGET:
                raise ValueError(f"the target is a text of at most {MOST_TARGET} characters.")
            self.target = text
            return {}
        if op in ("stop", "go_on"):
            self.stop() if op == "stop" else self.go_on()
            return {}
        return super()._on_request(op, args)

    # Without a browser

    def __repr__(self) -> str:
        return _blend_forms.headline(self._picture())

    def _plain_text(self) -> str:
        return _blend_forms.plain(self._picture())

    def _static_html(self) -> Element:
        return _blend_forms.static(self._picture())

    def _picture(self) -> _blend_forms.Picture:
        grid = self._answers.grid
        return _blend_forms.Picture(self.axes, self.at, self.shown, self.about, self.target, grid)


def _seen(
    rows: RowsAside, question: Question, steering: Steering
) -> tuple[NDArray[np.float32], float | None]:
    """The row after the prompt, and how likely the target is, under some weights."""
    row = rows.row(question.prompt, steering)
    if not question.target:
        return row, None
    return row, rows.logprob(question.prompt, question.target, steering)


def _to_send(grid: BlendGrid, of: str) -> dict[str, Any]:
    """The finest picture that is whole, as a page takes it."""
    values = grid.picture(grid.stride)
    sent = [float(f"{x:.5g}") if math.isfinite(x) else None for x in values.ravel().tolist()]
    return {"n": len(values), "values": sent, "of": of}

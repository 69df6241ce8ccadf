"""Asking what other settings would have made of a run, on a thread of its own.

The newest question wins: what is asked for meanwhile replaces what waits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain, Temperature
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.worker import WAIT_STEP
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import one_line, visible
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.replay import Replay, replay, stage_effects
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets.what_if import MOST_BARS, WhatIf

log = logging.getLogger(__name__)
SOON, REST = 0.05, 0.3  # seconds without a move before a replay, and before what takes longer

Turned = tuple[int, str]  # a stage's place in the chain, and its setting


@dataclass(frozen=True, eq=False)
class _Question:
    trace: Trace
    chain: Chain
    turned: Turned | None

    @property
    def part(self) -> Trace:
        """The steps that are asked about: as many as there are bars."""
        return self.trace[:MOST_BARS] if len(self.trace) > MOST_BARS else self.trace

    def is_drawn(self, drawn: _Drawn | None) -> bool:
        """Whether the bars that are drawn answer it: they are the same at any value."""
        if drawn is None or drawn.trace is not self.trace or drawn.turned != self.turned:
            return False
        return _turned_to(self.chain, self.turned, drawn.chain) == drawn.chain


class _Drawn(NamedTuple):
    """What the bars are of."""

    trace: Trace
    turned: Turned
    chain: Chain


class Asking:
    """Answers in a WhatIf view for the run that is shown and the chain as it is.

    Args:
        chain: gives the chain in force.
    """

    def __init__(self, model: Model, view: WhatIf, chain: Callable[[], Chain]) -> None:
        self.model, self.view, self._chain = model, view, chain
        self._trace: Trace | None = None
        self._following: Run | None = None
        self._turned: Turned | None = None
        self._drawn: _Drawn | None = None
        self._question: _Question | None = None
        self._busy = self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def follow(self, run: Run) -> None:
        """Forget the run before; ask about this one as soon as it has ended."""
        with self._changed:
            self.show(None)
            self._following = run
        ended = weakly(self._ended)
        run.when_done(lambda: ended(run))

    def show(self, trace: Trace | None) -> None:
        """Ask about a run that is over."""
        with self._changed:
            self._trace = trace if trace is not None and len(trace) else None
            self._following = self._drawn = self._question = None
            self.view.clear()
            self._ask()

    def turn(self, before: Chain | None, after: Chain) -> None:
        """Take note of what was turned, and ask again."""
        with self._changed:
            self._turned = turned(before, after) or self._turned
            drawn = self._drawn
            if drawn is not None and drawn[1] == self._turned:
                self.view.at = _value(after, drawn[0].schedule.last, self._turned)
            self._ask()

    def settle(self) -> None:
        """Wait until all that was asked is shown; for code, not for callbacks."""
        with self._changed:
            while not self._closed and (self._busy or self._question):
                self._changed.wait(WAIT_STEP)

    def close(self) -> None:
        with self._changed:
            self._closed, self._question = True, None
            self._changed.notify_all()

    def _ended(self, run: Run) -> None:
        """A run has ended, and is shown unless somebody looks at another one by now."""
        with self._changed:
            if self._following is run:
                self.show(run.trace)

    def _ask(self) -> None:
        with self._changed:
            if self._trace is None or self._closed:
                return
            chain = self._chain()
            self._question = _Question(self._trace, chain, self._turned or _first(chain))
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="what-if", daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while True:
            with self._changed:
                question, self._question = self._question, None
                self._busy = question is not None
                self._changed.notify_all()
                if question is None:
                    self._thread = None  # a thread that waits would keep the lab alive
                    return
            try:
                self._answer(question)
            except (MullamaError, ValueError) as error:
                if self._is_current(question):
                    self.view.say(f"n/a: {error}")
                    self.view.busy = ""
            except Exception:
                log.exception("what if: failed")
                self.view.busy = ""

    def _is_current(self, question: _Question, wait: float = 0.0) -> bool:
        """Whether nothing newer is asked, also not within some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._question is not None, wait)
            same = self._question is None and self._trace is question.trace
            return same and not self._closed

    def _answer(self, question: _Question) -> None:
        trace, chain, view = question.trace, question.chain, self.view
        if not self._is_current(question, SOON):
            return
        part = question.part
        seen = replay(part, chain, on=self.model, allow_unknown=True)
        of = "the run above" if part is trace else f"the first {len(part)} tokens of the run above"
        with self._changed:
            if not self._is_current(question):
                return
            view.show_choices(
                f"The chain as it is now, on {of}: {_summary(seen)}.",
                at=_value(chain, trace.schedule.last, question.turned),
                differs=np.flatnonzero(seen.differs).tolist(),
                n_compared=seen.n_compared,
            )
            drawn = self._drawn
        if question.turned is not None and not question.is_drawn(drawn):
            self._draw(question)
        if not self._is_current(question, REST):
            return
        view.busy = "trying each stage…"
        effects = stage_effects(part, chain, on=self.model, allow_unknown=True)
        with self._changed:
            if self._is_current(question):
                view.show_effects(
                    (repr(x.stage), x.n_changed, x.n_compared, x.why_inert) for x in effects
                )
        view.busy = ""

    def _draw(self, question: _Question) -> None:
        trace, turn = question.trace, question.turned
        assert turn is not None
        place, setting = turn
        then = trace.schedule.last
        if not _has(then, question.chain, place):
            self.view.bars, self._drawn = {}, None
            return
        self.view.busy = "finding the bars…"
        flips = flip_map(question.part, place, setting, on=self.model, chain=question.chain)
        stage = then[place]
        label, scale = f"{type(stage).__name__} {setting}", stage.settings()[setting].scale
        with self._changed:
            if self._trace is trace:
                self.view.show_flips(flips, label, scale=scale, was=getattr(stage, setting))
                self._drawn = _Drawn(trace, turn, question.chain)
        self.view.busy = ""


def _summary(seen: Replay) -> str:
    """As `Replay.summary`, with steps counted as the strip above counts them: from 1."""
    n, first = seen.n_compared, seen.first
    n_unknown = int((~seen.known & ~seen.given).sum())
    why = "the run kept too little of its rows to tell"
    if not n:
        return f"n/a, {why}" if n_unknown else "nothing was drawn"
    if first is None:
        told = f"none of {n} choices differs"
    else:
        now, then = (_quoted(seen.text_of(tokens[first])) for tokens in (seen.choices, seen.tokens))
        told = f"{seen.n_changed} of {n} choices differ"
        told += f", the first at step {first + 1}: {now} instead of {then}"
    return f"{told}; of {n_unknown} more {why}" if n_unknown else told


def _quoted(text: str) -> str:
    """A token in which blanks are seen, as the strip shows it."""
    return f"“{one_line(visible(text)).replace(' ', '·')}”"


def turned(before: Chain | None, after: Chain) -> Turned | None:
    """The one setting in which two chains of the same stages differ; None if not just one does."""
    if before is None or list(map(type, before)) != list(map(type, after)):
        return None
    found = [
        (place, name)
        for place, (a, b) in enumerate(zip(before, after, strict=True))
        for name in a.settings()
        if getattr(a, name) != getattr(b, name)
    ]
    return found[0] if len(found) == 1 else None


def _turned_to(chain: Chain, turn: Turned | None, other: Chain) -> Chain:
    """A chain with one setting as another chain has it."""
    if turn is None or not _has(other, chain, turn[0]):
        return chain
    place, name = turn
    stages = list(chain)
    stages[place] = replace(stages[place], **{name: getattr(other[place], name)})
    return Chain(stages)


def _first(chain: Chain) -> Turned | None:
    """What to show before anything was turned: the temperature, or the first setting there is."""
    for place, stage in enumerate(chain):
        if isinstance(stage, Temperature):
            return place, "t"
    return next(((i, name) for i, x in enumerate(chain) for name in x.settings()), None)


def _has(then: Chain, now: Chain, place: int) -> bool:
    """Whether the run's chain had the same kind of stage in that place."""
    return place < min(len(then), len(now)) and type(then[place]) is type(now[place])


def _value(now: Chain, then: Chain, turn: Turned | None) -> float | None:
    if turn is None or not _has(then, now, turn[0]):
        return None
    return float(getattr(now[turn[0]], turn[1]))

"""What other settings would have made of a run, found out aside while a person turns them.

A turned setting asks again, and only the newest question is answered to its end: a replay after
a moment without a move, what takes longer after a longer one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain, Temperature
from mullama_lab.engine.trace import Trace
from mullama_lab.glyphs import one_line, visible
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.replay import Replay, replay, stage_effects
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets.what_if import MOST_BARS, WhatIf

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


class WhatIfAnswers:
    """Fills a WhatIf view for the run that is shown and the chain as it is.

    Args:
        chain: gives the chain in force.
    """

    def __init__(self, model: Model, view: WhatIf, chain: Callable[[], Chain]) -> None:
        self.model, self.view, self._chain = model, view, chain
        self._trace: Trace | None = None
        self._following: Run | None = None
        self._turned: Turned | None = None
        self._drawn: _Drawn | None = None
        self._lock = usable_in_forks(threading.RLock())  # what is asked, and what is shown of it
        self._latest = LatestOnly("what-if", weakly(self._failed))

    def follow(self, run: Run) -> None:
        """Forget the run before; ask about this one as soon as it has ended."""
        with self._lock:
            self.show(None)
            self._following = run
        ended = weakly(self._ended)
        run.when_done(lambda: ended(run))

    def show(self, trace: Trace | None) -> None:
        """Ask about a run that is over."""
        with self._lock:
            self._trace = trace if trace is not None and len(trace) else None
            self._following = self._drawn = None
            self._latest.drop()
            self.view.clear()
            self._ask()

    def turn(self, before: Chain | None, after: Chain) -> None:
        """Take note of what was turned, and ask again."""
        with self._lock:
            self._turned = turned(before, after) or self._turned
            drawn = self._drawn
            if drawn is not None and drawn[1] == self._turned:
                self.view.at = _value(after, drawn[0].schedule.last, self._turned)
            self._ask()

    def settle(self) -> None:
        """Wait until all that was asked is shown; for code, not for callbacks."""
        run = self._following
        if run is not None and run.done:
            self._ended(run)  # whoever waited for the run may be here before its last callback
        self._latest.settle()

    def close(self) -> None:
        """Answer nothing more."""
        self._latest.close()

    def _ended(self, run: Run) -> None:
        """A run has ended, and is shown unless somebody looks at another one by now."""
        with self._lock:
            if self._following is run:
                self.show(run.trace)

    def _ask(self) -> None:
        with self._lock:
            if self._trace is None:
                return
            chain = self._chain()
            question = _Question(self._trace, chain, self._turned or _first(chain))
            self._latest.submit(lambda: self._answer(question))

    def _failed(self, error: Exception) -> None:
        with self._lock:
            if self._latest.is_current():
                self.view.say(f"n/a: {error}")

    def _answer(self, question: _Question) -> None:
        """Replay at once, then draw bars that are not there, then try the stages one by one."""
        if not self._latest.is_current(SOON):
            return
        self._show_choices(question)
        if question.turned is not None and not question.is_drawn(self._drawn):
            with self._said_to_be_busy("finding the bars…"):
                self._show_bars(question, question.turned)
        if self._latest.is_current(REST):
            with self._said_to_be_busy("trying each stage…"):
                self._show_effects(question)

    def _show_choices(self, question: _Question) -> None:
        trace, part = question.trace, question.part
        seen = replay(part, question.chain, on=self.model, allow_unknown=True)
        of = "the run above" if part is trace else f"the first {len(part)} tokens of the run above"
        with self._lock:
            if self._latest.is_current():
                self.view.show_choices(
                    f"The chain as it is now, on {of}: {_summary(seen)}.",
                    at=_value(question.chain, trace.schedule.last, question.turned),
                    differs=np.flatnonzero(seen.differs).tolist(),
                    n_compared=seen.n_compared,
                )

    def _show_bars(self, question: _Question, turn: Turned) -> None:
        """Draw the bars, also for a question that is outdated: they hold at any value."""
        trace, chain, (place, setting) = question.trace, question.chain, turn
        then = trace.schedule.last
        known = _has(then, chain, place)
        flips = (
            flip_map(question.part, place, setting, on=self.model, chain=chain) if known else None
        )
        with self._lock:
            if self._trace is not trace:
                return
            if flips is None:
                self.view.bars, self._drawn = {}, None
                return
            stage = then[place]
            label, scale = f"{type(stage).__name__} {setting}", stage.settings()[setting].scale
            self.view.show_flips(flips, label, scale=scale, was=getattr(stage, setting))
            self._drawn = _Drawn(trace, turn, chain)

    def _show_effects(self, question: _Question) -> None:
        part, chain = question.part, question.chain
        effects = stage_effects(part, chain, on=self.model, allow_unknown=True)
        with self._lock:
            if self._latest.is_current():
                self.view.show_effects(
                    (repr(x.stage), x.n_changed, x.n_compared, x.why_inert) for x in effects
                )

    @contextmanager
    def _said_to_be_busy(self, text: str) -> Iterator[None]:
        self.view.busy = text
        try:
            yield
        finally:
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

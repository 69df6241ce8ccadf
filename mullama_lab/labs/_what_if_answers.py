"""What other settings would have made of a run, found out aside while a person turns them.

A turned setting asks again, and only the newest question is answered to its end: a replay after
a moment without a move, what takes longer after a longer one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.glyphs import one_line, visible
from mullama_lab.labs._chain_setting import ChainSetting
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.replay import Replay, replay, stage_effects
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets.what_if import MOST_BARS, WhatIf

SOON, REST = 0.05, 0.3  # seconds without a move before a replay, and before what takes longer


@dataclass(frozen=True, eq=False)
class _Question:
    """What is asked: the run, the chain there is now, and the setting that the bars are of."""

    trace: Trace
    chain: Chain
    setting: ChainSetting | None

    @property
    def part(self) -> Trace:
        """The steps that are asked about: as many as there are bars."""
        return self.trace[:MOST_BARS] if len(self.trace) > MOST_BARS else self.trace

    @property
    def value(self) -> float | None:
        """The setting as it is now; None if the run had no such stage in that place."""
        if self.setting is None or not self.setting.is_in_both(
            self.trace.schedule.last, self.chain
        ):
            return None
        return self.setting.value_in(self.chain)

    def has_the_bars_of(self, other: _Question | None) -> bool:
        """Whether another question has the same bars: they do not depend on the setting's value."""
        if other is None or other.trace is not self.trace or other.setting != self.setting:
            return False
        return self.setting is None or self.setting.copied(other.chain, self.chain) == other.chain


class WhatIfAnswers:
    """Fills a WhatIf view for the run that is shown and the chain as it is.

    Args:
        chain: gives the chain in force.
    """

    def __init__(self, model: Model, view: WhatIf, chain: Callable[[], Chain]) -> None:
        self.model, self.view, self._chain = model, view, chain
        self._trace: Trace | None = None
        self._following: Run | None = None
        self._setting: ChainSetting | None = None  # the one that was turned last
        self._bars: _Question | None = None  # the question whose bars are shown
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
            self._following = self._bars = None
            self._latest.drop()
            self.view.clear()
            self._ask()

    def turn(self, before: Chain, after: Chain) -> None:
        """Take note of what was turned, and ask again."""
        with self._lock:
            self._setting = ChainSetting.changed_between(before, after) or self._setting
            bars = self._bars
            if bars is not None and bars.setting == self._setting:
                self.view.at = replace(bars, chain=after).value
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
            setting = self._setting or ChainSetting.first_of(chain)
            question = _Question(self._trace, chain, setting)
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
        if question.setting is not None and not question.has_the_bars_of(self._bars):
            with self._said_to_be_busy("finding the bars…"):
                self._show_bars(question, question.setting)
        if self._latest.is_current(REST):
            with self._said_to_be_busy("trying each stage…"):
                self._show_effects(question)

    def _show_choices(self, question: _Question) -> None:
        part = question.part
        seen = replay(part, question.chain, on=self.model, allow_unknown=True)
        of = "" if part is question.trace else f"the first {len(part)} tokens of "
        with self._lock:
            if self._latest.is_current():
                self.view.show_choices(
                    f"The chain as it is now, on {of}the run above: {_summary(seen)}.",
                    at=question.value,
                    differs=np.flatnonzero(seen.differs).tolist(),
                    n_compared=seen.n_compared,
                )

    def _show_bars(self, question: _Question, setting: ChainSetting) -> None:
        """Draw the bars, also for a question that is outdated: they hold at any value."""
        place, name = setting
        flips, then = None, question.trace.schedule.last
        if question.value is not None:
            flips = flip_map(question.part, place, name, on=self.model, chain=question.chain)
        with self._lock:
            if self._trace is not question.trace:
                return
            if flips is None:
                self.view.bars, self._bars = {}, None
                return
            stage = then[place]
            label, scale = f"{type(stage).__name__} {name}", stage.settings()[name].scale
            self.view.show_flips(flips, label, scale=scale, was=getattr(stage, name))
            self._bars = question

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

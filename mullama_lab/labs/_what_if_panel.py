"""What other settings would have made of a run, found out aside while a person turns them.

A turned setting asks again, and only the newest question is answered to its end: a replay after
a moment without a move, what takes longer after a longer one.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from mullama_lab.counted import differing
from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.chain_setting import ChainSetting
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.stale import stale_words
from mullama_lab.glyphs import one_line, visible
from mullama_lab.labs._desk import Desk
from mullama_lab.labs._panel import Panel
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.replay import Replay, replay, stage_effects
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets.what_if import MOST_BARS, WhatIf

NO_ROWS = (
    "n/a: of a run from a file no rows of logits are kept. Restore its settings (↺ in Runs) and "
    "press Run: it is made again, and this says what would have been chosen."
)
SOON, REST = 0.05, 0.3  # seconds without a move before a replay, and before what takes longer


@dataclass(frozen=True, eq=False)
class _Question:
    """What is asked: the run, the chain there is now, and the setting that the bars are of."""

    model: Model
    trace: Trace
    chain: Chain
    setting: ChainSetting | None

    @property
    def part(self) -> Trace:
        """The steps that are asked about: as many as there are bars."""
        return self.trace[:MOST_BARS] if len(self.trace) > MOST_BARS else self.trace

    @property
    def has_rows(self) -> bool:
        """Whether the run kept any row of logits: one from a file has none."""
        return any(self.part.kept(step) is not None for step in range(len(self.part)))

    @property
    def value(self) -> float | None:
        """The setting as it is now; None if the chain has no such stage."""
        return None if self.setting is None else self.setting.value_in(self.chain)

    def has_the_bars_of(self, other: _Question | None) -> bool:
        """Whether another question has the same bars: they do not depend on the setting's value."""
        if other is None or other.trace is not self.trace or other.setting != self.setting:
            return False
        return self.setting is None or self.setting.copied(other.chain, self.chain) == other.chain


class WhatIfPanel(Panel):
    """Fills a WhatIf view for the run that is shown and the chain as it is.

    An answer on its way must not keep the lab alive, so the desk is held weakly.
    """

    key, title = "what-if", "What if"

    def __init__(self, desk: Desk) -> None:
        self._desk, self.view = weakref.ref(desk), WhatIf()
        self.views = (self.view,)
        self._model: Model | None = None
        self._trace: Trace | None = None
        self._following: Run | None = None
        self._setting: ChainSetting | None = None  # the one that was turned or chosen last
        self._bars: _Question | None = None  # the question whose bars are shown
        self._lock = usable_in_forks(threading.RLock())  # what is asked, and what is shown of it
        self._latest = LatestOnly("what-if", weakly(self._failed))
        weakref.finalize(desk, self._latest.close).atexit = False
        self.view.on_vary(weakly(self._vary))
        self.view.on_turn(weakly(self._turn))

    def begin(self, session: Session) -> None:
        self._model = session.model
        self._show_lever()

    def end(self) -> None:
        with self._lock:
            self._latest.drop()
            self._model = self._trace = self._following = self._setting = self._bars = None
            self.view.clear()

    def close(self) -> None:
        """Answer nothing more, and wait for nothing."""
        self._trace = None
        self._latest.close()

    def catch_up(self) -> None:
        self._ask()

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

    def chain_changed(self, before: Chain, after: Chain) -> None:
        """Take note of what was turned, and ask again."""
        with self._lock:
            self._setting = ChainSetting.changed_between(before, after) or self._setting
            self._show_lever()
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

    def _ended(self, run: Run) -> None:
        """A run has ended, and is shown unless somebody looks at another one by now."""
        with self._lock:
            if self._following is run:
                self.show(run.trace)

    def _ask(self) -> None:
        with self._lock:
            desk = self._desk()
            if self._trace is None or self._model is None or desk is None or not self.is_shown:
                return
            question = _Question(self._model, self._trace, desk.chain, self._varied(desk.chain))
            self._latest.submit(lambda: self._answer(question))

    def _varied(self, chain: Chain) -> ChainSetting | None:
        """The setting that is varied: the one last turned or chosen, if the chain has it."""
        setting = self._setting
        has_it = setting is not None and setting.stage_in(chain) is not None
        return setting if has_it else ChainSetting.first_of(chain)

    def _show_lever(self) -> None:
        desk = self._desk()
        if desk is None:
            return
        chain = desk.chain
        setting, levers = self._varied(chain), ChainSetting.all_of(chain)
        value = None if setting is None else setting.value_in(chain)
        if setting is None or value is None:
            self.view.levers, self.view.lever = [], {}
            return
        names = [lever.label for lever in levers]
        rule = setting.stage.kind.settings()[setting.name]
        self.view.show_lever(names, levers.index(setting), value, rule)

    def _vary(self, place: int) -> None:
        """Draw the bars of another setting."""
        desk = self._desk()
        with self._lock:
            levers = [] if desk is None else ChainSetting.all_of(desk.chain)
            if place >= len(levers):
                raise ValueError("the chain has changed since. Choose again.")
            self._setting = levers[place]
            self._show_lever()
            self._ask()

    def _turn(self, value: float) -> None:
        """Set what is varied, as its slider among the samplers does."""
        desk = self._desk()
        setting = None if desk is None else self._varied(desk.chain)
        if desk is None or setting is None:
            raise ValueError("the chain has no setting to turn.")
        place = setting.stage.place_in(desk.chain)
        on = [i for i, card in enumerate(desk.editor.cards) if card["on"]]
        if place is not None:
            rule = setting.stage.kind.settings()[setting.name]
            whole = rule.kind == "int" and value == int(value)
            desk.editor.set(on[place], **{setting.name: int(value) if whole else value})

    def _failed(self, error: Exception) -> None:
        with self._lock:
            if self._latest.is_current():
                self.view.say(f"n/a: {error}")

    def _answer(self, question: _Question) -> None:
        """Replay at once, then draw bars that are not there, then try the stages one by one."""
        if not self._latest.is_current(SOON):
            return
        if not question.has_rows:
            with self._lock:
                if self._latest.is_current():
                    self.view.say(NO_ROWS)
            return
        self._show_choices(question)
        is_wanted = self._desk() is not None and self._trace is question.trace
        if is_wanted and not question.has_the_bars_of(self._bars):
            with self._said_to_be_busy("finding the bars…"):
                self._show_bars(question)
        if self._latest.is_current(REST):
            with self._said_to_be_busy("trying each stage…"):
                self._show_effects(question)

    def _show_choices(self, question: _Question) -> None:
        part = question.part
        seen = replay(part, question.chain, on=question.model, allow_unknown=True)
        of = "" if part is question.trace else f"the first {len(part)} tokens of "
        stale = stale_words(part)
        run = f"the run above, {stale}" if stale else "the run above"
        with self._lock:
            if self._latest.is_current():
                self.view.show_choices(
                    f"The chain as it is now, on {of}{run}: {_summary(seen)}.",
                    at=question.value,
                    differs=np.flatnonzero(seen.differs).tolist(),
                    n_compared=seen.n_compared,
                )

    def _show_bars(self, question: _Question) -> None:
        """Draw the bars, also for a question that is outdated: they hold at any value."""
        setting, chain = question.setting, question.chain
        flips, place = None, None if setting is None else setting.stage.place_in(chain)
        if setting is not None and place is not None:
            flips = flip_map(question.part, place, setting.name, on=question.model, chain=chain)
        with self._lock:
            if self._trace is not question.trace:
                return
            self._bars = question
            if setting is None or flips is None:
                self.view.bars = {}
                return
            scale = setting.stage.kind.settings()[setting.name].scale
            was = setting.value_in(question.trace.schedule.last)
            self.view.show_flips(
                flips, setting.label, scale=scale, was=math.nan if was is None else was
            )

    def _show_effects(self, question: _Question) -> None:
        part, chain = question.part, question.chain
        effects = stage_effects(part, chain, on=question.model, allow_unknown=True)
        with self._lock:
            if self._latest.is_current():
                self.view.show_effects(
                    (repr(x.stage), x.n_changed, x.n_compared, x.why_inert) for x in effects
                )

    @contextmanager
    def _said_to_be_busy(self, text: str) -> Iterator[None]:
        if self._latest.is_current():
            self.view.busy = text
        try:
            yield
        finally:
            self.view.busy = ""


def _summary(seen: Replay) -> str:
    """As `Replay.summary`, in a line that reads on."""
    n, first = seen.n_compared, seen.first
    n_unknown = int((~seen.known & ~seen.given).sum())
    why = "the run kept too little of its rows to tell"
    if not n:
        return f"n/a, {why}" if n_unknown else "nothing was drawn"
    if first is None:
        told = differing(0, n)
    else:
        now, then = (_quoted(seen.text_of(tokens[first])) for tokens in (seen.choices, seen.tokens))
        told = differing(seen.n_changed, n)
        told += f", the first at step {first}: {now} instead of {then}"
    return f"{told}; of {n_unknown} more {why}" if n_unknown else told


def _quoted(text: str) -> str:
    """A token in which blanks are seen, as the strip shows it."""
    return f"“{one_line(visible(text)).replace(' ', '·')}”"

"""The panel of grammars: one that is written, a text put to it, and the run that keeps to it.

It is the grammar of the first Constrain in the chain, as soon as there is one: what is changed in
the one place shows in the other.
"""

from __future__ import annotations

import threading
import weakref

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain, Constrain
from mullama_lab.engine.trace import Trace
from mullama_lab.labs._desk import Desk
from mullama_lab.labs._hindsight import Hindsight
from mullama_lab.labs._panel import Panel
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets.grammar_bench import GrammarBench

REST = 0.3  # seconds without a change before the model is asked what it would say


class GrammarPanel(Panel):
    """Keeps a GrammarBench and the Constrain of an editor's chain alike."""

    key, title = "grammar", "Grammar"

    def __init__(self, desk: Desk) -> None:
        self._desk, self.view = weakref.ref(desk), GrammarBench()
        self.views = (self.view,)
        self._session: Session | None = None
        self._looked_back_with = self.view.grammar
        self._lock = usable_in_forks(threading.RLock())
        self._rows = LatestOnly("grammar", weakly(self._row_failed))
        self._both = LatestOnly("grammar-both", weakly(self._failed))
        self._hindsight = Hindsight(desk, self.view)
        for aside in (self._rows, self._both):
            weakref.finalize(desk, aside.close).atexit = False
        desk.runs_after(self._must_be_meant)
        self.view.on_change(weakly(self._changed))
        self.view.on_use(weakly(self.use))
        self.view.on_run_both(weakly(self.run_both))

    def begin(self, session: Session) -> None:
        self._session = session
        self.view.constrains = "off"
        desk = self._desk()
        if desk is not None:
            self.chain_changed(desk.chain, desk.chain)
        self.catch_up()

    def end(self) -> None:
        self._rows.drop()
        self._both.drop()
        self._hindsight.drop()
        self._session = None
        self.view.put_to(None)
        self.view.constrains = ""

    def close(self) -> None:
        self._rows.close()
        self._both.close()
        self._hindsight.close()

    def show_or_hide(self, is_shown: bool) -> None:
        super().show_or_hide(is_shown)
        self.look_back()

    def look_back(self) -> None:
        """Find what the grammar would have forbidden of the text shown, if none was in force."""
        self._hindsight.find(is_wanted=self.is_shown and self._session is not None)

    def catch_up(self) -> None:
        if self.is_shown and self._session is not None and self.view.model is None:
            self.view.put_to(self._session.model)

    def request_changed(self) -> None:
        self._ask()

    def weights_changed(self) -> None:
        self._ask()

    def chain_changed(self, before: Chain, after: Chain) -> None:
        """Have the grammar be that of the chain, if it has one."""
        stage = _constrain_in(after)
        if stage is not None and stage.grammar != self.view.grammar:
            self.view.put_to(self.view.model, stage.grammar)
        self.view.constrains = "off" if stage is None else "on"

    def follow(self, run: Run) -> None:
        """Count what a run under a grammar writes among the texts tried."""
        written = weakly(self._written)
        run.when_done(lambda: written(run.trace))

    def settle(self) -> None:
        self._both.settle()
        self._rows.settle()
        self._hindsight.settle()
        self.view.settle()

    # Inside.

    def _changed(self) -> None:
        """Another grammar or text: the chain follows, and the model is asked."""
        desk = self._desk()
        stage = None if desk is None else _constrain_in(desk.chain)
        if desk is not None and stage is not None and stage.grammar != self.view.grammar:
            desk.editor.set(*_place_of(desk), grammar=self.view.grammar)
        if self.view.grammar != self._looked_back_with:
            self._looked_back_with = self.view.grammar
            self.look_back()
        self._ask()

    def use(self, on: bool) -> None:
        """Have the chain keep to the grammar, in a Constrain at its head, or no more."""
        desk = self._desk()
        if desk is None:
            return
        place = _place_of(desk)
        if not place:
            if on:
                desk.editor.add(Constrain(self.view.grammar))
            return
        if on:
            desk.editor.set(*place, grammar=self.view.grammar)
        desk.editor.toggle(*place, on)

    def run_both(self) -> None:
        """Run the prompt without the grammar and with it, with one seed, and compare the two."""
        desk = self._desk()
        if desk is None:
            return
        self.view.must_be_read()
        free = Chain([stage for stage in desk.chain if not isinstance(stage, Constrain)])
        runs = [desk.start(free), desk.start(Constrain(self.view.grammar) | free)]
        self._both.submit(lambda: desk.compare(runs, self._both.is_current))

    def _must_be_meant(self) -> None:
        """Refuse to run by a grammar that is not the one typed."""
        if self.view.constrains == "on":
            self.view.must_be_read()

    def _ask(self) -> None:
        """Find out what the model would say after the prompt and the text, once nobody types."""
        session, walk, desk = self._session, self.view.walk, self._desk()
        if session is None or walk is None or desk is None or not self.is_shown:
            return
        tokens = walk.tokens

        def look() -> None:
            if self._rows.is_current(REST):
                row = session.start_logits([*desk.prompt_tokens(), *tokens]).result()
                with self._lock:
                    if self._rows.is_current():
                        self.view.show_row(row)

        self._rows.submit(look)

    def _written(self, trace: Trace) -> None:
        if trace.schedule.constrains:
            self.view.add_text(trace.text)

    def _failed(self, error: Exception) -> None:
        """A run failed, which the run bar says."""

    def _row_failed(self, error: Exception) -> None:
        with self._lock:
            if self._rows.is_current():
                self.view.say_of_row(f"What the model would say is not known: {error}")


def _constrain_in(chain: Chain) -> Constrain | None:
    return next((stage for stage in chain if isinstance(stage, Constrain)), None)


def _place_of(desk: Desk) -> tuple[int] | tuple[()]:
    """The place of the first Constrain among the cards of the editor, on or off."""
    kinds = [card["stage"] for card in desk.editor.cards]
    return (kinds.index("Constrain"),) if "Constrain" in kinds else ()

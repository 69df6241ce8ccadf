"""What the grammar of a bench would have forbidden of a text that was written without one.

It is found aside, from what the trace kept, once nobody types; the session is never asked.
"""

from __future__ import annotations

import weakref

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.labs._costs import ended_text
from mullama_lab.labs._desk import Desk
from mullama_lab.studies.forbidden import forbidden
from mullama_lab.widgets.grammar_bench import GrammarBench

REST = 0.3  # seconds without a change before the text is gone through


class Hindsight:
    """Gives a desk's strip what a bench's grammar says of the text shown."""

    def __init__(self, desk: Desk, bench: GrammarBench) -> None:
        self._desk, self._bench = weakref.ref(desk), weakref.ref(bench)
        self._latest = LatestOnly("grammar-hindsight", _unknown)
        weakref.finalize(desk, self._latest.close).atexit = False

    def find(self, *, is_wanted: bool) -> None:
        """The text or the grammar is another one, or nobody looks at the grammar any more."""
        self._latest.drop()
        desk, bench = self._desk(), self._bench()
        if desk is None or bench is None:
            return
        desk.strip.withdraw("forbidden")
        trace = ended_text(desk)
        is_free = trace is not None and not trace.schedule.constrains
        if trace is None or not is_free or not is_wanted or bench.walk is None:
            return
        grammar, model, strip = bench.grammar, desk.session.model, desk.strip

        def work() -> None:
            if not self._latest.is_current(REST):
                return
            found = forbidden(trace, grammar, on=model)
            words = [
                f"forbidden: expected {expected}" if expected else "" for expected in found.expected
            ]
            if self._latest.is_current():
                strip.show_forbidden(trace, nats=found.nats, words=words, said=found.summary())
            if not self._latest.is_current():  # dropped in between
                strip.withdraw("forbidden")

        self._latest.submit(work)

    def settle(self) -> None:
        """Wait until it is shown."""
        self._latest.settle()

    def drop(self) -> None:
        """Forget what is under way."""
        self._latest.drop()

    def close(self) -> None:
        self._latest.close()


def _unknown(error: Exception) -> None:
    """It is not known, and the strip offers none."""

"""What adapters and vectors did to a text, measured aside once its run has ended.

It takes a batch of the text for each of the weights, in a session of its own that is closed again:
neither the cache nor a run of the session at work is touched. The effect is measured when its layer
is chosen, the gap of a stale text while the Adapters panel is shown.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.session import Session
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.stale import stale_spans
from mullama_lab.labs._costs import ended_text
from mullama_lab.labs._desk import Desk
from mullama_lab.studies.effect import Effect, effect_in, staleness_in
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets._rows_aside import session_aside

LAYER = "effect"
MEASURING = "the effect is being measured…"


class Measuring:
    """Asks a study of one trace at a time, the newest, in a session that it opens for that.

    Args:
        desk: at whose end it ends.
        name: of the thread.
        study: what is asked.
        tell: called with the trace and the answer, or with why there is none, on the thread.
    """

    def __init__(
        self,
        desk: Desk,
        name: str,
        study: Callable[..., Effect],
        tell: Callable[[Trace, Effect | Exception], object],
    ) -> None:
        self._study, self._tell = study, tell
        self.trace: Trace | None = None  # the one that is being measured
        self._own: Session | None = None
        self._latest = LatestOnly(name, weakly(self._failed))
        weakref.finalize(desk, self._latest.close).atexit = False

    def ask(self, trace: Trace, session: Session) -> None:
        """Measure this next, in place of what is being measured."""
        self.drop()
        self.trace = trace
        self._latest.submit(lambda: self._measure(trace, session))

    def drop(self) -> None:
        """Measure nothing more, and stop what is being measured."""
        self._latest.drop()
        own, self.trace = self._own, None
        if own is not None:
            own.close()

    def settle(self) -> None:
        self._latest.settle()

    def close(self) -> None:
        self.drop()
        self._latest.close()

    def _measure(self, trace: Trace, session: Session) -> None:
        with session_aside(session, len(trace.prompt_tokens) + len(trace)) as own:
            self._own = own
            if not self._latest.is_current():
                return
            answer = self._study(trace, on=own)
        self._own = None
        if self._latest.is_current():
            self.trace = None
            self._tell(trace, answer)

    def _failed(self, error: Exception) -> None:
        trace = self.trace
        if trace is not None and self._latest.is_current():
            self.trace = None
            self._tell(trace, error)


class Effects:
    """Gives a desk's strip the effect of what acted on the text that it shows, once it is asked."""

    def __init__(self, desk: Desk) -> None:
        self._desk = weakref.ref(desk)
        self._measuring = Measuring(desk, LAYER, effect_in, weakly(self._show))

    def find(self) -> None:
        """The strip shows another text or layer, or its text has ended."""
        desk = self._desk()
        trace = None if desk is None else ended_text(desk)
        if desk is None or trace is None or not _acted_on(trace):
            self._measuring.drop()
        elif desk.strip.layer != LAYER:
            self._measuring.drop()
            if not desk.strip.has(LAYER):
                desk.strip.offer_effect(trace)
        elif not desk.strip.has(LAYER):
            desk.strip.offer_effect(trace, MEASURING)
            self._measuring.ask(trace, desk.session)

    def settle(self) -> None:
        """Wait until the effect is shown, if it was asked for."""
        self._measuring.settle()

    def close(self) -> None:
        self._measuring.close()

    def _show(self, trace: Trace, found: Effect | Exception) -> None:
        desk = self._desk()
        if desk is None:
            return
        if isinstance(found, Exception):
            desk.strip.offer_effect(trace, f"effect n/a: {found}")
            return
        over = " over an exact cache" if stale_spans(trace) else ""
        desk.strip.show_effect(
            trace,
            kl=found.kl,
            base_logprob=found.base_logprob,
            base_best=np.where(found.base_best != found.tokens, found.base_best, -1),
            said=f"effect{over}: {found.summary()}",
        )


class Gaps:
    """Measures what a stale cache did to texts, and says it; each text once.

    Args:
        changed: called, on any thread, when more is known.
    """

    def __init__(self, desk: Desk, changed: Callable[[], object]) -> None:
        self._changed = changed
        self._known: list[tuple[weakref.ref[Trace], str]] = []
        self._measuring = Measuring(desk, "staleness", staleness_in, weakly(self._learn))

    def of(self, trace: Trace, session: Session) -> str:
        """The gap of a text that has ended, in words; "" until it is known."""
        for known, words in self._known:
            if known() is trace:
                return words
        if self._measuring.trace is not trace:
            self._measuring.ask(trace, session)
        return ""

    def settle(self) -> None:
        self._measuring.settle()

    def drop(self) -> None:
        self._measuring.drop()

    def close(self) -> None:
        self._measuring.close()

    def _learn(self, trace: Trace, found: Effect | Exception) -> None:
        still_there = [one for one in self._known if one[0]() is not None]
        self._known = [*still_there, (weakref.ref(trace), gap_in_words(found))]
        self._changed()


def gap_in_words(found: Effect | Exception) -> str:
    """ "The gap to an exact cache is 0.031 nats at most, 0.004 on average (noise up to 2e-05)." """
    if isinstance(found, Exception):
        return f"The gap to an exact cache is n/a: {found}"
    noise = "" if found.floor is None else f" (noise up to {found.floor.kl:.2g})"
    return (
        f"The gap to an exact cache is {found.most:.2g} nats at most, "
        f"{found.mean:.2g} on average{noise}."
    )


def _acted_on(trace: Trace) -> bool:
    """Whether anything acted on the weights at a step of a trace."""
    return any(one.steering != Steering() for _, one in trace.in_force)

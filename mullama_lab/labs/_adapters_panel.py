"""The panel of what acts on the weights: adapters and control vectors, turned while a text runs.

A vector that is learnt here gets a card, on which its layers are chosen by how well they do.

What is turned is put in force aside, for a session takes it between two batches. A text that is
under way then goes on over a cache that other weights computed: that is said until it is run anew.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from mullama_lab.engine.gguf.fingerprint import fingerprint_of
from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting, between_steerings
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.steering import Steering, Weights
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.stale import stale_spans
from mullama_lab.errors import ContextFull, MullamaError
from mullama_lab.labs._desk import Desk
from mullama_lab.labs._effects import Gaps
from mullama_lab.labs._learning import Learning
from mullama_lab.labs._panel import Panel
from mullama_lab.studies.control_vectors import Training
from mullama_lab.widgets import AdapterCards, BlendPad, Dial, VectorTrainer
from mullama_lab.widgets._endings import row_at
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets._view import View

SIDES = {"dial": "Dial", "pad": "Pad"}  # what may stand beside the cards
STALE = "The text under way goes on over a cache of the weights before (stale)."
CHANGED = "The weights changed while this text was written."
NO_ROOM = (
    "it goes on stale: to decode it anew there is no room beside the other sequences of the "
    "session. Remove one with session.remove(sequence), or open the session with a larger n_ctx."
)
AS_IN_FORCE = "Run makes it anew with those in force."


class AdaptersPanel(Panel):
    """Keeps the cards and the weights of a session alike.

    Args:
        changed: called, on any thread, when other weights came into force.
    """

    key, title = "adapters", "Adapters"

    def __init__(self, desk: Desk, changed: Callable[[], object]) -> None:
        self._desk, self._changed = weakref.ref(desk), changed
        self.cards, self.dial, self.pad = AdapterCards(), Dial(), BlendPad()
        self.trainer = VectorTrainer()
        self.trainer.unfolded = False
        self.views = (self.cards, self.trainer, self.dial, self.pad)
        self._session: Session | None = None
        self._at: tuple[Trace, int] | None = None  # the step that the dial stands at
        self._runs = weakref.WeakValueDictionary[int, Run]()  # by the id of the trace
        self._weights = LatestOnly("weights", weakly(self._failed))
        self._both = LatestOnly("weights-both", _run_failed)
        self._learning = Learning(self.trainer, weakly(self._learnt), desk)
        self.cards.must_fit_with(weakly(self._must_fit))
        self.cards.observe(weakly(self._asked), "steering")
        self.cards.observe(weakly(self._aim), ["cards", "chosen", "side"])
        self.cards.on_run_both(weakly(self.run_both))
        self.cards.on_exact(weakly(self.decode_anew))
        self.dial.on_turn(weakly(self._dialled))
        self.pad.on_turn(weakly(self._blended))
        self._place_views()
        desk.runs_after(self._weights.settle)
        self._gaps = Gaps(desk, weakly(self._say))
        for aside in (self._weights, self._both):
            weakref.finalize(desk, aside.close).atexit = False

    def begin(self, session: Session) -> None:
        self._session = session
        if session.steering != Steering():
            self.cards.take(session.steering)
        self.cards.names = _names_for(session.model)
        self.cards.fit()
        self._learning.begin(session)
        self._aim()
        self._asked()
        self._weights.settle()

    def end(self) -> None:
        self._learning.end()
        self._both.drop()
        self._gaps.drop()
        self._weights.drop()
        self._weights.settle()
        self._session = self._at = None
        self.cards.say("")
        self.dial.clear()
        self.pad.clear()

    def close(self) -> None:
        self._learning.close()
        self._both.close()
        self._gaps.close()
        self._weights.close()

    @property
    def still_views(self) -> tuple[View, ...]:
        beside = self.pad if self.dial.layout.display == "none" else self.dial
        return self.cards, beside  # the form of what may be learnt is no result

    def show_or_hide(self, is_shown: bool) -> None:
        super().show_or_hide(is_shown)
        if not is_shown:
            self.pad.clear()

    def catch_up(self) -> None:
        self._take_over()
        self._aim()
        self._say()

    def request_changed(self) -> None:
        self.turn_to(None, 0)

    def turn_to(self, trace: Trace | None, step: int) -> None:
        self._at = None if trace is None else (trace, step)
        self._aim()

    def follow(self, run: Run) -> None:
        self._gaps.drop()
        self._runs[id(run.trace)] = run
        self._take_over()
        self._stay_at(run.trace)
        say = weakly(self._say)
        run.when_done(lambda: say())
        self.pad.let_first(run)
        self._say()

    def show(self, trace: Trace | None) -> None:
        self._stay_at(trace)
        self._say()

    def stop(self) -> None:
        self._learning.stop()

    def settle_weights(self) -> None:
        """Wait until those on the cards are in force; what shows them may be on its way."""
        self._weights.settle()

    def settle(self) -> None:
        self._learning.settle()
        self.cards.settle()
        self._both.settle()
        self.settle_weights()
        self._say()  # the end of a run may still be on its way here
        self._gaps.settle()
        self.dial.settle()
        self.pad.settle()

    def run_both(self) -> None:
        """Run the prompt by the model as it is and by what is on, with one seed, and compare."""
        desk, on = self._desk(), self.cards.steering
        if desk is None:
            return
        chain = desk.chain
        runs = [desk.start(Setting(chain)), desk.start(Setting(chain, on.adapters, on.control))]
        self._both.submit(lambda: desk.compare(runs, self._both.is_current))

    def bring_back(self, steering: Steering) -> None:
        """Have what acted before act again, on the cards and in the session.

        Raises:
            ModelFileError, ModelLoadError, ValueError: it does not fit the model, or is gone.
        """
        self.cards.take(steering)
        self._asked()

    def decode_anew(self) -> None:
        """Have the weights in force compute what a text that is under way has so far."""
        self._weights.submit(weakly(self._make_exact))

    # Inside.

    def _learnt(self, trained: Training) -> None:
        """Put a vector that was learnt here on a card, which the dial then shows."""
        self.cards.add(trained)
        self.trainer.unfolded = False

    def _must_fit(self, steering: Steering) -> None:
        session = self._session
        if session is not None:
            Weights.of(steering, session.model)

    def _asked(self, _: object = None) -> None:
        """Have what the cards say put in force, unless it is."""
        session = self._session
        is_there = session is not None and session.steering == self.cards.steering
        if self._weights.is_busy or not is_there:
            self._weights.submit(weakly(self._put_in_force))

    def _aim(self, _: object = None) -> None:
        """Show what the cards do that are looked at, beside the others that are on."""
        desk, session, view = self._desk(), self._session, self._place_views()
        if desk is None or session is None or not self.is_shown:
            return
        try:
            tokens = desk.prompt_tokens()
            (self._aim_pad if view is self.pad else self._aim_dial)(session, tokens)
        except (MullamaError, ValueError) as error:
            view.clear()
            view.fail(error)

    def _place_views(self) -> Dial | BlendPad:
        """Have the dial or the pad stand beside the cards; the other one computes nothing."""
        cards = self.cards
        cards.sides = SIDES if len(cards.cards) > 1 else {}
        is_pad = bool(cards.sides) and cards.side == "pad"
        view, other = (self.pad, self.dial) if is_pad else (self.dial, self.pad)
        other.clear()
        other.layout.display, view.layout.display = "none", None
        return view

    def _aim_dial(self, session: Session, tokens: list[int]) -> None:
        lever = self.cards.chosen_lever
        if lever is None:
            self.dial.clear()
            return
        at = self._at
        tokens = tokens if at is None else at[0].history(at[1]).tolist()
        others, where = self.cards.without(lever), "" if at is None else row_at(*at)
        self.dial.put_to(
            lever.what, session, tokens, strength=lever.scale, others=others, where=where
        )

    def _stay_at(self, trace: Trace | None) -> None:
        """Have the dial stay where another text has the same before it, or turn back."""
        if self._at is None or self._at[0] is trace:
            return
        before, step = self._at
        there = [] if trace is None or step >= len(trace) else trace.history(step).tolist()
        self.turn_to(trace if there == before.history(step).tolist() else None, step)

    def _dialled(self, strength: float) -> None:
        lever = self.cards.chosen_lever
        if lever is not None and lever.what == self.dial.what and lever.scale != strength:
            self.cards.set(lever.key, strength)

    def _aim_pad(self, session: Session, tokens: list[int]) -> None:
        pair = self.cards.pair
        if not pair:
            self.pad.clear()
            return
        (first, x), (second, y) = ((one.what, one.scale) for one in pair)
        others = self.cards.without(*pair)
        self.pad.put_to(first, second, session, tokens, at=(x, y), others=others)

    def _blended(self, x: float, y: float) -> None:
        pair = self.cards.pair
        if tuple(one.what for one in pair) == self.pad.levers:
            self.cards.set_many(dict(zip((one.key for one in pair), (x, y), strict=True)))

    def _take_over(self) -> None:
        """Have the cards say what a cell has put in force."""
        session = self._session
        if session is None or self._weights.is_busy or session.steering == self.cards.steering:
            return
        self.cards.take(session.steering)
        self._say()
        self._changed()

    def _put_in_force(self) -> None:
        session, wanted = self._session, self.cards.steering
        if session is None:
            return
        before = session.steering
        if (wanted.adapters, wanted.control) != (before.adapters, before.control):
            session.steer(Setting(None, wanted.adapters, wanted.control))
        if session.steering == before:
            return
        session.give_way()
        self._say()
        self._changed()

    def _make_exact(self) -> None:
        session, run, wanted = self._session, self._run_shown, self.cards.steering
        if session is None:
            return
        if run is not None and run.has_own_weights:
            n = len(run.trace)
            run.steer(run.setting, exact=True)
            run.step_or_end(n + 1)  # the row of step n may have been under way
        else:
            session.steer(Setting(None, wanted.adapters, wanted.control), exact=True)
        self._say()
        self._changed()
        if run is not None and not run.done and run.trace.in_force[-1][1].stale:
            raise ContextFull(NO_ROOM)

    @property
    def _run_shown(self) -> Run | None:
        """The run whose text the strip shows, if it was followed here."""
        desk = self._desk()
        return None if desk is None else self._runs.get(id(desk.strip.trace))

    def _failed(self, error: Exception) -> None:
        """Say why it is not in force, and have the cards say what is."""
        session = self._session
        if session is not None:
            self.cards.take(session.steering)
        self.cards.fail(error)

    def _say(self) -> None:
        """Say whether the text that is shown is one of the weights in force."""
        desk, session = self._desk(), self._session
        if desk is not None and session is not None:
            desk.weights = self.cards.in_force
            trace, steering = desk.strip.trace, session.steering
            words, advice, may_be_exact = _of_text(trace, steering)
            if trace is not None and trace.finish_reason and stale_spans(trace) and self.is_shown:
                words = f"{words} {self._gaps.of(trace, session)}".strip()
            is_run = self._run_shown is not None
            self.cards.say(words, advice, is_stale=may_be_exact and is_run)


def _names_for(model: Model) -> list[str]:
    """The vectors of the library that were learnt on a model."""
    own = fingerprint_of(model)
    return [name for name, card in ControlVector.library().items() if card.model == own]


def _run_failed(error: Exception) -> None:
    """A run failed, which the run bar says."""


def _of_text(trace: Trace | None, steering: Steering) -> tuple[str, str, bool]:
    """What is to be said of a text beside the weights in force; "" if it is of these alone.

    The second is what Run would do about it, the third whether decoding it anew would make the
    first untrue.
    """
    if trace is None:
        return "", "", False
    _, last = trace.in_force[-1]
    if trace.finish_reason and (len(trace.in_force) > 1 or last.stale):
        return CHANGED, AS_IN_FORCE, False
    if last.stale:
        return STALE, "", True
    if last.steering == steering:
        return "", "", False
    words = ", ".join(between_steerings(Steering(), last.steering))
    return f"The text is by the model {words or 'as it is'}.", "Run writes it anew.", False

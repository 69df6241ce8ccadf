"""Generation: a lane whose tokens are drawn.

Between two batches only the draw comes; what is recorded of a step is worked out while the next
batch is decoded. A lane waits for its record before it draws again. Where decoding takes every
core, a second thread would stall it: there a step is recorded at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.loop.drawing import Draw, Drawing, Learnt
from mullama_lab.engine.loop.lane import Due, Lane, Place
from mullama_lab.engine.loop.news import News
from mullama_lab.engine.loop.stops import Stops, StopSearch
from mullama_lab.engine.native import Logits
from mullama_lab.engine.options import Stop, token_limit
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.schedule import Schedule
from mullama_lab.engine.stages.stage_sampler import Start
from mullama_lab.engine.text import Text
from mullama_lab.engine.trace import Trace

if TYPE_CHECKING:
    from mullama_lab.engine.cache import Cache
    from mullama_lab.engine.cache.ledger import Counts
    from mullama_lab.engine.loop.recorder import Recorder
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.steering.steering import Steering, Weights


@dataclass(frozen=True)
class Limits:
    """When a generation ends by itself."""

    max_tokens: int
    stops: Stops = field(default_factory=Stops)

    @classmethod
    def of(cls, model: Model, max_tokens: int, stop: Stop) -> Limits:
        """The limits a caller gives; ValueError or TypeError if they are none."""
        return cls(token_limit(max_tokens), Stops.of(model, stop))


class Generation(Lane[Trace]):
    """One text being generated.

    Sets `trace.finish_reason`: length, eog, stop (a stop string or token), complete (for a stage,
    as a grammar), stopped (on request), context (no room left) or failed.

    Args:
        trace: its prompt is what the text begins with, and its steps, if it has some.
        weights: of its own, each with the step from which on they compute it; none is those of
            the session.
        chains: may become others on the way, those that `must_fit` takes.

    Attributes:
        turn: a lock held while a token is drawn; its holder sees text and chains that fit together.
        news: tells of prompt tokens that are done, of each step, and of the end.
        on_step: what is called, with nothing, when the trace has one step more, and at its end.
    """

    _counts: Counts  # of its cache

    def __init__(
        self,
        model: Model,
        trace: Trace,
        chains: Schedule,
        limits: Limits,
        owner: object = None,
        *,
        place: int | Place = Place.HOME,
        weights: Sequence[tuple[int, Weights]] = (),
    ) -> None:
        chains.check(model)
        own = weights[0][1] if weights else None
        super().__init__(self._text_of(trace), owner, place=place, own=own)
        self.model, self.trace, self.chains, self.limits = model, trace, chains, limits
        self.turn = usable_in_forks(threading.RLock())
        self.progress = (0, len(trace.prompt_tokens))
        self.news = News()
        self.on_step: list[Callable[[], None]] = []
        self.n_steps = len(trace)  # also the one whose record is under way
        self.stops = StopSearch(limits.stops)
        self.learnt: Learnt = Chain(), ()  # what stages know of the text before
        self._later = deque(Due(*one) for one in weights[1:])
        self._changing = usable_in_forks(threading.Lock())  # the chains, and what is due
        self._began = self._last_drawn = 0
        self._n_had = 0  # positions of its prompt that the cache had
        self._records_aside = True
        self._draw: Draw | None = None  # not yet recorded
        self._record: Future[None] | None = None  # under way
        self._drawing: Drawing | None = None

    @staticmethod
    def _text_of(trace: Trace) -> Text:
        text = Text(trace.prompt_tokens.tolist())
        text.extend(trace.tokens.tolist(), generated=True)
        return text

    @property
    def n_left(self) -> int:
        """How many tokens it may still add."""
        return max(0, self.limits.max_tokens - self.n_steps)

    def masks_to_be(self, chains: Schedule) -> list[Stage]:
        """What will say which tokens the text so far allows, and does not yet."""
        step = len(self.determined) - len(self.trace.prompt_tokens)
        now, soon = self.chains.at(step), self.wanted[0].at(step)
        masks = [stage for stage in chains.at(step) if stage.masks_rows and not stage.why_inert()]
        return [stage for stage in masks if stage not in now or stage not in soon]

    def must_fit(self, chains: Schedule) -> None:
        """Refuse chains that cannot draw the next token; with `masks_to_be` only in its `turn`.

        Raises:
            ValueError: one does not fit the model.
            GrammarBroken: the text so far is no beginning of what a stage allows.
        """
        chains.check(self.model)
        history = self.determined
        step = len(history) - len(self.trace.prompt_tokens)
        start = Start(self.model, history, step, 0, 0, ())
        for stage in [] if self.ended else self.masks_to_be(chains):
            sampler: Any = stage.sampler(start)
            sampler.allowed  # noqa: B018, which raises where there is nothing to go on from

    @property
    def wanted(self) -> tuple[Schedule, Steering]:
        """The chains that were set last, and what acts on the weights of the next row."""
        with self._changing:
            if (due := self._due) is not None:
                return due.chains or self.chains, due.weights.steering
            return self.chains, self._acting

    @property
    def has_own_weights(self) -> bool:
        """Whether weights of its own compute it, now or from a later step on."""
        with self._changing:
            return self.own is not None or bool(self._later)

    def change(
        self, chains: Schedule, weights: Weights | None = None, *, exact: bool = False
    ) -> None:
        """Have others draw from the next token on.

        Args:
            chains: that `must_fit`; with `masks_to_be` only in its `turn`.
            weights: others that compute it. A row may be under way: then both begin with the next
                one, but for what masks rows, which has to know of every token from now on.
            exact: whether they compute anew what there is so far. What waits for that still does
                when others are set meanwhile. Of weights that act already that is all, so that
                those of later steps still come.
        """
        masks = self.masks_to_be(chains)
        with self._changing:
            due = self._due
            if weights is not None:
                acting = self._acting if due is None else due.weights.steering
                is_other = weights.steering != acting
                waits = not masks and (due is not None or is_other)
                stay = [] if is_other or not exact else self._later
                exact = exact or (due is not None and due.exact)
                new = Due(0, weights, exact, chains if waits else None)
                self._later = deque([new, *(one for one in stay if one.step > self.n_steps)])
            else:
                waits = not masks and due is not None and due.chains is not None
                if due is not None:
                    self._later[0] = due._replace(chains=chains if waits else None)
            if not waits:
                self.chains = chains

    @property
    def _acting(self) -> Steering:
        """What acts on the weights of the newest row."""
        return self.own.steering if self.own else self.trace.in_force[-1][1].steering

    @property
    def _due(self) -> Due | None:
        later = self._later
        return later[0] if later and later[0].step <= self.n_steps else None

    @property
    def determined(self) -> list[int]:
        """The tokens before the next that is drawn."""
        return self.text.tokens

    # What the scheduler tells it.

    def admit(self, cache: Cache) -> None:
        self._began = self._last_drawn = perf_counter_ns()
        self.trace.change_weights(self.weights_in(cache).steering)

    def prepared(self, cache: Cache) -> None:
        self._n_had, self._counts = self.n_done, cache.counts
        self._records_aside = self.trace.captured_aside = cache.leaves_a_core
        self._tell_progress()

    def advanced(self) -> None:
        self._tell_progress()

    def take_due(self) -> Due | None:
        if not self._later:
            return None
        with self._changing:
            if (due := self._due) is None:
                return None
            self._later.popleft()
            self.chains, self.own = due.chains or self.chains, due.weights
            return due

    def change_weights(self, steering: Steering, epoch: str) -> None:
        super().change_weights(steering, epoch)
        try:
            self._settle()  # the steps that are drawn came of the weights before
        except Exception as error:
            self.finish("failed", error)
        self.trace.change_weights(steering, stale=self.text.is_mixed)

    def take(self, row: Logits, decode_ns: int) -> None:
        """Draw a token from a row; ends the lane if it was the last."""
        if self._drawing is None:
            self._note_prompt()
            if self.n_left <= 0:
                self.finish("length")
                return
            decode_ns = perf_counter_ns() - self._began
            self._drawing = Drawing(
                self.model, self.trace, self.learnt, copies_rows=self._records_aside
            )
        self._settle()
        with self.turn:
            reason = self._draw_next(row, decode_ns)
        if not self._records_aside:
            self._settle()
        if reason:
            self.finish(reason)

    def _draw_next(self, row: Logits, decode_ns: int) -> str:
        """Draw a token and go on with it; or why the text ends."""
        assert self._drawing is not None
        if self._drawing.has_ended(self.chains.at(len(self.trace))):
            return "complete"
        draw = self._drawing.draw(row, decode_ns, canonical=self.canonical)
        now = perf_counter_ns()
        draw.seconds, draw.wall_ns = (now - self._began) / 1e9, now - self._last_drawn
        self._last_drawn = now
        draw.ahead = self.ahead[:1] == [draw.token]
        self.ahead = self.ahead[1:] if draw.ahead else []
        self.n_steps += 1
        self._counts.generated += 1
        self._draw = draw
        reason = self._reason_to_end(draw)
        if not reason:
            self.text.extend((draw.token,), generated=True)
            if not self.ahead:
                forced = self._drawing.forced
                self.foreseen = forced[: self._n_foreseen_at_most] if forced else []
        return reason

    @property
    def _n_foreseen_at_most(self) -> int:
        """How many tokens may be decoded with the newest.

        Each needs a draw, and so does the row after the last, which the same weights compute.
        """
        with self._changing:
            n_same = self._later[0].step - self.n_steps if self._later else self.n_left
        return max(0, min(self.n_left, n_same) - 1)

    def record(self, recorder: Recorder) -> None:
        draw, self._draw = self._draw, None
        if draw is not None:
            try:
                self._record = recorder.do(lambda: self._write(draw))
            except Exception as error:
                self.finish("failed", error)

    # How it ends.

    def finish(self, reason: str, error: BaseException | None = None) -> None:
        if self.ended:
            return
        trace = self.trace
        try:
            self._settle()
            trace.remember_pieces()
        except SystemExit:  # the interpreter ends, and with it this thread
            pass
        except Exception as failure:
            reason, error = "failed", error or failure
        if reason != "stop":  # nothing more can come of what may have been a stop string
            trace.end_text(None)
        trace.finish_reason = reason
        self.ended = True
        try:
            for tell in self.on_step:
                tell()
        finally:
            if error is None:
                self.end(trace)
            else:
                self.fail(error)
            self.news.tell()

    def outcome(self) -> Trace:
        return self.trace

    # Inside.

    def _tell_progress(self) -> None:
        total = len(self.text)
        self.progress = (self.n_done, total)
        self.news.tell()

    def _note_prompt(self) -> None:
        """The prompt is done: note what it cost."""
        trace, n = self.trace, len(self.text)
        trace.prompt_seconds = (perf_counter_ns() - self._began) / 1e9
        trace.n_prompt_reused = self._n_had
        trace.n_prompt_decoded = n - self._n_had

    def _write(self, draw: Draw) -> None:
        """Append the step of a draw to the trace."""
        trace = self.trace
        assert self._drawing is not None
        self._drawing.record(draw)
        trace.seconds = draw.seconds
        if trace.seconds_to_first_token is None:
            trace.seconds_to_first_token = draw.seconds
            self._counts.first_token = perf_counter_ns(), draw.seconds
        for tell in self.on_step:
            tell()
        self.news.tell()

    def _settle(self) -> None:
        """Have every draw recorded; raises what went wrong with that."""
        record, self._record = self._record, None
        if record is not None:
            record.result()
        draw, self._draw = self._draw, None
        if draw is not None:
            self._write(draw)

    def reason_in_text(self, token: int) -> str:
        """Why the newest token ends the text, if it does."""
        end = self.stops.find(token, self.model.piece(token, special=False))
        self.trace.end_text(self.stops.n_safe if end is None else end)
        if end is not None:
            return "stop"
        return "eog" if self.model.is_eog(token) else ""

    def _reason_to_end(self, draw: Draw) -> str:
        if reason := self.reason_in_text(draw.token):
            return reason
        if draw.has_ended:
            return "complete"
        if self.stop_requested:
            return "stopped"
        return "length" if self.n_left <= 0 else ""

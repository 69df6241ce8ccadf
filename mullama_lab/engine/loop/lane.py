"""Generate tokens, one step at a time: the one loop.

logits -> chain -> token -> step -> decode. The loop knows token ids and logits; it knows no
templates, threads or widgets. It drives any number of lanes, one text each: every lane draws
its token, then one batch decodes them all. Plain, streamed and background generation are one
lane; seeds, sweeps and branches are more.

What is recorded of a step is worked out on a thread of its own, while the next token is decoded;
only the draw comes between two decodes. A lane waits for its record before it draws again. Where
decoding takes every core, a second thread would stall it, and the record is made in between too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.cache import Context
from mullama_lab.engine.loop.drawing import Draw, Drawing, Learnt
from mullama_lab.engine.loop.stops import Stops, StopSearch
from mullama_lab.engine.options import Stop, token_limit
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.worker import helping_here
from mullama_lab.errors import MullamaError, Stopped

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

T = TypeVar("T")
Logits = NDArray[np.float32]  # (n_vocab,)
LANE_ERRORS = (MullamaError, ValueError)  # what a chain or a prompt can bring about


class Controls(Protocol):
    """What the loop asks and tells of one lane while it works."""

    @property
    def chain(self) -> Chain: ...
    @property
    def stop_requested(self) -> bool: ...
    def _read_prompt(self, done: int, total: int) -> None: ...
    def _made_step(self) -> None: ...
    def _made_last(self, error: BaseException | None) -> None: ...


@dataclass(frozen=True)
class Limits:
    """When a generation ends by itself."""

    max_tokens: int
    stops: Stops = field(default_factory=Stops)

    @classmethod
    def of(cls, model: Model, max_tokens: int, stop: Stop) -> Limits:
        """The limits a caller gives; ValueError or TypeError if they are none."""
        return cls(token_limit(max_tokens), Stops.of(model, stop))


class Lane:
    """One text being generated.

    Sets `trace.finish_reason`: length, eog, stop (a stop string or token), stopped (on request),
    context (no room left) or failed.

    Args:
        sequence: where its tokens live in the cache; None takes whichever may be overwritten.
    """

    def __init__(
        self,
        model: Model,
        trace: Trace,
        controls: Controls,
        limits: Limits,
        sequence: int | None = None,
    ) -> None:
        self.model, self.trace, self.controls, self.limits = model, trace, controls, limits
        self.sequence = -1 if sequence is None else sequence
        self.token = -1
        self.error: BaseException | None = None
        self.n_steps = len(trace)  # also the one whose record is under way
        self.stops = StopSearch(limits.stops)
        self.learnt: Learnt = Chain(), ()  # what stages know of the text before
        self._began = 0
        self._draw: Draw | None = None  # not yet recorded
        self._record: Future[None] | None = None  # under way

    @property
    def tokens(self) -> list[int]:
        """What the cache must hold before the first draw."""
        return self.trace.history(len(self.trace)).tolist()

    @property
    def n_left(self) -> int:
        """How many tokens it may still add."""
        return self.limits.max_tokens - self.n_steps

    def begin(self, context: Context, first_row: FirstRow) -> None:
        """Process the prompt and draw the first token."""
        began = self._began = perf_counter_ns()
        try:
            row = self.prepare(context, first_row)
            self.trace.prompt_seconds = (perf_counter_ns() - began) / 1e9
            self.n_steps = len(self.trace)
            self._drawing = Drawing(self.model, self.trace, self.learnt)
        except Stopped:
            if context.stop:  # not this lane alone
                raise
            self.end(context, "stopped")
        except LANE_ERRORS as error:
            self.end(context, "failed", error)
        else:
            if row is not None and self.n_left <= 0:
                self.end(context, "length")
            elif row is not None:
                self.step(context, row, perf_counter_ns() - began)

    def step(self, context: Context, row: Logits, decode_ns: int) -> None:
        """Draw a token from a row; ends the lane if it was the last."""
        try:
            self._settle()
            draw = self._drawing.draw(row, self.controls.chain, decode_ns)
        except LANE_ERRORS as error:
            self.end(context, "failed", error)
            return
        draw.seconds = (perf_counter_ns() - self._began) / 1e9
        self.token = draw.token
        self.n_steps += 1
        self._draw = draw
        if reason := self._reason_to_end():
            self.end(context, reason)

    def end(self, context: Context, reason: str, error: BaseException | None = None) -> None:
        """Say why it ended."""
        try:
            self._settle()
        except Exception as failure:
            reason, error = "failed", error or failure
        trace = self.trace
        if self.sequence in context.sequences:
            context.sequences[self.sequence].at_work = False
        self.error = error
        trace.remember_pieces()
        if reason != "stop":  # nothing more can come of what may have been a stop string
            trace.end_text(None)
        trace.finish_reason = reason
        self.controls._made_last(error)

    def record(self, recorder: Executor) -> None:
        """Have the newest draw recorded."""
        draw, self._draw = self._draw, None
        if draw is not None:
            try:
                self._record = recorder.submit(self._write, draw)
            except RuntimeError:  # the main thread has ended, and no pool takes anything any more
                self._write(draw)

    def _write(self, draw: Draw) -> None:
        trace = self.trace
        self._drawing.record(draw)
        trace.seconds = draw.seconds
        if trace.seconds_to_first_token is None:
            trace.seconds_to_first_token = draw.seconds
        self.controls._made_step()

    def _settle(self) -> None:
        """Have every draw recorded; raises what went wrong with that."""
        record, self._record = self._record, None
        if record is not None:
            record.result()
        draw, self._draw = self._draw, None
        if draw is not None:
            self._write(draw)

    def prepare(self, context: Context, first_row: FirstRow) -> Logits | None:
        """Let the cache hold the tokens before the first draw; the row after them.

        None if it came to its end before that.
        """
        self.take_sequence(context)
        tokens, trace, before = self.tokens, self.trace, context.n_decoded
        row = first_row.after(tokens, self.sequence, self._on_prompt)
        trace.n_prompt_decoded = context.n_decoded - before
        trace.n_prompt_reused = len(tokens) - trace.n_prompt_decoded
        return row

    def take_sequence(self, context: Context) -> None:
        """Settle where the lane works."""
        if self.sequence < 0:
            self.sequence = context.take(self.tokens)
        context.sequences.use(self.sequence).at_work = True

    def reason_in_text(self) -> str:
        """Why the newest token ends the text, if it does."""
        end = self.stops.find(self.token, self.model.piece(self.token, special=False))
        self.trace.end_text(self.stops.n_safe if end is None else end)
        if end is not None:
            return "stop"
        return "eog" if self.model.is_eog(self.token) else ""

    def _on_prompt(self, done: int, total: int) -> None:
        if self.controls.stop_requested:
            raise Stopped(f"stopped after {done} tokens.")
        self.controls._read_prompt(done, total)

    def _reason_to_end(self) -> str:
        if reason := self.reason_in_text():
            return reason
        if self.controls.stop_requested:
            return "stopped"
        return "length" if self.n_left <= 0 else ""


class FirstRow:
    """The rows after prompts: computed once for lanes with the same prompt, one after another."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.shared: list[int] | None = None  # the prompt that more lanes will ask for
        self._tokens: list[int] = []
        self._row: Logits | None = None

    def after(
        self, tokens: list[int], sequence: int, progress: Callable[[int, int], None]
    ) -> Logits:
        """Let a sequence hold a prompt; the row after it."""
        context = self.context
        if self._row is not None and tokens == self._tokens and context.copies:
            context.hold(tokens, sequence, progress)
            return self._row
        self._row = None
        row = context.prefill(tokens, sequence, progress)
        if tokens == self.shared:
            self._tokens, self._row = tokens, row.copy()
        return row


def generate(context: Context, lanes: Sequence[Lane]) -> None:
    """Append step after step to the traces of all lanes until each has ended.

    As many lanes run side by side as there are sequences for, and as fit with all the tokens
    they may add; the others follow as room comes free. What goes wrong in one lane, such as a
    chain that leaves no token, ends that lane and is its `error`; the first is raised at the
    end. What goes wrong in the context ends them all and is raised.
    """
    waiting = deque(_grouped(lanes))
    active: list[Lane] = []
    first_row = FirstRow(context)
    recorder: Executor = _AtOnce()
    if context.leaves_a_core:
        recorder = ThreadPoolExecutor(1, "mullama_lab record", helping_here())
    try:
        while waiting or active:
            while waiting and _may_begin(context, waiting[0], active):
                lane = waiting.popleft()
                active.append(lane)
                first_row.shared = waiting[0].tokens if waiting else None
                lane.begin(context, first_row)
                active = _going(active)
            active.sort(key=_by_sequence)
            active = _decode(context, active, recorder)
    except BaseException as error:
        stopped = isinstance(error, Stopped)
        for lane in (*active, *waiting):
            if not lane.trace.finish_reason:
                lane.end(context, "stopped" if stopped else "failed", None if stopped else error)
        if not stopped:
            raise
    finally:
        recorder.shutdown()
    for lane in lanes:
        if lane.error is not None:
            raise lane.error


def _decode(context: Context, active: list[Lane], recorder: Executor) -> list[Lane]:
    """One token more for each lane; those that go on after it."""
    full = context.without_room([lane.sequence for lane in active])
    for lane in active:
        if lane.sequence in full:
            lane.end(context, "context")
    if full:
        active = _going(active)
    if not active:
        return active
    for lane in active:  # last before the decode, which leaves Python to the recorder
        lane.record(recorder)
    context.give_way()
    start = perf_counter_ns()
    rows = context.advance([(lane.sequence, lane.token) for lane in active])
    decode_ns = perf_counter_ns() - start
    for lane, row in zip(active, rows, strict=True):
        lane.step(context, row, decode_ns)
    return _going(active)


class _AtOnce(Executor):
    """Does what is submitted at once, on this thread."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _may_begin(context: Context, lane: Lane, active: Sequence[Lane]) -> bool:
    """Whether a lane can begin now without taking the room that others may need."""
    if not active:
        return True
    if context.sequences.free_id() is None and not context.sequences.replaceable():
        return False
    if not context.sequences.shared:
        return True
    promised = sum(other.n_left for other in active)
    return context.room_beside(lane.tokens) >= promised + lane.n_left


def _grouped(lanes: Sequence[Lane]) -> list[Lane]:
    """Lanes with the same prompt side by side, in the order in which prompts first come."""
    if len(lanes) < 3:
        return list(lanes)
    first: dict[tuple[int, ...], int] = {}
    places = [first.setdefault(tuple(lane.tokens), i) for i, lane in enumerate(lanes)]
    return [lanes[i] for i in sorted(range(len(lanes)), key=places.__getitem__)]


def _going(lanes: Sequence[Lane]) -> list[Lane]:
    return [lane for lane in lanes if not lane.trace.finish_reason]


def _by_sequence(lane: Lane) -> int:
    return lane.sequence

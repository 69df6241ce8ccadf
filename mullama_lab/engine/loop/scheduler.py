"""The scheduler: the one loop. Tick by tick, one batch with something of every lane.

It runs on the worker of a session. A tick ends lanes that were asked to stop, lets lanes begin
that wait, puts one batch together (a piece of a prompt, a token that was drawn, one that was
given), decodes it, and hands each lane its rows. Other jobs are done between two ticks. It knows
texts, positions and rows; it knows no templates, chains or widgets.

First come, first served. Only what waits for a sequence that it names, or for a prompt that another
lane is decoding, is overtaken by what comes later. Nothing overtakes what waits for room, nor a job
on all of the cache, which waits for everything before it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from mullama_lab.engine.cache import Cache, Portion
from mullama_lab.engine.cache.room import (
    free_id,
    id_to_work_in,
    n_free_beside,
    replaceable,
    untouchable,
    without_room,
)
from mullama_lab.engine.loop.lane import Lane, Place
from mullama_lab.engine.loop.lost import decode_again, take_back
from mullama_lab.engine.loop.recorder import Recorder
from mullama_lab.engine.native import Logits
from mullama_lab.engine.steering.steering import Weights
from mullama_lab.engine.text import Text
from mullama_lab.engine.work import Job
from mullama_lab.engine.worker import Worker, at_work_on
from mullama_lab.errors import ClosedError, ContextFull, Stopped

Waiting: TypeAlias = "Lane[Any] | Job[Any]"
log = logging.getLogger(__name__)
NO_ROOM_ANEW = (
    "a text of %d tokens goes on over what other weights computed of it: to decode it anew there "
    "is no room in the context of %d cells beside the other sequences. Remove one with "
    "session.remove(sequence), or open the session with a larger n_ctx."
)
LOOK_AHEAD = 16  # of those that wait, how many are passed over for one that can begin
BESIDE = 128  # tokens of prompts that one batch has while other lanes wait for their next token
# Tokens that one lane foresees in a batch. With the one before them that is as many as llama.cpp
# computes bit for bit as one by one from quantised weights, on a CPU: more differ in K-quants.
AHEAD = 2


class Lack(Enum):
    """What a lane waits for."""

    SEQUENCE = "the sequence that it names is at work"
    BEGINNING = "another lane is decoding what it begins with"
    ROOM = "what it may need would take cells that those at work may need"


class LastPrompt(NamedTuple):
    """A prompt that was decoded, and the row after it."""

    text: Text
    row: Logits
    canonical: bool


class SequenceJob(Job[Any]):
    """A job on a sequence, or on all of the cache, once all that came before has ended there.

    Args:
        sequence: None is all of the cache.
    """

    def __init__(
        self, do: Callable[[], Any], owner: object, *, sequence: int | None = None
    ) -> None:
        super().__init__(do, owner)
        self.sequence = sequence


class Scheduler:
    """The plan of a session's worker.

    Attributes:
        waiting: what has not begun, in the order it came.
        active: the lanes in the batch.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.waiting: deque[Waiting] = deque()
        self.active: list[Lane[Any]] = []
        self._recorder = Recorder()
        self._last_prompt: LastPrompt | None = None  # whose row others want too
        self._is_stuck = False  # nothing that waits can begin until something ends

    # What the worker calls.

    def add(self, work: Waiting) -> None:
        self.waiting.append(work)
        self._is_stuck = False

    def tick(self, worker: Worker) -> bool:
        """One batch; False when there is nothing to do."""
        for lane in self.active:
            if lane.stop_requested:
                lane.finish("stopped")
        self._drop_ended()
        if self.waiting and not (self._is_stuck and self._is_as_it_was()):
            self._let_begin(worker)
            self._drop_ended()
        if portions := self._portions():
            self._prepare_decode(worker)
            portions = self._under_due_weights(portions)
            for weights, batch in self._batches(portions):
                try:
                    self.cache.put_in_force(weights)
                    self._hand_out(batch, self.cache.decode(batch))
                except Stopped:
                    self._was_cut_short()
                    break
                except BaseException as error:
                    self._fail(batch, error)
            self._drop_ended()
        if not self.active:
            worker.set_current(())
            self._recorder.rest()
        return bool(self.active) or (bool(self.waiting) and not self._is_stuck)

    def change_weights(self, weights: Weights, *, exact: bool) -> None:
        """Other weights compute the next batch of what has none of its own; between two ticks.

        Args:
            exact: whether they also compute anew what each text has so far.
        """
        changes = weights.epoch != self.cache.weights.epoch
        self.cache.weights = weights
        for lane in self.active:
            if lane.own is not None or lane.text.epoch == weights.epoch:
                continue
            anew = exact and self._fits_anew(lane)
            if anew or changes:
                self._change(lane, weights, exact=anew)

    def _fits_anew(self, lane: Lane[Any]) -> bool:
        """Whether a lane's text can be decoded anew and leave those beside it what they may need.

        It takes cells of its own then for what it had in common with others.
        """
        known = self.cache.sequences
        staying = untouchable(known, besides=lane.sequence)
        if not known.shared or not staying:
            return True
        others = [other for other in self.active if other is not lane and not other.ended]
        needed = len(lane.text) + sum(other.n_promised for other in others)
        needed += lane.n_left if others else 0
        fits = needed <= known.n_ctx - known.n_cells_of(staying)
        if not fits:
            log.warning(NO_ROOM_ANEW, len(lane.text), known.n_ctx)
        return fits

    def _change(self, lane: Lane[Any], weights: Weights, *, exact: bool) -> None:
        """Have other weights compute a lane from now on, and if exact what it has so far."""
        if exact:
            self.cache.cut(lane.sequence, 0)
        held = self.cache.sequences[lane.sequence].text
        held.change_weights(weights.epoch)
        lane.change_weights(weights.steering, held.epoch)
        if exact and not lane.ended:
            decode_again(self.cache, lane)

    def end(self, worker: Worker, refusal: ClosedError, *, failed: bool) -> None:
        for lane in self.active:
            lane.finish("failed" if failed else "stopped", refusal if failed else None)
        self.active.clear()
        while self.waiting:
            worker.refuse(self.waiting.popleft(), refusal)
        self._recorder.rest()

    # Who begins.

    def _is_as_it_was(self) -> bool:
        """Whether none of those that wait was stopped, so that another could begin."""
        return not any(work.claimed for work in islice(self.waiting, LOOK_AHEAD))

    def _let_begin(self, worker: Worker) -> None:
        """Begin whatever can."""
        taken = {lane.sequence for lane in self.active}  # and those that come first will want
        staying: deque[Waiting] = deque()
        while self.waiting and len(staying) < LOOK_AHEAD:
            work = self.waiting.popleft()
            if work.claimed:  # by a stop
                continue
            if isinstance(work, Job):
                if not isinstance(work, SequenceJob) or _is_clear(
                    work, taken, self.active, staying
                ):
                    worker.run(work)
                    continue
                staying.append(work)
                if work.sequence is None:
                    break
                taken.add(work.sequence)
                continue
            try:
                work.settle_text(self.cache)
            except BaseException as error:
                if worker.claim(work):
                    work.finish("failed", error)
                continue
            lack = self._lack_of(work, taken)
            if lack is None:
                if worker.claim(work):
                    worker.set_current((*self.active, work))
                    self._begin(work, taken)
                continue
            staying.append(work)
            if lack is Lack.ROOM:
                break
            if work.place is not Place.ANY:
                taken.add(0 if work.place is Place.HOME else work.place)
        self.waiting.extendleft(reversed(staying))
        self._is_stuck = bool(self.waiting)
        if not self.waiting:
            self._last_prompt = None

    def _lack_of(self, lane: Lane[Any], taken: set[int]) -> Lack | None:
        """What a lane waits for; None if it can begin."""
        known = self.cache.sequences
        if isinstance(lane.place, int) and lane.place in taken:
            return Lack.SEQUENCE
        if not self.active:
            return None
        if any(self._decodes_for(other, lane) for other in self.active):
            return Lack.BEGINNING
        named = isinstance(lane.place, int) or (lane.place is Place.HOME and 0 not in taken)
        if not named and free_id(known) is None and not replaceable(known):
            return Lack.ROOM
        promised = sum(other.n_promised for other in self.active)
        fits = not known.shared or n_free_beside(known, lane.text) >= promised + lane.n_left
        return None if fits else Lack.ROOM

    def _decodes_for(self, other: Lane[Any], lane: Lane[Any]) -> bool:
        """Whether another lane is decoding a beginning that a lane could have for nothing."""
        if not other.pieces or not self.cache.copies:
            return False
        most = other.first_row + (other.text == lane.text)  # its row is wanted too
        n = min(other.text.n_common(lane.text), most)
        known = self.cache.sequences
        return n > max(other.n_done, known.longest(lane.text, known.held)[1])

    def _begin(self, lane: Lane[Any], taken: set[int]) -> None:
        cache = self.cache
        try:
            lane.admit(cache)
            if lane.ended:
                return
            self._settle_place(lane, taken)
            twin = self._twin_of(lane)
            first_row = lane.first_row if twin is None else len(lane.text)
            n = cache.prepare(
                lane.text,
                lane.sequence,
                first_row,
                epoch=lane.weights_in(cache).epoch,
                as_held=lane.as_held or twin is not None,
            )
        except BaseException as error:
            lane.finish("failed", error)
            return
        cache.sequences[lane.sequence].at_work = True
        taken.add(lane.sequence)
        self.active.append(lane)
        self.active.sort(key=_sequence)
        pieces = cache.pieces(lane.text, lane.sequence, lane.first_row)
        lane.begin_decoding(n, pieces, canonical=cache.is_canonical(lane.sequence))
        lane.prepared(cache)
        if twin is not None and n == len(lane.text):  # else it has to be decoded after all
            lane.canonical = lane.canonical and twin.canonical
            self._hand(lane, [twin.row])
        elif not lane.pieces:
            lane.complete()

    def _settle_place(self, lane: Lane[Any], taken: set[int]) -> None:
        if isinstance(lane.place, int):
            lane.sequence = lane.place
        elif lane.place is Place.HOME and 0 not in taken:
            lane.sequence = 0
        else:
            lane.sequence = id_to_work_in(self.cache.sequences, lane.text)
        self.cache.sequences.use(lane.sequence)

    def _twin_of(self, lane: Lane[Any]) -> LastPrompt | None:
        """The prompt that was decoded last, if a lane has the same one and wants the same row."""
        twin, cache = self._last_prompt, self.cache
        if twin is None or not cache.copies or cache.reproducible:
            return None
        same = twin.text == lane.text and twin.text.n_given == lane.text.n_given
        return twin if same and lane.first_row == len(lane.text) - 1 else None

    # One batch.

    def _portions(self) -> list[Portion]:
        """Something of every lane, in the order of sequences.

        Lanes that are decoded together share the room of a batch. Lanes of their own have each
        its piece whole: how a prompt is cut must not depend on what is beside it.
        """
        lengths = self._lengths(foreseen=True)
        self.cache.make_room(sum(lengths.values()), besides=lengths)
        if without_room(self.cache.sequences, lengths):
            lengths = self._lengths(foreseen=False)
        for sequence in without_room(self.cache.sequences, lengths):
            del lengths[sequence]
            self._has_no_room(next(lane for lane in self.active if lane.sequence == sequence))
        return [self._portion(lane, n) for lane in self.active if (n := lengths.get(lane.sequence))]

    def _batches(self, portions: list[Portion]) -> Iterator[tuple[Weights, list[Portion]]]:
        """The portions that are decoded together, each time with the weights that compute them.

        Weights take turns, and those in force come first, so that one turn changes them once less.
        """
        cache = self.cache
        lanes = {lane.sequence: lane for lane in self.active}
        if all(lane.own is None for lane in self.active):
            groups = [(cache.weights, portions)]
        else:
            by_epoch: dict[str, tuple[Weights, list[Portion]]] = {}
            for portion in portions:
                weights = lanes[portion.sequence].weights_in(cache)
                by_epoch.setdefault(weights.epoch, (weights, []))[1].append(portion)
            groups = sorted(by_epoch.values(), key=lambda one: not cache.is_in_force(one[0]))
        for weights, some in groups:
            for batch in cache.batches(some):
                yield weights, batch

    def _under_due_weights(self, portions: list[Portion]) -> list[Portion]:
        """Have each lane in a batch computed by the weights that are due; those of what goes on."""
        lanes = {lane.sequence: lane for lane in self.active}
        return [one for one in portions if self._goes_on(lanes[one.sequence])]

    def _goes_on(self, lane: Lane[Any]) -> bool:
        """Have weights that are due compute a lane; whether it goes on from where it was."""
        n_done, before = lane.n_done, lane.weights_in(self.cache).epoch
        try:
            due = lane.take_due()
            if due is not None:
                exact = due.exact and lane.text.epoch != due.weights.epoch
                exact = exact and self._fits_anew(lane)
                if exact or due.weights.epoch != before:
                    self._change(lane, due.weights, exact=exact)
        except BaseException as error:
            lane.finish("failed", error)
        return not lane.ended and lane.n_done == n_done

    def _lengths(self, *, foreseen: bool) -> dict[int, int]:
        """How many tokens each sequence has in a batch, with what its lane foresees or without."""
        active, cache = self.active, self.cache
        room, rows = cache.batch.capacity - sum(not lane.pieces for lane in active), cache.n_rows
        if not all(lane.pieces for lane in active):
            room = min(room, BESIDE)
        lengths: dict[int, int] = {}
        for lane in active:
            n = 1
            if lane.pieces:
                piece = lane.pieces[0]
                n = piece.stop - lane.n_done
                if not cache.reproducible:
                    n = min(n, room, rows) if piece.wanted else min(n, room)
                    room -= n
                    rows -= n * piece.wanted
            elif foreseen and cache.may_decode_ahead:
                more = max(0, min(len(lane.foreseen), AHEAD, room, rows))
                n, room, rows = n + more, room - more, rows - more
            if n:
                lengths[lane.sequence] = n
        return lengths

    def _portion(self, lane: Lane[Any], n: int) -> Portion:
        start, text = lane.n_done, lane.text
        generated = start >= text.n_given
        if not generated:
            n = min(n, text.n_given - start)
        wanted = lane.pieces[0].wanted if lane.pieces else True
        tokens = text.tokens[start : start + n]
        if not lane.pieces:
            tokens, lane.foreseen = tokens + lane.foreseen[: n - len(tokens)], []
        return Portion(lane.sequence, tokens, generated, wanted)

    def _has_no_room(self, lane: Lane[Any]) -> None:
        if lane.pieces:
            error = ContextFull(
                f"{len(lane.text) - lane.n_done} more tokens do not fit in the "
                f"{self.cache.n_ctx} cells of the context beside the sequences that are kept. "
                "Remove one with session.remove(sequence), or open the session with a larger n_ctx."
            )
            lane.finish("failed", error)
        else:
            lane.finish("context")

    def _prepare_decode(self, worker: Worker) -> None:
        """Say who is at work, and have the last step of each lane recorded meanwhile."""
        lanes = [lane for lane in self.active if not lane.ended]
        may_cut_short = len(lanes) == 1 or not self.cache.has_states
        worker.set_current(lanes, may_cut_short=may_cut_short)
        for lane in lanes:  # last before the decode, which leaves Python to the recorder
            lane.record(self._recorder)
        self.cache.pause()

    def _hand_out(self, portions: Sequence[Portion], rows: Sequence[Sequence[Logits]]) -> None:
        """Give every lane of a batch its rows."""
        lanes = {lane.sequence: lane for lane in self.active}
        for portion, wanted in zip(portions, rows, strict=True):
            lane = lanes[portion.sequence]
            if lane.n_done + len(portion.tokens) > len(lane.text):
                self._hand_ahead(lane, portion, wanted)
                continue
            self._advance(lane, portion)
            self._hand(lane, wanted)

    def _hand_ahead(self, lane: Lane[Any], portion: Portion, rows: Sequence[Logits]) -> None:
        """Give a lane the rows after its newest token and after those that it foresaw.

        Each it has only if the token before it came as foreseen: a chain may change, a text end.
        """
        lane.canonical = False
        lane.ahead, decode_ns = portion.tokens[1:], self.cache.decode_ns
        lane.before_end = lambda: take_back(self.cache, lane)
        for token, row in zip(portion.tokens, rows, strict=True):
            if lane.text.tokens[lane.n_done :] != [token]:
                break
            lane.n_done += 1
            self._hand(lane, [row], decode_ns)
            decode_ns = 0
        lane.ahead, lane.before_end = [], None
        if not lane.ended:
            take_back(self.cache, lane)

    def _advance(self, lane: Lane[Any], portion: Portion) -> None:
        lane.n_done += len(portion.tokens)
        lane.canonical = lane.canonical and portion.canonical
        if lane.pieces:
            if lane.n_done >= lane.pieces[0].stop:
                lane.pieces.popleft()
                self._is_stuck = False  # whatever waits for this beginning may have it now
            lane.advanced()

    def _hand(self, lane: Lane[Any], rows: Sequence[Logits], decode_ns: int | None = None) -> None:
        """Give a lane rows that it wants; what goes wrong with them is that lane's matter.

        Args:
            decode_ns: what the decode took; by default that of the newest batch.
        """
        took = self.cache.decode_ns if decode_ns is None else decode_ns
        try:
            for row in rows:
                if lane.ended:
                    return
                if lane.n_done == len(lane.text) == lane.first_row + 1 and self._has_twin(lane):
                    self._last_prompt = LastPrompt(
                        lane.text.first(lane.n_done), row.copy(), lane.canonical
                    )
                with at_work_on(lane):
                    lane.take(row, took)
            if not lane.ended and lane.n_done == len(lane.text):
                lane.complete()
        except BaseException as error:
            if isinstance(error, Stopped) and lane.stop_requested:
                lane.finish("stopped")
            else:
                lane.finish("failed", error)

    def _has_twin(self, lane: Lane[Any]) -> bool:
        """Whether a lane that waits has the same prompt, so that it can be given the same row."""
        others = islice(self.waiting, LOOK_AHEAD)
        return any(isinstance(other, Lane) and other.text == lane.text for other in others)

    def _was_cut_short(self) -> None:
        """A batch was stopped for the sake of some lanes: the others go on where they were."""
        known = self.cache.sequences
        for lane in self.active:
            held = known[lane.sequence]
            if lane.ended or lane.stop_requested or len(held.text) == lane.n_done:
                continue
            held.lost = None  # the cache lost its states, and this lane decodes its own again
            decode_again(self.cache, lane)

    def _fail(self, portions: Sequence[Portion], error: BaseException) -> None:
        """End the lanes of a batch that could not be decoded."""
        failed = {portion.sequence for portion in portions}
        for lane in self.active:
            if lane.sequence in failed:
                lane.finish("failed", error)

    def _drop_ended(self) -> None:
        if all(not lane.ended for lane in self.active):
            return
        for lane in self.active:
            if lane.ended and lane.sequence in self.cache.sequences:
                self.cache.sequences[lane.sequence].at_work = False
        self.active = [lane for lane in self.active if not lane.ended]
        self._is_stuck = False


def _is_clear(
    job: SequenceJob, taken: Collection[int], active: Sequence[Any], staying: Collection[Any]
) -> bool:
    """Whether nothing before a job is still to be done where it has to do."""
    if job.sequence is None:
        return not active and not staying
    return job.sequence not in taken


def _sequence(lane: Lane[Any]) -> int:
    return lane.sequence

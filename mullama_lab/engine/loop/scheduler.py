"""The scheduler: the one loop. Tick by tick, one batch with something of every lane.

It runs on the worker of a session. A tick ends lanes that were asked to stop, lets lanes begin
that wait, puts one batch together (a piece of a prompt, a token that was drawn, one that was
given), decodes it, and hands each lane its rows. Other jobs are done between two ticks. It knows
texts, positions and rows; it knows no templates, chains or widgets.

Who comes first begins first, but for what waits for a sequence that it names, or for a prompt that
another lane is decoding: what comes later goes past it. Nothing goes past what waits for room, nor
past a job on all of the cache, which waits for everything before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, TypeAlias

from mullama_lab.engine.cache import Cache, Portion
from mullama_lab.engine.loop.lane import Lane, Logits, Place
from mullama_lab.engine.loop.recorder import Recorder
from mullama_lab.engine.text import Text
from mullama_lab.engine.work import Job
from mullama_lab.engine.worker import Worker
from mullama_lab.errors import ClosedError, ContextFull, Stopped

Waiting: TypeAlias = "Lane[Any] | Job[Any]"
LOOK_AHEAD = 16  # of those that wait, how many are passed over for one that can begin
BESIDE = 128  # tokens of prompts that one batch has while other lanes wait for their next token


class Errand(Job[Any]):
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
        self._last_prompt: tuple[Text, Logits, bool] | None = None  # whose row others want too
        self._is_stuck = False  # nothing that waits can begin until something ends

    # What the worker calls.

    def add(self, work: Waiting) -> None:
        self.waiting.append(work)
        self._is_stuck = False

    def tick(self, worker: Worker) -> bool:
        """One batch; False when there is nothing to do."""
        if self.waiting and not self._is_stuck:
            self._let_begin(worker)
        for lane in self.active:
            if lane.stop_requested:
                lane.finish("stopped")
        self._drop_ended()
        if portions := self._portions():
            self._prepare_decode(worker)
            try:
                for batch in self.cache.batches(portions):
                    self._hand_out(batch, self.cache.decode(batch))
            except Stopped:
                self._was_cut_short()
            except BaseException as error:
                for lane in self.active:
                    lane.finish("failed", error)
            self._drop_ended()
        if not self.active:
            worker.at_work(())
            self._recorder.rest()
        return bool(self.active) or (bool(self.waiting) and not self._is_stuck)

    def end(self, refusal: ClosedError) -> None:
        for lane in self.active:
            lane.finish("stopped")
        self.active.clear()
        while self.waiting:
            self.waiting.popleft().refuse(refusal)
        self._recorder.rest()

    # Who begins.

    def _let_begin(self, worker: Worker) -> None:
        """Begin whatever can."""
        taken = {lane.sequence for lane in self.active}  # and those that come first will want
        staying: deque[Waiting] = deque()
        while self.waiting and len(staying) < LOOK_AHEAD:
            work = self.waiting.popleft()
            if work.done:
                continue
            if isinstance(work, Job):
                if not isinstance(work, Errand) or _is_clear(work, taken, self.active, staying):
                    worker.run(work)
                    continue
                staying.append(work)
                if work.sequence is None:
                    break
                taken.add(work.sequence)
                continue
            if not work.as_held:
                work.text.epoch = self.cache.epoch
            if not (lacks := self._lacks(work, taken)):
                if worker.claim(work):
                    self._begin(work, taken)
            else:
                staying.append(work)
                if lacks == "room":
                    break
                taken.add(0 if isinstance(work.place, Place) else work.place)
        self.waiting.extendleft(reversed(staying))
        self._is_stuck = bool(self.waiting)
        if not self.waiting:
            self._last_prompt = None

    def _lacks(self, lane: Lane[Any], taken: set[int]) -> str:
        """What a lane waits for: "sequence", "beginning" or "room"; "" if it can begin.

        Room is what it may need without taking any that those at work may need.
        """
        cache, known = self.cache, self.cache.sequences
        if isinstance(lane.place, int) and lane.place in taken:
            return "sequence"
        if not self.active:
            return ""
        if any(self._decodes_for(other, lane) for other in self.active):
            return "beginning"
        named = isinstance(lane.place, int) or (lane.place is Place.HOME and 0 not in taken)
        if not named and known.free_id() is None and not known.replaceable():
            return "room"
        promised = sum(other.n_promised for other in self.active)
        fits = not known.shared or cache.room_beside(lane.text) >= promised + lane.n_left
        return "" if fits else "room"

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
            row = self._row_of_twin(lane)
            first_row = lane.first_row if row is None else len(lane.text)
            as_held = lane.as_held or row is not None
            n = cache.prepare(lane.text, lane.sequence, first_row, as_held=as_held)
        except BaseException as error:
            lane.finish("failed", error)
            return
        held = cache.sequences[lane.sequence]
        held.at_work = True
        taken.add(lane.sequence)
        self.active.append(lane)
        self.active.sort(key=_sequence)
        lane.n_done = n
        if row is not None and n < len(lane.text):  # it has to be decoded after all
            row = None
        lane.pieces.extend(cache.pieces(lane.text, lane.sequence, lane.first_row))
        lane.sole = cache.is_canonical(lane.sequence)
        lane.prepared(cache)
        if row is not None and self._last_prompt is not None:
            lane.pieces.clear()
            lane.sole = self._last_prompt[2]
            self._hand(lane, [row])
        elif not lane.pieces:
            lane.complete()

    def _settle_place(self, lane: Lane[Any], taken: set[int]) -> None:
        if isinstance(lane.place, int):
            lane.sequence = lane.place
        elif lane.place is Place.HOME and 0 not in taken:
            lane.sequence = 0
        else:
            lane.sequence = self.cache.take(lane.text)
        self.cache.sequences.use(lane.sequence)

    def _row_of_twin(self, lane: Lane[Any]) -> Logits | None:
        """The row after a lane's prompt, if a lane with the same one had it just before."""
        twin = self._last_prompt
        same = twin is not None and twin[0] == lane.text and lane.first_row == len(lane.text) - 1
        return twin[1] if twin is not None and same and self.cache.copies else None

    # One batch.

    def _portions(self) -> list[Portion]:
        """Something of every lane, in the order of sequences."""
        active = self.active
        alone = all(lane.pieces for lane in active)
        room = self.cache.batch.capacity - sum(not lane.pieces for lane in active)
        if not alone:
            room = min(room, BESIDE)
        lengths: dict[int, int] = {}
        for lane in active:
            n = 1
            if lane.pieces:
                piece = lane.pieces[0]
                n = min(piece.stop - lane.n_done, room)
                room -= n
            if n:
                lengths[lane.sequence] = n
        for sequence in self.cache.without_room(lengths):
            del lengths[sequence]
            self._has_no_room(next(lane for lane in active if lane.sequence == sequence))
        return [self._portion(lane, n) for lane in active if (n := lengths.get(lane.sequence))]

    def _portion(self, lane: Lane[Any], n: int) -> Portion:
        start, text = lane.n_done, lane.text
        generated = start >= text.n_given
        if not generated:
            n = min(n, text.n_given - start)
        wanted = lane.pieces[0].wanted if lane.pieces else True
        return Portion(lane.sequence, text.tokens[start : start + n], generated, wanted)

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
        may_cut_short = len(lanes) == 1 or not self.cache.is_recurrent
        worker.at_work(lanes, may_cut_short=may_cut_short)
        for lane in lanes:  # last before the decode, which leaves Python to the recorder
            lane.record(self._recorder)
        self.cache.give_way()

    def _hand_out(self, portions: Sequence[Portion], rows: Sequence[Sequence[Logits]]) -> None:
        """Give every lane of a batch its rows."""
        lanes = {lane.sequence: lane for lane in self.active}
        for portion, wanted in zip(portions, rows, strict=True):
            lane = lanes[portion.sequence]
            self._advance(lane, portion)
            self._hand(lane, wanted)

    def _advance(self, lane: Lane[Any], portion: Portion) -> None:
        lane.n_done += len(portion.tokens)
        lane.sole = lane.sole and portion.sole
        if lane.pieces:
            if lane.n_done >= lane.pieces[0].stop:
                lane.pieces.popleft()
                self._is_stuck = False  # who waits for the same beginning may have it now
            lane.advanced()

    def _hand(self, lane: Lane[Any], rows: Sequence[Logits]) -> None:
        """Give a lane rows that it wants; what goes wrong with them is that lane's matter."""
        try:
            for row in rows:
                if lane.ended:
                    return
                if lane.n_done == len(lane.text) == lane.first_row + 1 and self._has_twin(lane):
                    self._last_prompt = lane.text.first(lane.n_done), row.copy(), lane.sole
                lane.take(row, self.cache.decode_ns)
            if not lane.ended and lane.n_done == len(lane.text):
                lane.complete()
        except BaseException as error:
            lane.finish("failed", error)

    def _has_twin(self, lane: Lane[Any]) -> bool:
        """Whether a lane that waits has the same prompt, so that it can be given the same row."""
        others = islice(self.waiting, LOOK_AHEAD)
        return any(isinstance(other, Lane) and other.text == lane.text for other in others)

    def _was_cut_short(self) -> None:
        """A batch was stopped for the sake of some lanes: the others go on where they were."""
        known = self.cache.sequences
        for lane in self.active:
            if lane.ended or lane.stop_requested or len(known[lane.sequence].text) == lane.n_done:
                continue
            lane.first_row = max(lane.first_row, lane.n_done)  # a recurrent model lost its state
            lane.n_done = 0
            lane.pieces.clear()
            lane.pieces.extend(self.cache.pieces(lane.text, lane.sequence, lane.first_row))

    def _drop_ended(self) -> None:
        if all(not lane.ended for lane in self.active):
            return
        for lane in self.active:
            if lane.ended and lane.sequence in self.cache.sequences:
                self.cache.sequences[lane.sequence].at_work = False
        self.active = [lane for lane in self.active if not lane.ended]
        self._is_stuck = False


def _is_clear(
    errand: Errand, taken: Collection[int], active: Sequence[Any], staying: Collection[Any]
) -> bool:
    """Whether nothing before an errand is still to be done where it has to do."""
    if errand.sequence is None:
        return not active and not staying
    return errand.sequence not in taken


def _sequence(lane: Lane[Any]) -> int:
    return lane.sequence

"""Lanes whose tokens are given: a text that is scored, rows to look at, cells to be held.

No token is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from time import perf_counter_ns
from typing import TYPE_CHECKING

from mullama_lab.engine.cache.room import id_for_fork
from mullama_lab.engine.loop.lane import Due, Lane, Place
from mullama_lab.engine.native import Logits
from mullama_lab.engine.rows.capture import RowReader, must_be_sound
from mullama_lab.engine.rows.tail import log_total
from mullama_lab.engine.text import Text
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.record import StepRecord, standing_in

if TYPE_CHECKING:
    from mullama_lab.engine.cache import Cache
    from mullama_lab.engine.cache.sequences import Held
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.steering.steering import Steering, Weights


class Scored(Lane[Trace]):
    """Appends a step to a trace for each token of a text after the trace's prompt.

    There is no chain, so before and after it are the same.

    Args:
        tokens: of the text, at least one.
    """

    def __init__(
        self, model: Model, trace: Trace, tokens: Sequence[int], owner: object = None
    ) -> None:
        prompt = trace.prompt_tokens.tolist()
        super().__init__(Text([*prompt, *tokens[:-1]]), owner, first_row=len(prompt) - 1)
        self.model, self.trace, self.tokens = model, trace, list(tokens)
        self._reader = RowReader(model.n_vocab, trace.top)
        self._began = self._last = self._last_row = 0

    def admit(self, cache: Cache) -> None:
        self._began = self._last = self._last_row = perf_counter_ns()
        self.trace.change_weights(self.weights_in(cache).steering)

    def change_weights(self, steering: Steering, epoch: str) -> None:
        super().change_weights(steering, epoch)
        self.trace.change_weights(steering, stale=self.text.is_mixed)

    def prepared(self, cache: Cache) -> None:
        trace = self.trace
        trace.n_prompt_reused = self.n_done
        trace.n_prompt_decoded = len(trace.prompt_tokens) - self.n_done
        trace.captured_aside = False

    def take(self, row: Logits, decode_ns: int) -> None:
        t0, trace, model = perf_counter_ns(), self.trace, self.model
        token = self.tokens[len(trace)]
        facts = self._reader.read(row)
        record = StepRecord.of_row(model, token, facts, standing_in(row, token, facts))
        record.decode_ns, record.capture_ns = t0 - self._last, perf_counter_ns() - t0
        record.wall_ns, self._last_row = t0 - self._last_row, t0
        record.canonical = self.canonical
        trace.append(record)
        trace.seconds = (perf_counter_ns() - self._began) / 1e9
        self._last = perf_counter_ns()

    def complete(self) -> None:
        self.finish("scored")

    def finish(self, reason: str, error: BaseException | None = None) -> None:
        if not self.ended:
            with suppress(SystemExit):  # the interpreter ends, and with it this thread
                self.trace.remember_pieces()
            self.trace.finish_reason = reason
            super().finish(reason, error)

    def outcome(self) -> Trace:
        return self.trace


class Rows(Lane[None]):
    """Calls `visit(row)` for each row of a text from one position on; a row is gone after that.

    Args:
        own: the weights that compute it; with `then`, those of what is before the first row.
        then: the weights that compute it from the first row on; None is the same.
    """

    def __init__(
        self,
        text: Text,
        visit: Callable[[Logits], object],
        owner: object = None,
        *,
        place: int | Place = Place.HOME,
        first_row: int | None = None,
        own: Weights | None = None,
        then: Weights | None = None,
    ) -> None:
        super().__init__(text, owner, place=place, first_row=first_row, own=own)
        self._visit, self._then = visit, then

    def take_due(self) -> Due | None:
        if self._then is None or self.n_done < self.first_row:
            return None
        due = Due(self.first_row, self._then)
        self.own, self._then = self._then, None
        return due

    def take(self, row: Logits, decode_ns: int) -> None:
        self._visit(row)

    def outcome(self) -> None:
        return None


class LastRow(Lane[Logits]):
    """The row after a text, copied."""

    def take(self, row: Logits, decode_ns: int) -> None:
        self._row = row.copy()

    def outcome(self) -> Logits:
        return self._row


class Hold(Lane[int]):
    """Lets a sequence hold a text; no row is wanted. Its result is the sequence.

    Args:
        text_at_start: what there is to hold when the lane begins.
        place: the sequence.
    """

    as_held = True

    def __init__(self, text_at_start: Callable[[], Text], owner: object, *, place: int) -> None:
        super().__init__(Text(), owner, place=place)
        self._text_at_start = text_at_start

    def settle_text(self, cache: Cache) -> None:
        self.text = self._text_at_start()
        self.first_row = len(self.text)

    def take(self, row: Logits, decode_ns: int) -> None:
        """There is none."""

    def outcome(self) -> int:
        return self.sequence


class Fork(Hold):
    """Lets a new sequence hold the beginning of another one, and keeps it."""

    def admit(self, cache: Cache) -> None:
        assert isinstance(self.place, int)
        self._cache, source = cache, cache.sequences[self.place]
        self.place = id_for_fork(cache.sequences, self.place)
        source.at_work = True  # which its fork must not overwrite
        self._source = source

    def prepared(self, cache: Cache) -> None:
        self._release_source()

    def complete(self) -> None:
        self._cache.sequences[self.sequence].kept = True
        super().complete()

    def finish(self, reason: str, error: BaseException | None = None) -> None:
        self._release_source()
        super().finish(reason, error)

    def _release_source(self) -> None:
        if self._source is not None:
            self._source.at_work = False
            self._source = None

    _source: Held | None = None


def log_total_of(row: Logits) -> float:
    """The log-sum-exp of a row; `DecodeError` if it is damaged."""
    must_be_sound(row)
    return log_total(row)

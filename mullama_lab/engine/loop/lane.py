"""A lane: one text that is on its way through the batch, and what becomes of its rows.

A lane says what its sequence shall hold; the scheduler sees to it and hands it the rows that it
wants. Tokens that are drawn, given or only looked at are lanes alike; they differ in what `take`
does with a row.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mullama_lab.counted import counted
from mullama_lab.engine.native import Logits
from mullama_lab.engine.text import Text
from mullama_lab.engine.work import Work
from mullama_lab.errors import Stopped

if TYPE_CHECKING:
    from mullama_lab.engine.cache import Cache
    from mullama_lab.engine.cache.cuts import Piece
    from mullama_lab.engine.loop.recorder import Recorder
    from mullama_lab.engine.stages.schedule import Schedule
    from mullama_lab.engine.steering.steering import Steering, Weights

T = TypeVar("T")


class Place(Enum):
    """A sequence that is not named."""

    HOME = "sequence 0, or any where another lane works there"
    ANY = "any that may be overwritten"


class Due(NamedTuple):
    """Weights that compute a text from the row of a step on.

    Attributes:
        exact: whether they compute anew what the text has before it.
        chains: those that draw from it on; None are those in force.
    """

    step: int
    weights: Weights
    exact: bool = False
    chains: Schedule | None = None


class Lane(Work[T]):
    """One text of the batch.

    Args:
        text: what its sequence shall hold; it may grow.
        owner: stays alive until the lane has ended.
        place: where it works: a sequence by its id, or a Place.
        first_row: the first position whose row it wants; None is the last one.
        own: the weights that compute it; None is those of the session, as they change.

    Attributes:
        sequence: where it works, once it was admitted.
        n_done: positions of its text that the sequence holds.
        pieces: how the rest is cut, but for single tokens that were added since.
        foreseen: tokens that will come after its text as things are, to be decoded with its end.
        ahead: those of them that its sequence holds already.
        before_end: called when it ends, before those who wait for it are told.
        canonical: whether every batch it was in was its own, so that its rows are those that a
            session which does nothing else computes, bit for bit.
    """

    as_held = False  # whether it takes what the cache holds, however that was cut

    def __init__(
        self,
        text: Text,
        owner: object = None,
        *,
        place: int | Place = Place.HOME,
        first_row: int | None = None,
        own: Weights | None = None,
    ) -> None:
        super().__init__(owner)
        self.text, self.place, self.own = text, place, own
        self.first_row = len(text) - 1 if first_row is None else first_row
        self.sequence = -1
        self.n_done = 0
        self.pieces: deque[Piece] = deque()
        self.foreseen: list[int] = []
        self.ahead: list[int] = []
        self.before_end: Callable[[], object] | None = None
        self.canonical = True
        self.ended = False

    @property
    def n_left(self) -> int:
        """How many tokens it may still add to its text."""
        return 0

    @property
    def n_promised(self) -> int:
        """How many more cells it may take."""
        return len(self.text) - self.n_done + self.n_left

    def weights_in(self, cache: Cache) -> Weights:
        """The weights that compute it."""
        return cache.weights if self.own is None else self.own

    def take_due(self) -> Due | None:
        """Have weights that are due compute it from now on, as its own; None if none are."""
        return None

    # What the scheduler tells it.

    def settle_text(self, cache: Cache) -> None:
        """It may begin now: say what its text is."""
        self.take_due()
        self.text.epoch = self.weights_in(cache).epoch

    def admit(self, cache: Cache) -> None:
        """It begins."""

    def begin_decoding(self, n_done: int, pieces: Iterable[Piece], *, canonical: bool) -> None:
        """Its sequence holds so much of its text; the rest is decoded in these pieces."""
        self.n_done, self.canonical = n_done, canonical
        self.pieces = deque(pieces)

    def prepared(self, cache: Cache) -> None:
        """Its sequence holds what the cache had of its text."""

    def advanced(self) -> None:
        """Its sequence holds more of its text."""

    def change_weights(self, steering: Steering, epoch: str) -> None:
        """Other weights compute what it decodes next; the epoch is of its text, whole."""
        self.text.epoch = epoch

    @abstractmethod
    def take(self, row: Logits, decode_ns: int) -> None:
        """The next of the rows it wants; gone after the call."""

    def record(self, recorder: Recorder) -> None:
        """The next batch begins: have recorded what was learnt from the last one."""

    def complete(self) -> None:
        """Its sequence holds all of its text, and it was given all of its rows."""
        self.finish("done")

    # How it ends.

    def finish(self, reason: str, error: BaseException | None = None) -> None:
        """End it.

        Args:
            reason: what `trace.finish_reason` says.
        """
        if self.ended:
            return
        self.ended = True
        if error is None and reason == "stopped":
            error = Stopped(f"stopped after {counted(self.n_done, 'token')}.")
        if error is None:
            self.end(self.outcome())
        else:
            self.fail(error)

    def end(self, result: T) -> None:
        if self.before_end is not None:
            self.before_end()
        super().end(result)

    def fail(self, error: BaseException) -> None:
        if self.before_end is not None:
            self.before_end()
        super().fail(error)

    @abstractmethod
    def outcome(self) -> T:
        """What whoever waits for it is given."""

    def refuse(self, error: BaseException) -> None:
        """End it before it began."""
        self.finish("stopped" if isinstance(error, Stopped) else "failed", error)

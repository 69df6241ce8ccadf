"""One llama.cpp context and what its cache holds. Not thread-safe: one worker owns it.

It knows texts, positions and rows. It does not know chains, traces or lanes. Whatever happens
(stop, error), each sequence of the cache afterwards ends at a token boundary that `sequences`
names.

Nothing is decoded that the cache already holds in the right cuts (`cuts.py`): a sequence that
needs tokens takes over the longest beginning of them that any sequence has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter_ns, sleep
from typing import Any

from mullama_lab.engine.cache import cuts
from mullama_lab.engine.cache.ledger import Counts, Ledger
from mullama_lab.engine.cache.room import must_fit, replaceable
from mullama_lab.engine.cache.sequences import Sequences
from mullama_lab.engine.native import Logits
from mullama_lab.engine.native import context as native
from mullama_lab.engine.native.batch import Batch, LogitRows
from mullama_lab.engine.steering.steering import Weights
from mullama_lab.engine.text import Text
from mullama_lab.errors import Stopped

PAUSE = 0.1  # seconds, the longest before a batch
ROWS_BYTES = 64 << 20  # logits that one batch may have


@dataclass(slots=True)
class Portion:
    """What one sequence adds to a batch.

    Attributes:
        generated: whether the tokens are drawn ones, not those of a prompt.
        wanted: whether the rows after all of them are wanted.
        canonical: whether it was decoded as a session that does nothing else decodes it.
    """

    sequence: int
    tokens: list[int]
    generated: bool
    wanted: bool
    canonical: bool = True


class Cache:
    """The native context of a session, with the texts of its sequences.

    Args:
        n_ctx: positions that one sequence may have; llama.cpp has room for these and rounds up.
        before_decode: raises where the weights are not to be trusted.
        reproducible: decode one sequence at a time, and take nothing from the cache that is not
            what a session on its own would have computed; sequences share no cells then.
    """

    def __init__(
        self,
        handle: Any,
        n_vocab: int,
        stop: native.StopFlag,
        *,
        n_ctx: int,
        shares_cells: bool,
        before_decode: Callable[[], object],
        reproducible: bool = False,
    ) -> None:
        self.handle = handle
        self._before_decode = before_decode
        self.n_vocab = n_vocab
        self.n_ctx = min(n_ctx, native.n_ctx(handle))
        self.leaves_a_core = native.n_threads(handle) < (os.cpu_count() or 1)
        self.stop = stop
        self.batch = Batch(native.n_batch(handle))
        self.n_rows = max(1, min(self.batch.capacity, ROWS_BYTES // (4 * n_vocab)))  # of a batch
        self._logits = LogitRows(handle, n_vocab)
        self.reproducible = reproducible
        self.weights = Weights()  # that compute a text which has none of its own
        self._in_force: Weights | None = self.weights  # in llama.cpp; None where that is not sure
        self.is_recurrent = native.is_recurrent(handle)
        self.has_states = native.has_states(handle)  # which a stop in a batch of several destroys
        self.copies = shares_cells or self.is_recurrent
        self.sequences = Sequences(
            self.n_ctx, native.n_seq_max(handle), shared=shares_cells and not self.is_recurrent
        )
        self.may_decode_ahead = not reproducible and not self.has_states
        self.decode_ns = 0  # that the newest batch took
        self.pause_until = 0.0  # of time.monotonic
        self.counts = Counts()

    def close(self) -> None:
        if self.handle is not None:
            native.free_context(self.handle)
            self.handle = None

    @property
    def ledger(self) -> Ledger:
        return self.counts.ledger

    @property
    def n_decoded(self) -> int:
        return self.counts.decoded

    def put_in_force(self, weights: Weights) -> None:
        """Have these weights compute the next batch."""
        now = self._in_force
        if now is None or now.epoch != weights.epoch:
            self._in_force = None
            weights.act_in(self.handle)
            self._in_force = weights

    def is_in_force(self, weights: Weights) -> bool:
        """Whether these weights computed the last batch, so that the next costs no change."""
        return self._in_force is not None and self._in_force.epoch == weights.epoch

    # A text on its way into a sequence.

    def prepare(
        self, text: Text, sequence: int, first_row: int, *, epoch: str, as_held: bool = False
    ) -> int:
        """Let a sequence hold what the cache can give of a text, with room for the rest.

        Args:
            first_row: the first position whose row is wanted; the text's length if none is.
            epoch: of the weights that will compute the rest.
            as_held: take all that is held, however it was cut: the text is a copy.

        Returns:
            how many positions of it the sequence holds.

        Raises:
            ContextFull: the rest does not fit beside what is kept or at work.
        """
        held = self.sequences.use(sequence)
        source, n, n_held = self._best(text, sequence, first_row, as_held)
        if n < len(text) and text.epoch != epoch:  # other weights compute the rest, so all
            text.epoch = epoch
            source, n, n_held = self._best(text, sequence, first_row, as_held)
        must_fit(self.sequences, text, sequence, source, n)
        held.lost = None
        theirs = self.sequences[source]
        n_sure = cuts.n_reusable(theirs.text, theirs.provenance, text, first_row, canonical=True)
        if source == sequence:
            n = self.cut(sequence, n)
            self.counts.reused += n
        else:
            self.cut(sequence, 0)
            native.copy_sequence(self.handle, source, sequence, n)
            self.sequences.copy(source, sequence, n)
            self.counts.forked += n
        held.text.epoch = text.epoch
        if n > n_sure:  # what follows is not cut as it would be anew
            held.provenance.n_canonical = min(n_sure, held.provenance.n_canonical)
        if not as_held or n == 0:
            held.provenance.prompt_end = cuts.prompt_end(text, first_row)
        self.counts.decoded_again += n_held - n
        self.make_room(len(text) - n, besides=[sequence])
        return n

    def pieces(self, text: Text, sequence: int, first_row: int) -> Iterator[cuts.Piece]:
        """What has to be decoded of a text that a sequence was prepared for, cut in pieces."""
        start = len(self.sequences[sequence].text)
        return cuts.pieces(
            text,
            start,
            first_row,
            self.batch.capacity,
            self.n_rows,
            one_by_one=self.reproducible,
        )

    def is_canonical(self, sequence: int) -> bool:
        """Whether a sequence holds, bit for bit, what a session on its own computes for it."""
        held = self.sequences[sequence]
        return held.provenance.n_canonical == len(held.text)

    def batches(self, portions: Sequence[Portion]) -> list[list[Portion]]:
        """Which portions are decoded together: all, or with `reproducible` each for itself."""
        return [[portion] for portion in portions] if self.reproducible else [list(portions)]

    def decode(self, portions: Sequence[Portion]) -> list[list[Logits]]:
        """Decode more tokens in some sequences, in one batch; the rows that each portion wants.

        The rows are views, gone with the next batch.

        Args:
            portions: of each sequence one, in rising order.

        Raises:
            Stopped: the stop flag was set; the sequences are as before.
        """
        if self.stop:  # only a CPU looks at it while it decodes
            raise Stopped("stopped.")
        ends = self._fill_batch(portions)
        self._before_decode()
        start = perf_counter_ns()
        try:
            finished = self.batch.decode(self.handle, ends[-1])
        except BaseException:
            self._back_to_boundary(portions)
            raise
        if not finished:
            self._back_to_boundary(portions)
            raise Stopped("stopped.")
        native.wait_for_results(self.handle)  # a GPU may still be at work, and would not be timed
        self.decode_ns = perf_counter_ns() - start
        self.counts.add_batch(ends[-1], self.decode_ns)
        for portion in portions:
            self._note(portion, alone=len(portions) == 1)
        return [
            [self._logits[i] for i in range(end - len(portion.tokens), end)]
            if portion.wanted
            else []
            for portion, end in zip(portions, ends, strict=True)
        ]

    def _fill_batch(self, portions: Sequence[Portion]) -> list[int]:
        """Lay portions out one after the other; where in the batch each of them ends."""
        ends, n, batch = [], 0, self.batch
        for portion in portions:
            end = n + len(portion.tokens)
            first = len(self.sequences[portion.sequence].text)
            batch.token[n:end] = portion.tokens
            batch.pos[n:end] = range(first, first + end - n)
            batch.seq[n:end] = portion.sequence
            batch.wanted[n:end] = portion.wanted
            ends.append(n := end)
        return ends

    def _note(self, portion: Portion, *, alone: bool) -> None:
        """Take down that a portion was decoded, and whether that was as a session alone does it."""
        known = self.sequences
        held, n = known[portion.sequence], len(portion.tokens)
        start, provenance = len(held.text), held.provenance
        known.extend(portion.sequence, portion.tokens, generated=portion.generated)
        is_cut_so = n == 1 or start + n <= provenance.prompt_end
        has_cache = alone and (not known.shared or known.n_cells == start + n)
        portion.canonical = has_cache and (is_cut_so or portion.wanted)
        if has_cache and is_cut_so and provenance.n_canonical == start:
            provenance.n_canonical = start + n

    def pause(self) -> None:
        """Leave the cores to others until `pause_until`, for at most `PAUSE`."""
        left = self.pause_until - monotonic()
        if left > 0:
            sleep(min(left, PAUSE))

    # Sequences.

    def can_cut(self, sequence: int, n: int) -> bool:
        """Whether the cache still knows how things were after n positions of a sequence.

        A recurrent model knows its newest state alone. A sliding window may have lost cells
        before it to other sequences, which is seen in where its positions begin.
        """
        if n == len(self.sequences[sequence].text):
            return True
        return native.first_position(self.handle, sequence) == 0

    def cut(self, sequence: int, n: int) -> int:
        """Keep the first n positions of a sequence, or none where the cache cannot; how many."""
        if n == len(self.sequences[sequence].text):
            return n
        if n == 0 or not native.drop_tail(self.handle, sequence, n):
            native.drop_tail(self.handle, sequence, 0)
            n = 0
        self.sequences.cut(sequence, n)
        return n

    def remove(self, sequence: int) -> None:
        """Forget a sequence."""
        native.drop_tail(self.handle, sequence, 0)
        self.sequences.remove(sequence)

    def forget(self) -> None:
        """Empty the cache."""
        native.clear_memory(self.handle)
        self.sequences.clear()

    def make_room(self, n: int, *, besides: Container[int]) -> None:
        """Forget what may be overwritten, besides some, until n cells are free or none is left."""
        known = self.sequences
        if not known.shared:
            return
        while known.n_ctx - known.n_cells < n:
            victims = [s for s in replaceable(known) if s not in besides and known[s].text]
            if not victims:
                return
            self.remove(victims[0])

    # Inside.

    def _best(
        self, text: Text, sequence: int, first_row: int, as_held: bool
    ) -> tuple[int, int, int]:
        """(where to take a beginning from, how much it can give, how much the cache holds)."""
        known = self.sequences.held
        source, n, n_held = sequence, 0, 0
        as_held = as_held or not self._can_be_canonical(sequence)
        for s in (sequence, *(s for s in known if s != sequence)):
            theirs = known[s]
            common = here = min(theirs.text.n_common(text), first_row)
            n_held = max(n_held, common)
            if not as_held:
                here = cuts.n_reusable(
                    theirs.text, theirs.provenance, text, first_row, canonical=self.reproducible
                )
                if not self.reproducible and not self.can_cut(s, here):
                    here = common  # its end alone is known
            if here > n and (s == sequence or self.copies) and self.can_cut(s, here):
                source, n = s, here
        return source, n, n_held

    def _can_be_canonical(self, sequence: int) -> bool:
        """Whether a text would be computed as a session that does nothing else computes it.

        Other cells in the buffer change in which parts ggml adds up. A recurrent model has a
        state instead, which is gone where it would have to be cut.
        """
        if self.reproducible or not self.sequences.shared:
            return self.reproducible or not self.is_recurrent
        return not any(held.text for s, held in self.sequences.held.items() if s != sequence)

    def _back_to_boundary(self, portions: Sequence[Portion]) -> None:
        for portion in portions:
            n = len(self.sequences[portion.sequence].text)
            if not native.drop_tail(self.handle, portion.sequence, n):
                # A recurrent model's states were moved about when it stopped: none is sure.
                native.clear_memory(self.handle)
                self.sequences.empty()
                return

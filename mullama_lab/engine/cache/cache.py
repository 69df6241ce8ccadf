"""One llama.cpp context and what its cache holds. Not thread-safe: one worker owns it.

It knows token ids, positions and rows. It does not know text, chains or traces. Whatever
happens (stop, error), each sequence of the cache afterwards ends at a token boundary that
`sequences` names.

Nothing is decoded that the cache already holds: a sequence that needs tokens takes over the
longest beginning of them that any sequence has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from time import monotonic, perf_counter_ns, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.cache.ledger import Counts, Ledger
from mullama_lab.engine.cache.sequences import Sequences, n_common
from mullama_lab.engine.native import context as native
from mullama_lab.engine.native.batch import Batch, LogitRows
from mullama_lab.errors import ContextFull, SessionError, Stopped

Logits = NDArray[np.float32]  # (n_vocab,)
Progress = Callable[[int, int], None]

MOMENT = 0.1  # seconds that generation gives way for
SCORE_BYTES = 64 << 20  # logits that one piece of a scored text may take


class Context:
    """The native context of a session, with the tokens of its cache.

    Args:
        n_ctx: tokens that one sequence may have; llama.cpp has room for these and rounds up.
        before_decode: raises where the weights are not to be trusted.
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
    ) -> None:
        self.handle = handle
        self._before_decode = before_decode
        self.n_vocab = n_vocab
        self.n_ctx = min(n_ctx, native.n_ctx(handle))
        self.leaves_a_core = native.n_threads(handle) < (os.cpu_count() or 1)
        self.stop = stop
        self.batch = Batch(native.n_batch(handle))
        self._rows = LogitRows(handle, n_vocab)
        self.is_recurrent = native.is_recurrent(handle)
        self.copies = shares_cells or self.is_recurrent
        self.sequences = Sequences(
            self.n_ctx, native.n_seq_max(handle), shared=shares_cells and not self.is_recurrent
        )
        self.decode_ns = 0  # that the newest batch took
        self.way_until = 0.0  # of time.monotonic; until then others come first
        self._counts = Counts()

    def close(self) -> None:
        if self.handle is not None:
            native.free_context(self.handle)
            self.handle = None

    @property
    def ledger(self) -> Ledger:
        return self._counts.ledger

    @property
    def n_decoded(self) -> int:
        return self._counts.decoded

    # Decoding.

    def prefill(
        self, tokens: Sequence[int], sequence: int = 0, progress: Progress | None = None
    ) -> Logits:
        """Make a sequence hold exactly these tokens; the row of logits after the last one.

        At least one token is decoded, since the row comes from it. `progress(done, total)`
        counts tokens that were there already as done.
        """
        self._fill(tokens, sequence, len(tokens) - 1, progress)
        return self._rows[-1]

    def hold(self, tokens: Sequence[int], sequence: int, progress: Progress | None = None) -> None:
        """Make a sequence hold exactly these tokens; no row is needed, so all may be there."""
        self._fill(tokens, sequence, len(tokens), progress)

    def advance(self, steps: Sequence[tuple[int, int]]) -> list[Logits]:
        """Decode one more token in each of some sequences; the rows of logits after them.

        Args:
            steps: (sequence, token), each sequence once and in rising order.
        """
        self._decode_steps(steps)
        return [self._rows[i] for i in range(len(steps))]

    def extend(self, texts: Sequence[tuple[int, Sequence[int]]]) -> Iterator[Logits]:
        """Decode more tokens in some sequences, side by side; the row after each of them in turn.

        Args:
            texts: (sequence, tokens), each sequence once and in rising order.
        """
        steps = [(sequence, token) for sequence, tokens in texts for token in tokens]
        self._evict(len(steps), besides=[sequence for sequence, _ in texts])
        for first in range(0, len(steps), self._most_rows):
            part = steps[first : first + self._most_rows]
            self._decode_steps(part)
            for i in range(len(part)):
                yield self._rows[i]

    def give_way(self) -> None:
        """Let those come first who asked for it, for a moment."""
        left = self.way_until - monotonic()
        if left > 0:
            sleep(min(left, MOMENT))

    def score(self, tokens: Sequence[int], n_held: int = 0) -> Iterator[Logits]:
        """Let sequence 0 hold a text, and yield the row after each token but its first `n_held`.

        Those come from the cache as far as it has them.
        """
        self._prepare(tokens, 0, n_held)
        held = self.sequences[0].tokens
        while len(held) < n_held:
            part = tokens[len(held) : min(n_held, len(held) + self.batch.capacity)]
            self._append(0, part, [False] * len(part))
        yield from self.extend([(0, tokens[n_held:])])

    # Sequences.

    def fork(self, source: int, n: int) -> int:
        """A new sequence with the first n tokens of another one, which the caller keeps."""
        sequence = self.sequences.free_id()
        if not sequence:  # 0 is everybody's
            victims = [s for s in self.sequences.replaceable() if s not in (0, source)]
            if not victims:
                raise SessionError(
                    f"no sequence is free: the session has n_seq_max={self.sequences.n_max}. "
                    "Remove one with session.remove(sequence), or open the session with a larger "
                    "n_seq_max."
                )
            sequence = victims[0]
        parent, known = self.sequences[source], self.sequences
        at_work, parent.at_work = parent.at_work, True  # which its fork must not overwrite
        try:
            self.hold(parent.tokens[:n], sequence)
        except ContextFull as error:
            raise ContextFull(
                f"this cache knows sequence {source} only as it is at its end, so a fork of {n} of "
                f"its {len(parent.tokens)} tokens decodes them again, and they do not fit beside "
                "it. Fork all of its tokens, or open the session with a larger n_ctx."
            ) from error
        finally:
            parent.at_work = at_work
        known.use(sequence).kept = True
        return sequence

    def take(self, tokens: Sequence[int]) -> int:
        """An id to work in: one that holds nothing, or the one that was not used for longest.

        The sequence that these tokens can be copied from is left as it is if another will do.
        """
        known = self.sequences
        free = known.free_id()
        if free is None and (victims := known.replaceable()):
            source = known.longest(tokens, known.held)[0]
            free = next((s for s in victims if s not in (0, source)), victims[0])
        if free is None:
            raise SessionError(
                f"all {self.sequences.n_max} sequences of the session are kept, so there is none "
                "to work in. Remove one with session.remove(sequence)."
            )
        known.use(free)
        return free

    def rewind(self, sequence: int, n: int) -> None:
        """Let a sequence keep its first n tokens."""
        tokens = self.sequences[sequence].tokens
        if n < len(tokens):
            self._hold_again(tokens[:n], sequence)

    def recover(self) -> None:
        """Decode again what kept sequences lost when a recurrent model was stopped."""
        for sequence, held in list(self.sequences.held.items()):
            if held.lost:
                self._hold_again(held.lost, sequence)

    def remove(self, sequence: int) -> None:
        """Forget a sequence."""
        native.drop_tail(self.handle, sequence, 0)
        self.sequences.remove(sequence)

    def forget(self) -> None:
        """Empty the cache."""
        native.clear_memory(self.handle)
        self.sequences.clear()

    def without_room(self, sequences: Sequence[int]) -> Sequence[int]:
        """Which of these sequences cannot have one more token each; makes room for the others."""
        known = self.sequences
        if not known.shared:
            return [s for s in sequences if known.room(s) == 0]
        lacking = len(sequences) - (known.n_ctx - known.n_cells)
        if lacking > 0:
            self._evict(len(sequences), besides=sequences)
            lacking = len(sequences) - (known.n_ctx - known.n_cells)
        return sequences[len(sequences) - lacking :] if lacking > 0 else ()

    def room_beside(self, tokens: Sequence[int]) -> int:
        """Cells left for a new sequence with these tokens, beside what may not be overwritten."""
        known = self.sequences
        if not known.shared:
            return self.n_ctx - len(tokens)
        staying = known.untouchable()
        new = len(tokens) - known.longest(tokens, staying)[1]
        return self.n_ctx - known.n_cells_of(staying) - new

    # Inside.

    def _hold_again(self, tokens: list[int], sequence: int) -> None:
        """Let a sequence hold these tokens, after a stop in between if it is kept."""
        held = self.sequences[sequence]
        try:
            self.hold(tokens, sequence)
        except BaseException:
            if held.kept and len(held.tokens) < len(tokens):
                held.lost = tokens
            raise

    @property
    def _most_rows(self) -> int:
        """Tokens of one batch when the rows of all of them are wanted."""
        return max(1, min(self.batch.capacity, SCORE_BYTES // (4 * self.n_vocab)))

    def _fill(
        self, tokens: Sequence[int], sequence: int, n_most: int, progress: Progress | None = None
    ) -> None:
        """Make a sequence hold these tokens; at most n_most of them come from the cache."""
        self._prepare(tokens, sequence, n_most)
        held = self.sequences[sequence].tokens
        while len(held) < len(tokens):
            done = len(held)
            if progress is not None:
                progress(done, len(tokens))
            part = tokens[done : done + self.batch.capacity]
            is_last = done + len(part) == len(tokens)
            self._append(sequence, part, [*[False] * (len(part) - 1), is_last])
        if progress is not None:
            progress(len(tokens), len(tokens))

    def _prepare(self, tokens: Sequence[int], sequence: int, n_most: int) -> None:
        """Let a sequence hold what the cache can give of these tokens, with room for the rest."""
        self.sequences.use(sequence)
        source, n, n_held = self._best(tokens, sequence, n_most)
        self._must_fit(tokens, sequence, source, n)
        self.sequences[sequence].lost = []
        if source == sequence:
            n = self._cut(sequence, n)
            self._counts.reused += n
        else:
            self._cut(sequence, 0)
            native.copy_sequence(self.handle, source, sequence, n)
            self.sequences.copy(source, sequence, n)
            self._counts.forked += n
        self._counts.decoded_again += n_held - n
        self._evict(len(tokens) - n, besides=[sequence])

    def _best(self, tokens: Sequence[int], sequence: int, n_most: int) -> tuple[int, int, int]:
        """(where to take them from, how many it can give, how many the cache holds)."""
        known = self.sequences.held
        source, n, n_held = sequence, 0, 0
        for s in (sequence, *(s for s in known if s != sequence)):
            theirs = known[s].tokens
            here = min(n_common(theirs, tokens), n_most)
            n_held = max(n_held, here)
            if here > n and (s == sequence or self.copies) and self._can_cut(s, here):
                source, n = s, here
        return source, n, n_held

    def _can_cut(self, sequence: int, n: int) -> bool:
        """Whether the cache still knows how things were after n tokens of a sequence.

        A recurrent model knows its newest state alone. A sliding window may have lost cells
        before it to other sequences, which is seen in where its positions begin.
        """
        if n == len(self.sequences[sequence].tokens):
            return True
        return native.first_position(self.handle, sequence) == 0

    def _cut(self, sequence: int, n: int) -> int:
        """Keep the first n tokens of a sequence, or none where the cache cannot; how many."""
        if n == len(self.sequences[sequence].tokens):
            return n
        if n == 0 or not native.drop_tail(self.handle, sequence, n):
            native.drop_tail(self.handle, sequence, 0)
            n = 0
        self.sequences.cut(sequence, n)
        return n

    def _must_fit(self, tokens: Sequence[int], sequence: int, source: int, n: int) -> None:
        if len(tokens) > self.n_ctx:
            raise ContextFull(
                f"{len(tokens)} tokens do not fit in a context of {self.n_ctx}. "
                "Open the session with a larger n_ctx, or shorten the prompt."
            )
        known = self.sequences
        if not known.shared or len(known.held) == 1:
            return
        staying = known.untouchable(besides=sequence)
        free = self.n_ctx - known.n_cells_of(staying, beginning=(source, n))
        if len(tokens) - n > free:
            raise ContextFull(
                f"{len(tokens) - n} more tokens do not fit: {free} of the {self.n_ctx} cells of "
                f"the context are free beside the {len(staying)} other sequences that are kept. "
                "Remove one with session.remove(sequence), or open the session with a larger n_ctx."
            )

    def _evict(self, n: int, besides: Sequence[int]) -> None:
        """Forget sequences that may be overwritten until n cells are free, or none is left."""
        known = self.sequences
        if not known.shared:
            return
        while known.n_ctx - known.n_cells < n:
            victims = [s for s in known.replaceable() if s not in besides and known[s].tokens]
            if not victims:
                return
            self.remove(victims[0])

    def _append(self, sequence: int, tokens: Sequence[int], wanted: Sequence[bool]) -> None:
        n, batch = len(tokens), self.batch
        first = len(self.sequences[sequence].tokens)
        batch.token[:n] = tokens
        batch.pos[:n] = np.arange(first, first + n)
        batch.seq[:n] = sequence
        batch.wanted[:n] = wanted
        self._decode(n, [sequence])
        self.sequences.extend(sequence, [int(t) for t in tokens])

    def _decode_steps(self, steps: Sequence[tuple[int, int]]) -> None:
        """Decode (sequence, token) one after the other; the row of each is wanted."""
        batch = self.batch
        place = {s: len(self.sequences[s].tokens) for s, _ in steps}
        for i, (sequence, token) in enumerate(steps):
            batch.token[i] = token
            batch.seq[i] = sequence
            batch.pos[i] = place[sequence]
            batch.wanted[i] = True
            place[sequence] += 1
        self._decode(len(steps), list(place))
        for sequence, token in steps:
            self.sequences.extend(sequence, (token,))

    def _decode(self, n: int, sequences: Sequence[int]) -> None:
        """Decode the first n tokens of the batch, which belong to these sequences."""
        if self.stop:  # only a CPU looks at it while it decodes
            raise self._stopped(sequences)
        self._before_decode()
        start = perf_counter_ns()
        try:
            finished = self.batch.decode(self.handle, n)
        except BaseException:
            self._back_to_boundary(sequences)
            raise
        if not finished:
            self._back_to_boundary(sequences)
            raise self._stopped(sequences)
        counts = self._counts
        self.decode_ns = perf_counter_ns() - start
        counts.nanoseconds += self.decode_ns
        counts.batches += 1
        counts.decoded += n

    def _stopped(self, sequences: Sequence[int]) -> Stopped:
        held = self.sequences.held
        n = sum(len(held[s].tokens) for s in sequences if s in held)
        return Stopped(f"stopped after {n} tokens.")

    def _back_to_boundary(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            n = len(self.sequences[sequence].tokens)
            if not native.drop_tail(self.handle, sequence, n):
                # A recurrent model's states were moved about when it stopped: none is sure.
                native.clear_memory(self.handle)
                self.sequences.empty()
                return

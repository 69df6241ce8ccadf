"""What a session's cache holds, sequence by sequence, and how a caller moves it about."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.cache.ledger import Ledger
from mullama_lab.engine.options import whole
from mullama_lab.engine.session.core import SessionCore


class SessionCache(SessionCore):
    """The sequences of a session.

    Sequence 0 is where `generate` works unless told otherwise. `fork` makes others, which are
    yours until you remove them. Branches and `generate_many` work in whichever sequence is
    free, and leave there what they decoded; later work may take it over, and sequence 0 too.
    """

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The tokens the cache holds in sequence 0."""
        return np.array(self._context.sequences[0].tokens, np.int32)

    @property
    def sequences(self) -> Mapping[int, NDArray[np.int32]]:
        """The tokens of each sequence in the cache, int32 of shape (n,), by its id; read-only.

        A recurrent model that is stopped while it decodes loses every state. Sequences that you
        keep still have their tokens then, which are decoded again when they are next needed.
        """
        held = sorted(self._context.sequences.held.items())
        return MappingProxyType(
            {
                sequence: np.array(theirs.lost or theirs.tokens, np.int32)
                for sequence, theirs in held
                if theirs.tokens or theirs.kept or sequence == 0
            }
        )

    @property
    def n_cells(self) -> int:
        """Cells of the cache in use: a token that sequences share takes one, not one for each."""
        return self._context.sequences.n_cells

    @property
    def ledger(self) -> Ledger:
        """What was decoded, and what was not, since the session was opened."""
        return self._context.ledger

    @property
    def n_decoded(self) -> int:
        """How many tokens were decoded since the session was opened."""
        return self._context.n_decoded

    def fork(self, sequence: int = 0, *, n_tokens: int | None = None) -> int:
        """A new sequence that begins like another one; its id.

        They share the cells of what they have in common, and nothing is decoded. Where a cache
        cannot share (kv_unified=False) or cannot be cut (a recurrent model, at another place
        than its end), the tokens are decoded again, and `session.ledger` says so.

        Args:
            sequence: the one to begin like.
            n_tokens: how many of its tokens; None is all of them.

        Raises:
            ValueError: there is no such sequence, or it has fewer tokens.
            SessionError: n_seq_max sequences are in use.
            ContextFull: tokens must be decoded again, and do not fit beside the other sequence.
        """

        def work() -> int:
            n = self._n_of(sequence, n_tokens)
            return self._context.fork(sequence, n)

        return self._do(work)

    def rewind(self, n_tokens: int, *, sequence: int = 0) -> None:
        """Let a sequence keep its first tokens and forget the rest.

        A recurrent model cannot forget a tail: its tokens are decoded again then.

        Raises:
            ValueError: there is no such sequence, or it has fewer tokens.
        """
        self._do(lambda: self._context.rewind(sequence, self._n_of(sequence, n_tokens)))

    def remove(self, sequence: int) -> None:
        """Forget a sequence; its id may be given again. Sequence 0 becomes empty.

        Raises:
            ValueError: there is no such sequence.
        """
        self._do(lambda: self._context.remove(self._check_sequence(sequence)))

    def reset(self) -> None:
        """Empty the cache: no sequence but 0 is left."""
        self._do(self._context.forget)

    def _check_sequence(self, sequence: int) -> int:
        """A sequence that there is; naming one keeps it."""
        sequence = whole("sequence", sequence, 0, self.n_seq_max - 1)
        known = self._context.sequences
        if sequence not in known:
            ids = ", ".join(map(str, sorted(known.held)))
            raise ValueError(
                f"there is no sequence {sequence}. There are {ids}; session.fork() makes another."
            )
        if sequence:
            known[sequence].kept = True
        return sequence

    def _n_of(self, sequence: int, n_tokens: int | None) -> int:
        self._context.recover()
        n = len(self._context.sequences[self._check_sequence(sequence)].tokens)
        return n if n_tokens is None else whole("n_tokens", n_tokens, 0, n)

"""Rows of logits under weights that are not in force, computed in a session of their own.

So neither the cache nor a text under way in the session at work is touched.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.errors import ClosedError, DecodeError

LEAST_ROOM = 256  # tokens
NO_NUMBERS = "the model has no numbers for the next token here. Give a smaller scale."


def session_aside(like: Session, n_tokens: int) -> Session:
    """A session like another one, with room for so many tokens of one text."""
    n_ctx = min(max(LEAST_ROOM, 1 << n_tokens.bit_length()), like.n_ctx)
    return like.model.session(**{**like.options, "n_ctx": n_ctx, "n_seq_max": 1})


class RowsAside:
    """Gives the row after a prompt under any weights; what runs in a session is not disturbed.

    The session that it opens has room for what is asked alone, and is otherwise like the given one.
    It remembers the last two rows: those that are compared.
    """

    def __init__(self, like: Session) -> None:
        self.like = like
        self._own: Session | None = None
        self._is_closed = False
        self._known: dict[tuple[str, tuple[int, ...]], NDArray[np.float32]] = {}
        self._lock = threading.Lock()

    def row(self, tokens: Sequence[int], steering: Steering) -> NDArray[np.float32]:
        """The row of logits after some tokens, float32 of shape (n_vocab,)."""
        key = steering.epoch, tuple(tokens)
        with self._lock:
            row = self._known.pop(key, None)
            if row is None:
                row = self._under(steering, len(tokens)).logits(list(tokens))
            self._known = dict([*self._known.items(), (key, row)][-2:])
            return row

    def logprob(self, prompt: Sequence[int], target: Sequence[int], steering: Steering) -> float:
        """How likely some tokens are after others, in nats.

        Raises:
            ValueError: the rows have no numbers, as where an adapter is at a scale far too large.
        """
        with self._lock:
            session = self._under(steering, len(prompt) + len(target))
            try:
                scored = session.score(list(target), given=list(prompt), top=1)
            except DecodeError as error:
                if steering == Steering():
                    raise
                raise ValueError(NO_NUMBERS) from error
            return float(scored.logprob.sum())

    def close(self) -> None:
        """Stop what it decodes, and close its session; what is asked from now on is refused."""
        self._is_closed = True
        self._close_own()

    def _close_own(self) -> None:
        if self._own is not None:
            self._own.close()

    def _under(self, steering: Steering, n: int) -> Session:
        """Its session with these weights in force, and room for so many tokens."""
        session = self._with_room(n)
        session.steer(Setting(None, steering.adapters, steering.control))
        return session

    def _with_room(self, n: int) -> Session:
        if self._own is None or self._own.n_ctx < n:
            self._close_own()
            self._own = None
            if not self._is_closed:
                self._own = session_aside(self.like, n)
            if self._is_closed:  # maybe while that was opened, by who found no session to close
                self._close_own()
        if self._own is None or self._is_closed:
            raise ClosedError("what computes rows aside was closed.")
        return self._own

"""Ledger: what a session's answers cost, counted token by token."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mullama_lab.counted import counted


@dataclass(frozen=True)
class Ledger:
    """What was decoded since a session was opened, and what did not have to be.

    Every number is counted where it happens; none is estimated. The difference of two is what
    lies between them:

        before = session.ledger
        session.generate(prompt)
        (session.ledger - before).decoded

    Attributes:
        decoded: tokens that llama.cpp decoded.
        reused: tokens of a prompt that the sequence had in its cache already.
        forked: tokens that a sequence took over from another one.
        decoded_again: tokens, among those decoded, that the cache did hold but could not give,
            because it cannot drop a tail or share (recurrent models, some sliding windows,
            kv_unified=False).
        batches: calls of `llama_decode`.
        seconds: wall time of these calls, measured.
    """

    decoded: int = 0
    reused: int = 0
    forked: int = 0
    decoded_again: int = 0
    batches: int = 0
    seconds: float = 0.0

    @property
    def saved(self) -> int:
        """Tokens that were asked for and not decoded."""
        return self.reused + self.forked

    def __sub__(self, other: Ledger) -> Ledger:
        if not isinstance(other, Ledger):
            return NotImplemented
        names = [f.name for f in fields(self)]
        return Ledger(**{n: getattr(self, n) - getattr(other, n) for n in names})

    def __repr__(self) -> str:
        again = f" ({self.decoded_again} of them again)" if self.decoded_again else ""
        return (
            f"Ledger({counted(self.decoded, 'token')} decoded{again} in "
            f"{counted(self.batches, 'batch', 'batches')}, "
            f"{self.reused} reused, {self.forked} forked)"
        )


@dataclass(slots=True)
class Counts:
    """A Ledger that grows, and what a monitor reads beside it; any thread may read.

    Attributes:
        generated: tokens that were drawn.
        first_token: when the newest first token of a run came (nanoseconds of
            `time.perf_counter_ns`), and after how many seconds of its run; None before any.
    """

    decoded: int = 0
    reused: int = 0
    forked: int = 0
    decoded_again: int = 0
    batches: int = 0
    nanoseconds: int = 0
    generated: int = 0
    first_token: tuple[int, float] | None = None

    def add_batch(self, n_tokens: int, nanoseconds: int) -> None:
        """Count a call of `llama_decode`."""
        self.batches += 1
        self.decoded += n_tokens
        self.nanoseconds += nanoseconds

    @property
    def ledger(self) -> Ledger:
        """What there is now."""
        counted = (self.decoded, self.reused, self.forked, self.decoded_again, self.batches)
        return Ledger(*counted, self.nanoseconds / 1e9)

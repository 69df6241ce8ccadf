"""One step of a generation, as a reader is given it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mullama_lab.engine.stages import Chain


@dataclass(frozen=True, slots=True)
class Step:
    """One generated token and how it came about. Log-probabilities in nats, times in ns.

    `piece` is the token's bytes. `text` is what it adds to the trace's text, and so what can be
    printed of it: the characters that its bytes complete; nothing of a control token or a stop
    string. The texts of all steps joined are the trace's text.
    """

    index: int
    token: int
    piece: bytes
    text: str
    logprob: float
    logprob_after: float
    rank: int
    entropy: float
    top: tuple[tuple[int, bytes, float], ...]  # (token, piece, logprob) before the chain
    after: tuple[tuple[int, bytes, float], ...]  # the same after the chain
    remaining_mass: float  # probability of all tokens not in `top`
    n_kept: tuple[int, ...]  # candidates after each stage
    chain: Chain
    decode_ns: int
    sample_ns: int
    constraint_ns: int
    capture_ns: int
    forced: bool = False  # given, not drawn
    canonical: bool = False  # the row is that of a session which does nothing else
    ahead: bool = False  # forced by a grammar, and decoded with the token before it

    def __repr__(self) -> str:
        piece = self.piece.decode("utf-8", "replace")
        return (
            f"Step({self.index}: {piece!r}, token {self.token}, rank {self.rank}, "
            f"p {np.exp(self.logprob):.3f} before and {np.exp(self.logprob_after):.3f} after)"
        )

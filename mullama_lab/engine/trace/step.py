"""One step of a generation: what a reader is given, and what is recorded of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.rows.capture import RowFacts
from mullama_lab.engine.stages import Chain


@dataclass(slots=True)
class Facts:
    """All that is recorded of one step; `columns` has the names of the trace's own columns."""

    columns: dict[str, float]
    piece: bytes
    text: bytes  # what the step adds to the text; empty for control tokens
    row: RowFacts
    after_ids: NDArray[np.int32]
    after_logprobs: NDArray[np.float32]
    n_kept: tuple[int, ...]
    state: tuple[tuple[float, ...], ...]


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

    def __repr__(self) -> str:
        piece = self.piece.decode("utf-8", "replace")
        return (
            f"Step({self.index}: {piece!r}, token {self.token}, rank {self.rank}, "
            f"p {np.exp(self.logprob):.3f} before and {np.exp(self.logprob_after):.3f} after)"
        )

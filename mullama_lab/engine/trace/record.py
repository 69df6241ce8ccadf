"""The record of one step: what every trace is made of, whoever chose the token.

A drawn token, a scored one, one that a caller gave and the one at which a branch goes off all
become a StepRecord here, and `trace.append(record)` is the only way into a trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native import Logits
from mullama_lab.engine.rows.capture import RowFacts

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.trace.trace import Trace

KeptRow: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32]]  # ids in order, logits
States: TypeAlias = tuple[tuple[float, ...], ...]  # what each stage had learnt
Standing: TypeAlias = tuple[float, int]  # a token's log-probability and rank before the chain
Outcome: TypeAlias = tuple[float, NDArray[np.int32], NDArray[np.float32]]
"""The token's log-probability after the chain, the likeliest ids then, and theirs."""


@dataclass(slots=True)
class StepRecord:
    """All that is recorded of one step; a field that is a column has the column's name.

    Attributes:
        piece: the token's bytes. text: those it adds to the text; none of a control token.
        kept: the likeliest candidates of the row; None if they are not known.
        n_kept, state: one entry a stage of the chain.
    """

    token: int
    piece: bytes
    text: bytes
    logprob: float
    logprob_after: float
    rank: int
    entropy: float
    logsumexp: float
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]
    after_ids: NDArray[np.int32]
    after_logprobs: NDArray[np.float32]
    kept: KeptRow | None = None
    n_kept: tuple[int, ...] = ()
    state: States = ()
    forced: bool = False
    decode_ns: int = 0
    sample_ns: int = 0
    constraint_ns: int = 0
    capture_ns: int = 0
    wall_ns: int = 0
    canonical: bool = False
    ahead: bool = False

    @classmethod
    def of_row(
        cls,
        model: Model,
        token: int,
        facts: RowFacts,
        standing: Standing,
        *,
        outcome: Outcome | None = None,
        n_kept: tuple[int, ...] = (),
        state: States = (),
        forced: bool = False,
    ) -> StepRecord:
        """The step whose token came after a row of logits; times are set on it afterwards.

        Args:
            facts: what was read from the row.
            standing: the token's log-probability and rank in it, as `standing_in` gives them.
            outcome: what the chain made of the row; None if there was no chain.
        """
        top_logprobs = facts.top_logits - np.float32(facts.logsumexp)
        if outcome is None:
            outcome = standing[0], facts.top_ids, top_logprobs
        piece, text = model.vocabulary.bytes_of(token)
        return cls(  # in the fields' order: by name it takes a microsecond a token more
            token,
            piece,
            text,
            standing[0],
            outcome[0],
            standing[1],
            facts.entropy,
            facts.logsumexp,
            facts.top_ids,
            top_logprobs,
            outcome[1],
            outcome[2],
            (facts.ids, facts.logits),
            n_kept,
            state,
            forced,
        )

    @classmethod
    def of_parent(
        cls,
        model: Model,
        parent: Trace,
        step: int,
        token: int,
        *,
        standing: Standing,
        logprob_after: float,
    ) -> StepRecord:
        """Another trace's step with another token, which is given: where a branch goes off.

        Args:
            logprob_after: the token's log-probability after the chain; minus infinity if the
                chain had removed it.
        """
        piece, text = model.vocabulary.bytes_of(token)
        return cls(
            token=token,
            piece=piece,
            text=text,
            logprob=standing[0],
            logprob_after=logprob_after,
            rank=standing[1],
            entropy=float(parent.entropy[step]),
            logsumexp=float(parent.logsumexp[step]),
            top_ids=parent.top_ids[step],
            top_logprobs=parent.top_logprobs[step],
            after_ids=parent.after_ids[step],
            after_logprobs=parent.after_logprobs[step],
            kept=parent.kept(step),
            n_kept=parent.n_kept_at(step),
            state=parent.state(step),
            forced=True,
            canonical=bool(parent.canonical[step]),
        )


def standing_in(row: Logits, token: int, facts: RowFacts) -> Standing:
    """A token's log-probability in a row, in nats, and how many tokens are likelier."""
    logit, likeliest = row[token], facts.top_logits
    above = (likeliest if logit >= likeliest[-1] else row) > logit
    return float(logit) - facts.logsumexp, int(np.count_nonzero(above))

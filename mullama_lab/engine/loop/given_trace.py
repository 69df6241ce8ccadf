"""Traces of tokens that were given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mullama_lab.engine.rows.capture import RowFacts
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.record import StepRecord
from mullama_lab.engine.vocabulary.pieces import piece_of

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model


def given_trace(
    model: Model,
    start: Trace,
    steps: Iterable[tuple[int, int, RowFacts]],
    *,
    finish_reason: str,
) -> Trace:
    """A trace that goes on from all of another one with tokens that are given.

    Their rows are of the weights that were in force at its end, decoded with nothing else.

    Args:
        start: the trace before; one without steps is a prompt.
        steps: (token, its rank, what was read off its row) of each. The token must be among
            those that the row's facts keep.
    """
    n = len(start)
    trace = start.begun(n, top=start.top, seed=start.seed, piece=piece_of(model))
    trace.change_chain(Chain())
    trace.change_weights(start.setting_at(n).steering)
    for token, rank, facts in steps:
        logit = facts.logits[np.searchsorted(facts.ids, token)]
        standing = float(logit) - facts.logsumexp, rank
        trace.append(StepRecord.of_row(model, token, facts, standing, forced=True))
    trace.n_copied = len(trace)
    trace.finish_reason = finish_reason
    trace.remember_pieces()
    return trace

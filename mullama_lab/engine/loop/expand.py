"""Rows after many texts that begin alike, side by side; and traces of tokens that were given.

The texts may be any; what they share with each other or with the cache is not decoded again.
Of each one all but its last token is held in a sequence, then one batch decodes the last ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.cache import Context
from mullama_lab.engine.rows.capture import RowFacts
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.record import StepRecord
from mullama_lab.engine.vocabulary.pieces import piece_of
from mullama_lab.errors import ContextFull

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

Logits = NDArray[np.float32]  # (n_vocab,)


def rows_after(
    context: Context, texts: Iterable[Sequence[int]], visit: Callable[[int, Logits], None]
) -> None:
    """Call `visit(place, row)` with the row of logits after each text, of one token or more.

    As many go at once as there are sequences for, and as fit. A row is gone after its visit.

    Raises:
        ContextFull: a text does not fit beside the sequences that are kept.
    """
    waiting = deque((place, list(tokens)) for place, tokens in enumerate(texts))
    while waiting:
        at_work: dict[int, tuple[int, list[int]]] = {}
        try:
            while waiting and _may_begin(context, waiting[0][1], len(at_work)):
                place, tokens = waiting.popleft()
                sequence = context.take(tokens)
                context.hold(tokens[:-1], sequence)
                context.sequences.use(sequence).at_work = True
                at_work[sequence] = place, tokens
            order = sorted(at_work)
            if context.without_room(order):
                raise ContextFull(
                    f"{len(order)} more tokens do not fit in the {context.n_ctx} cells of the "
                    "context beside the sequences that are kept. Remove one with "
                    "session.remove(sequence), or open the session with a larger n_ctx."
                )
            rows = context.advance([(s, at_work[s][1][-1]) for s in order])
            for sequence, row in zip(order, rows, strict=True):
                visit(at_work[sequence][0], row)
        finally:
            for sequence in at_work:
                if sequence in context.sequences:
                    context.sequences[sequence].at_work = False


def _may_begin(context: Context, tokens: Sequence[int], n_at_work: int) -> bool:
    """Whether one more text goes beside those that wait for their last token."""
    if not n_at_work:
        return True
    known = context.sequences
    if known.free_id() is None and not known.replaceable():
        return False
    return not known.shared or context.room_beside(tokens) >= n_at_work


def given_trace(
    model: Model,
    start: Trace,
    steps: Iterable[tuple[int, int, RowFacts]],
    *,
    finish_reason: str,
) -> Trace:
    """A trace that goes on from all of another one with tokens that are given.

    Args:
        start: the trace before; one without steps is a prompt.
        steps: (token, its rank, what was read off its row) of each. The token must be among
            those that the row's facts keep.
    """
    n = len(start)
    trace = start.begun(n, top=start.top, seed=start.seed, piece=piece_of(model))
    trace.change_chain(Chain())
    for token, rank, facts in steps:
        logit = facts.logits[np.searchsorted(facts.ids, token)]
        standing = float(logit) - facts.logsumexp, rank
        trace.append(StepRecord.of_row(model, token, facts, standing, forced=True))
    trace.n_copied = len(trace)
    trace.finish_reason = finish_reason
    trace.remember_pieces()
    return trace

"""How likely a model finds texts that are given: no token is drawn.

One text fills a Trace, which says of each step what it says of a generation. Many texts after one
prompt are decoded side by side for their log-probabilities alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.cache import Context
from mullama_lab.engine.rows.capture import RowReader, must_be_sound
from mullama_lab.engine.rows.tail import log_total
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.record import StepRecord, standing_in
from mullama_lab.errors import ContextFull, Stopped

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

Logits = NDArray[np.float32]  # (n_vocab,)


def score(context: Context, model: Model, trace: Trace, tokens: list[int]) -> None:
    """Append a step for each of these tokens, which are given instead of drawn.

    The trace's prompt comes before them, from the cache as far as that has it. There is no
    chain, so before and after are the same.
    """
    began = start = perf_counter_ns()
    reader = RowReader(model.n_vocab, trace.top)
    n_prompt = len(trace.prompt_tokens)
    text, saved = [*trace.prompt_tokens.tolist(), *tokens], context.ledger.saved
    try:
        rows = context.score(text[:-1], n_prompt - 1) if tokens else ()
        for token, row in zip(tokens, rows):
            t0 = perf_counter_ns()
            facts = reader.read(row)
            record = StepRecord.of_row(model, token, facts, standing_in(row, token, facts))
            record.decode_ns, record.capture_ns = t0 - start, perf_counter_ns() - t0
            trace.append(record)
            trace.seconds = (perf_counter_ns() - began) / 1e9
            start = perf_counter_ns()
        trace.n_prompt_reused = context.ledger.saved - saved
        trace.n_prompt_decoded = n_prompt - trace.n_prompt_reused
        trace.finish_reason = "scored"
    except Stopped:
        trace.finish_reason = "stopped"
        raise
    except BaseException:
        trace.finish_reason = "failed"
        raise
    finally:
        trace.remember_pieces()


def logprobs_after(
    context: Context, prompt: Sequence[int], texts: Sequence[Sequence[int]]
) -> list[list[float]]:
    """The log-probability of each token of each text after one prompt, in nats.

    The prompt is decoded once, and of each text all but its last token. As many texts go at once
    as there are sequences for, and as fit.

    Raises:
        ContextFull: a text does not fit beside the sequences that are kept.
    """
    home = context.take(prompt)
    found: list[list[float]] = []
    at_work = [home]
    try:
        context.sequences.use(home).at_work = True
        row = context.prefill(prompt, home)
        total = log_total_of(row)
        found = [[float(row[text[0]]) - total] for text in texts]
        waiting = [place for place, text in enumerate(texts) if len(text) > 1]
        while waiting:
            if len(context.sequences[home].tokens) > len(prompt):  # where there is no other
                context.hold(prompt, home)
            group = _group(context, prompt, [len(texts[place]) - 1 for place in waiting], at_work)
            places, waiting = waiting[: len(group)], waiting[len(group) :]
            for sequence in group:
                context.hold(prompt, sequence)
            rows = context.extend([(s, texts[p][:-1]) for s, p in zip(group, places)])
            for place in places:
                for token, row in zip(texts[place][1:], rows):
                    found[place].append(float(row[token]) - log_total_of(row))
            _release(context, at_work[1:])
            del at_work[1:]
    finally:
        _release(context, at_work)
    return found


def log_total_of(row: Logits) -> float:
    """The log-sum-exp of a row; `DecodeError` if it is damaged."""
    must_be_sound(row)
    return log_total(row)


def _group(
    context: Context, prompt: Sequence[int], sizes: Sequence[int], at_work: list[int]
) -> list[int]:
    """Sequences for the first of the texts that wait, in rising order; they are at work then.

    Where there is but one sequence, the texts have it one after the other.
    """
    known, home = context.sequences, at_work[0]
    room = context.room_beside(prompt)
    taken = 0
    for size in sizes:
        if taken + size > room or (known.free_id() is None and not known.replaceable()):
            break
        taken += size if known.shared else 0
        sequence = context.take(prompt)
        known.use(sequence).at_work = True
        at_work.append(sequence)
    group = sorted(at_work[1:]) or [home]
    if len(at_work) == 1 and sizes[0] > room:
        raise ContextFull(
            f"{sizes[0]} more tokens after the prompt do not fit in the {context.n_ctx} cells of "
            "the context beside the sequences that are kept. Remove one with "
            "session.remove(sequence), or open the session with a larger n_ctx."
        )
    return group


def _release(context: Context, sequences: Sequence[int]) -> None:
    for sequence in sequences:
        if sequence in context.sequences:
            context.sequences[sequence].at_work = False

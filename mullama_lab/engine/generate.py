"""Generate tokens, one step at a time: the one loop.

logits -> chain -> token -> step -> decode. The loop knows token ids and logits; it knows no
templates, threads or widgets. Plain, streamed and background generation are consumers of it;
scoring a given text fills the same Trace from a text instead of a draw.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import _native as native
from mullama_lab.engine.capture import RowFacts, RowReader
from mullama_lab.engine.chain import Chain
from mullama_lab.engine.context import Context
from mullama_lab.engine.sampling import ChainSampler, SurvivorCount
from mullama_lab.engine.trace import Facts, Trace
from mullama_lab.errors import Stopped

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

Logits = NDArray[np.float32]  # (n_vocab,)


class Controls(Protocol):
    """What the loop asks and tells while it works."""

    @property
    def chain(self) -> Chain: ...
    @property
    def stop_requested(self) -> bool: ...
    def on_prompt(self, done: int, total: int) -> None: ...
    def on_step(self) -> None: ...


@dataclass(frozen=True)
class Limits:
    """When a generation ends by itself."""

    max_tokens: int
    stop: tuple[bytes, ...] = ()


def generate(
    context: Context, model: Model, trace: Trace, controls: Controls, limits: Limits
) -> None:
    """Prefill the trace's prompt, then append step after step.

    Sets `trace.finish_reason`: length, eog, stop (a stop string), stopped (on request) or
    context (no room left).
    """
    began = perf_counter_ns()
    try:
        row = _prefill(context, trace, controls)
        decode_ns = perf_counter_ns() - began
        sampler = _Sampler(model, trace)
        stops = _StopStrings(limits.stop)
        reason = "length" if limits.max_tokens == 0 else ""
        while not reason:
            token = sampler.step(row, controls.chain, decode_ns)
            trace.seconds = (perf_counter_ns() - began) / 1e9
            if trace.seconds_to_first_token is None:
                trace.seconds_to_first_token = trace.seconds
            controls.on_step()
            reason = _reason_to_end(context, model, trace, controls, limits, stops)
            if not reason:
                start = perf_counter_ns()
                row = context.advance(token)
                decode_ns = perf_counter_ns() - start
        trace.finish_reason = reason
    except Stopped:
        trace.finish_reason = "stopped"
    except BaseException:
        trace.finish_reason = "failed"
        raise
    finally:
        trace.remember_pieces()


def score(context: Context, model: Model, trace: Trace, tokens: list[int]) -> None:
    """Append a step for each of these tokens, which are given instead of drawn.

    The trace's prompt comes before them. There is no chain, so before and after are the same.
    """
    began = perf_counter_ns()
    reader = RowReader(model.n_vocab, trace.top)
    prompt = trace.prompt_tokens.tolist()
    start = perf_counter_ns()
    text = [*prompt, *tokens]
    try:
        for place, row in enumerate(context.score(text[:-1])):
            if place < len(prompt) - 1:
                continue
            t0 = perf_counter_ns()
            token = text[place + 1]
            facts = reader.read(row)
            logprob = float(row[token]) - facts.logsumexp
            after = facts.top_ids, facts.top_logits - np.float32(facts.logsumexp)
            t1 = perf_counter_ns()
            columns = _columns(facts, row, token, logprob, (t0 - start, 0, t1 - t0))
            trace.append(_facts(model, facts, columns, after, (), ()))
            trace.seconds = (perf_counter_ns() - began) / 1e9
            start = perf_counter_ns()
        trace.finish_reason = "scored"
    except Stopped:
        trace.finish_reason = "stopped"
        raise
    except BaseException:
        trace.finish_reason = "failed"
        raise
    finally:
        trace.remember_pieces()


def _prefill(context: Context, trace: Trace, controls: Controls) -> Logits:
    began, before = perf_counter_ns(), context.n_decoded
    row = context.prefill(trace.prompt_tokens.tolist(), controls.on_prompt)
    trace.n_prompt_decoded = context.n_decoded - before
    trace.n_prompt_reused = len(trace.prompt_tokens) - trace.n_prompt_decoded
    trace.prompt_seconds = (perf_counter_ns() - began) / 1e9
    return row


def _reason_to_end(
    context: Context,
    model: Model,
    trace: Trace,
    controls: Controls,
    limits: Limits,
    stops: _StopStrings,
) -> str:
    if (cut := stops.find(trace)) is not None:
        trace.cut_text(cut)
        return "stop"
    if model.is_eog(int(trace.tokens[-1])):
        return "eog"
    if controls.stop_requested:
        return "stopped"
    if len(trace) >= limits.max_tokens:
        return "length"
    return "context" if context.room == 0 else ""


class _StopStrings:
    """Looks for stop strings in the newest bytes, also across the borders of tokens."""

    def __init__(self, stops: tuple[bytes, ...]) -> None:
        self.stops = stops
        self.longest = max(map(len, stops), default=0)
        self._tail = b""
        self._n_before = 0  # bytes of text before the tail

    def find(self, trace: Trace) -> int | None:
        """Where in the text's bytes a stop string begins, or None."""
        if not self.stops:
            return None
        self._tail += trace.last_text
        found = [at for stop in self.stops if (at := self._tail.find(stop)) >= 0]
        if found:
            return self._n_before + min(found)
        surplus = max(0, len(self._tail) - self.longest + 1)
        self._tail = self._tail[surplus:]
        self._n_before += surplus
        return None


class _Sampler:
    """Turns rows into steps of a trace; follows changes of the chain."""

    def __init__(self, model: Model, trace: Trace) -> None:
        self.model = model
        self.trace = trace
        self.reader = RowReader(model.n_vocab, trace.top)
        self.chain: Chain | None = None

    def step(self, row: Logits, chain: Chain, decode_ns: int) -> int:
        """Choose a token, append the step, tell the stages."""
        i = len(self.trace)
        if chain is not self.chain:
            self._take(chain, i)
        t0 = perf_counter_ns()
        facts = self.reader.read(row)
        t1 = perf_counter_ns()
        state = self.work.state
        self.survivors.start(len(row))
        token = self.work.apply(row, i, self.survivors.count)
        t2 = perf_counter_ns()
        logprob_after, after = _outcome(self.work.candidates, self.trace.top)
        times = (decode_ns, t2 - t1, t1 - t0 + perf_counter_ns() - t2)
        columns = _columns(facts, row, token, logprob_after, times)
        n_kept = tuple(self.survivors.counts)
        self.trace.append(_facts(self.model, facts, columns, after, n_kept, state))
        self.work.accept(token)
        return token

    def _take(self, chain: Chain, step: int) -> None:
        trace = self.trace
        # A stage that stays as it is keeps what it has learnt.
        learnt = {} if self.chain is None else dict(zip(self.chain, self.work.state))
        self.work = ChainSampler(
            chain,
            self.model,
            history=trace.history(step).tolist(),
            seed=trace.seed or 0,
            step=step,
            state=[learnt.get(stage, ()) for stage in chain],
        )
        self.survivors = SurvivorCount(chain)
        self.chain = chain
        trace.change_chain(chain)


def _outcome(
    candidates: native.Candidates, top: int
) -> tuple[float, tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """The log-probability of the token that was drawn, and the likeliest with theirs."""
    window = candidates.window
    probs = np.ascontiguousarray(window["p"])
    drawn = float(np.log(probs[candidates.fields.selected]))
    best = np.argpartition(probs, -top)[-top:] if len(probs) > top else np.arange(len(probs))
    best = best[np.argsort(-probs[best], kind="stable")]
    best = best[probs[best] > 0]
    return drawn, (window["id"][best], np.log(probs[best]))


def _columns(
    facts: RowFacts, row: Logits, token: int, logprob_after: float, times: tuple[int, int, int]
) -> dict[str, float]:
    logit = row[token]
    return {
        "token": token,
        "logprob": float(logit) - facts.logsumexp,
        "logprob_after": logprob_after,
        "rank": _rank(facts, row, logit),
        "entropy": facts.entropy,
        "logsumexp": facts.logsumexp,
        "decode_ns": times[0],
        "sample_ns": times[1],
        "constraint_ns": 0,
        "capture_ns": times[2],
    }


def _rank(facts: RowFacts, row: Logits, logit: np.float32) -> int:
    likeliest = facts.top_logits
    return int(np.count_nonzero((likeliest if logit >= likeliest[-1] else row) > logit))


def _facts(
    model: Model,
    row: RowFacts,
    columns: dict[str, float],
    after: tuple[NDArray[np.int32], NDArray[np.float32]],
    n_kept: tuple[int, ...],
    state: tuple[tuple[float, ...], ...],
) -> Facts:
    token = int(columns["token"])
    return Facts(
        columns=columns,
        piece=model.piece(token),
        text=model.piece(token, special=False),
        row=row,
        after_ids=after[0],
        after_logprobs=after[1],
        n_kept=n_kept,
        state=state,
    )

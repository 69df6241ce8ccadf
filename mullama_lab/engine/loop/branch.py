"""A branch: a generation that goes on from another token than the one that was chosen.

The steps before it are those of its parent. At the step where it parts the token is given, and
every number about it is that of the parent's row, or of the same row decoded again where the
record is not enough. Where other weights compute the branch than computed that row, or the row
came over what other weights had left in the cache, it is the row of the branch's own weights.
After that it is a generation like any other, which draws with its
parent's seed at each step: what differs is caused by the token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.loop.drawing import likeliest_of
from mullama_lab.engine.loop.generation import Generation, Limits
from mullama_lab.engine.loop.lane import Place
from mullama_lab.engine.native import Logits
from mullama_lab.engine.rows.capture import RowReader
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.chain_sampler import ChainSampler, SurvivorCount
from mullama_lab.engine.stages.schedule import Schedule
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.parts import value_at
from mullama_lab.engine.trace.record import Outcome, StepRecord

if TYPE_CHECKING:
    from mullama_lab.engine.cache import Cache
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.steering.steering import Weights


class Branch(Generation):
    """The lane of a branch; `trace` holds the parent's steps before it.

    Args:
        parent: the trace to go off from.
        step, token: where, and with what.
        limits: `max_tokens` counts all steps of the branch.
    """

    def __init__(
        self,
        model: Model,
        trace: Trace,
        chains: Schedule,
        limits: Limits,
        owner: object = None,
        *,
        parent: Trace,
        step: int,
        token: int,
        weights: Sequence[tuple[int, Weights]],
    ) -> None:
        super().__init__(model, trace, chains, limits, owner, place=Place.ANY, weights=weights)
        self.parent, self.at, self.token = parent, step, token
        self._is_given = False  # the trace has the step with the given token
        self.stops.begin_after(trace)
        trace.end_text(self.stops.n_safe)

    def admit(self, cache: Cache) -> None:
        """Append the given step, unless its row has to be decoded first."""
        parent, step, token = self.parent, self.at, self.token
        was = value_at(parent.in_force, step)
        super().admit(cache)
        self.first_row = len(self.text) - 1
        if was.stale or was.steering != self.weights_in(cache).steering:
            self._has_own_row = True
            return
        before, after = _recorded_before(parent, step, token), _recorded_after(parent, step, token)
        if before is not None:
            _must_be_possible(token, step, before[0])
        if before is None or after is None or self._must_learn(parent.chain_at(step)):
            if (row := _whole_row(parent, step, self.model.n_vocab)) is not None:
                self._append_read(row)
        else:
            self._append_given(before, after)
        self.first_row = len(self.text) - 1

    _has_own_row = False  # the given step's numbers are not those of the parent's row

    def take(self, row: Logits, decode_ns: int) -> None:
        if self._is_given:
            super().take(row, decode_ns)
        else:
            self._append_read(row)

    @property
    def determined(self) -> list[int]:
        return self.text.tokens if self._is_given else [*self.text.tokens, self.token]

    def _append_read(self, row: Logits) -> None:
        before = _read_before(row, self.token)
        _must_be_possible(self.token, self.at, before[0])
        outcome, n_kept = self._replayed(row)
        if not self._has_own_row:
            self._append_given(before, outcome[0])
            return
        record = StepRecord.of_row(
            self.model,
            self.token,
            RowReader(self.model.n_vocab, self.trace.top).read(row),
            before,
            outcome=outcome,
            n_kept=n_kept,
            state=self.parent.state(self.at),
            forced=True,
        )
        record.canonical = self.canonical
        self._append(record)

    def _append_given(self, before: tuple[float, int], after: float) -> None:
        model, parent = self.model, self.parent
        self._append(
            StepRecord.of_parent(
                model, parent, self.at, self.token, standing=before, logprob_after=after
            )
        )

    def _append(self, record: StepRecord) -> None:
        trace, reason = self.trace, self.reason_in_text(self.token)
        trace.append(record)
        trace.n_copied = self.n_steps = len(trace)
        with self.turn:
            self._is_given = True
            if not reason:
                self.text.extend((self.token,), generated=True)
        if reason:
            self.finish(reason)

    def _must_learn(self, chain: Chain) -> bool:
        """Whether a stage that goes on learns from each token, so that it must learn this one."""
        now = self.chains.at(self.at + 1)
        return any(stage.learns and stage in now for stage in chain)

    def _replayed(self, row: Logits) -> tuple[Outcome, tuple[int, ...]]:
        """What the chain makes of a row, and how many candidates each stage leaves.

        What stages learn from the token is kept.
        """
        parent, step = self.parent, self.at
        chain = parent.chain_at(step)
        work = ChainSampler(
            chain,
            self.model,
            history=parent.history(step).tolist(),
            seed=self.trace.seed or 0,
            step=step,
            state=parent.state(step),
        )
        survivors = SurvivorCount(chain)
        survivors.start(len(row))
        work.apply(row, step, survivors.count)
        window = work.candidates.window
        chance = window["p"][window["id"] == self.token]
        logprob = float(np.log(chance[0])) if len(chance) and chance[0] > 0 else -np.inf
        outcome = logprob, *likeliest_of(window, self.trace.top)
        work.accept(self.token)
        self.learnt = chain, work.state
        return outcome, tuple(survivors.counts)


def _whole_row(trace: Trace, step: int, n_vocab: int) -> Logits | None:
    """A step's row as it was, if its record kept all of it (as it does of a small vocabulary)."""
    kept = trace.kept(step)
    return kept[1] if kept is not None and len(kept[0]) == n_vocab else None


def _must_be_possible(token: int, step: int, logprob: float) -> None:
    if logprob == -np.inf:
        raise ValueError(
            f"token {token} cannot come at step {step}: the model gives it no probability at all. "
            "Choose one that trace[step].top names, or another with a finite logit."
        )


def _recorded_before(trace: Trace, step: int, token: int) -> tuple[float, int] | None:
    """(log-probability, rank) of a token before the chain, if the record has them."""
    kept = trace.kept(step)
    if kept is not None:
        ids, logits = kept
        found = np.flatnonzero(ids == token)
        if len(found):
            logit = float(logits[found[0]])
            return _before(logit, float(trace.logsumexp[step]), logits)
    found = np.flatnonzero(trace.top_ids[step] == token)
    if not len(found):
        return None
    logprobs = trace.top_logprobs[step]
    logprob = logprobs[found[0]]
    return float(logprob), int(np.count_nonzero(logprobs > logprob))


def _read_before(row: Logits, token: int) -> tuple[float, int]:
    best = float(row.max())
    logsumexp = best + float(np.log(np.exp(row.astype(np.float64) - best).sum()))
    return _before(float(row[token]), logsumexp, row)


def _before(logit: float, logsumexp: float, logits: NDArray[np.float32]) -> tuple[float, int]:
    return logit - logsumexp, int(np.count_nonzero(logits > logit))


def _recorded_after(trace: Trace, step: int, token: int) -> float | None:
    """The log-probability of a token after the chain, minus infinity if it was removed."""
    ids, logprobs = trace.after_ids[step], trace.after_logprobs[step]
    found = np.flatnonzero(ids == token)
    if len(found):
        return float(logprobs[found[0]])
    if not trace.chain_at(step):  # nothing changes the row
        before = _recorded_before(trace, step, token)
        return before[0] if before else None
    n_kept = trace.n_kept_at(step)
    is_whole = bool(n_kept) and n_kept[-1] <= np.count_nonzero(ids >= 0)
    return -np.inf if is_whole else None

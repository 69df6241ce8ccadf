"""Fate: why a token was chosen at a step, or what removed it and by how much.

It follows one token through the chain that was in force there, on the row that the trace kept,
with llama.cpp's own samplers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mullama_lab.engine.model import Model
from mullama_lab.engine.rows.tail import Uncovered, log_total
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting, chain_for_row
from mullama_lab.engine.stages import Chain, Stage, State
from mullama_lab.engine.stages.chain_sampler import ChainSampler
from mullama_lab.engine.stages.moment import Moment, moment_of_row
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace_rows import TraceRows, learning, step_of
from mullama_lab.engine.vocabulary.one_token import one_token
from mullama_lab.errors import NoCandidates
from mullama_lab.studies._draws import draws_that_choose, in_words
from mullama_lab.studies.margin import Margin, learnt_margin, margin

if TYPE_CHECKING:
    import pandas

__all__ = ["Fate", "StageFate", "fate", "fate_in_row"]
__dir__ = __all__.copy  # what tab completion offers

CLOSED_TO = 1e-6  # nats between what is known and all: nothing is missing


@dataclass(frozen=True)
class StageFate:
    """What one stage did to the token.

    Attributes:
        before, after: its log-probability before and after, in nats; -inf once it is removed,
            NaN where only a part of the row is known.
        n_left: candidates that the stage left.
        rank: its rank among them, 0 the likeliest; -1 if it is not among them.
        why_inert: why the stage does nothing at its settings, empty if it may.
    """

    place: int
    stage: Stage
    before: float
    after: float
    n_left: int
    rank: int
    why_inert: str = ""

    @property
    def change(self) -> float:
        """What it added to the log-probability, in nats."""
        return 0.0 if self.before == self.after else self.after - self.before

    @property
    def removed(self) -> bool:
        """Whether this stage took the token out."""
        return self.before != -math.inf and self.after == -math.inf


@dataclass(frozen=True)
class Fate:
    """The way of one token through a chain at one step.

    Attributes:
        token, text, step: which token, where.
        rank, logprob: before the chain; rank 0 is the model's first choice.
        stages: one StageFate for each stage of the chain.
        choice, choice_text: the token that was drawn; -1 if the chain left none.
        removed_by: the StageFate that removed the token, or None.
        margin: the setting at which that stage would have kept it; None if it removed nothing,
            or no number of it decides.
        reason: why that stage removed it, where it has no number and can say; empty if not.
        draw: the uniform in [0, 1) that llama.cpp's `dist` drew there.
        drawn_by: the draws that choose the token, from and to; None if it was removed.
        forced: the token that was given there, so that none was drawn and the choice is the one
            that would have been; -1 if one was drawn.
        source: "kept" if the row is the trace's own, "decoded" if it was decoded again (with the
            noise of another batch), "other weights" if it was decoded with other weights than the
            trace's, "given" if the caller gave it.
    """

    token: int
    text: str
    step: int
    rank: int
    logprob: float
    stages: tuple[StageFate, ...]
    choice: int
    choice_text: str
    margin: Margin | None
    draw: float
    drawn_by: tuple[float, float] | None
    reason: str = ""
    source: str = field(default="given", compare=False)
    forced: int = -1

    @property
    def removed_by(self) -> StageFate | None:
        if self.logprob_after != -math.inf:  # also where Infill has put it back
            return None
        return next((stage for stage in reversed(self.stages) if stage.removed), None)

    @property
    def chosen(self) -> bool:
        """Whether it is the token that was drawn."""
        return self.token == self.choice

    @property
    def logprob_after(self) -> float:
        """Its log-probability after the chain; -inf if it was removed."""
        return self.stages[-1].after if self.stages else self.logprob

    def to_pandas(self) -> pandas.DataFrame:
        """One row a stage; needs pandas."""
        import pandas as pd

        columns = ("stage", "before", "after", "change", "rank", "left", "no effect")
        rows = [
            (repr(x.stage), x.before, x.after, x.change, x.rank, x.n_left, x.why_inert)
            for x in self.stages
        ]
        return pd.DataFrame(rows, columns=list(columns))

    def summary(self) -> str:
        """What became of it, in a sentence or two."""
        begins = f"{self.text!r} had rank {self.rank} in the row, with {math.exp(self.logprob):.2%}"
        by = self.removed_by
        if by is not None:
            way = f"; it stays with {self.margin}" if self.margin else ""
            why = f", {self.reason}" if self.reason else ""
            return f"{begins}; {by.stage!r} removed it{way}{why}."
        if self.logprob == -math.inf:
            return f"{begins}; it cannot come there."
        after = math.exp(self.logprob_after)
        ends = f"{begins}; {'n/a' if math.isnan(after) else f'{after:.2%}'} after the chain"
        if self.token == self.forced:
            return f"{ends}; it was forced, not drawn."
        if self.chosen:
            return f"{ends}, and it {'would have been' if self.forced >= 0 else 'was'} drawn."
        falls = "would have fallen" if self.forced >= 0 else "fell"
        return f"{ends}; the draw {falls} on {self.choice_text!r}."

    def remark(self) -> str:
        """What would have changed it, in a few words; empty if nothing is known."""
        told = self._way_to_change_it()
        return f"It was forced, not drawn. {told}".rstrip() if self.token == self.forced else told

    def _way_to_change_it(self) -> str:
        by = self.removed_by
        if by is None:
            return self._drawn().strip()
        if self.margin is not None:
            return f"{by.stage!r} would keep it at {self.margin}."
        if self.reason:
            return f"{self.reason[0].upper()}{self.reason[1:]}."
        return f"No number of {by.stage!r} would keep it."

    def __repr__(self) -> str:
        lines = [f"  {stage}: {what}" for stage, what in self._lines()]
        return "\n".join([f"step {self.step}: {self.summary()}", *lines])

    def _lines(self) -> Iterator[tuple[str, str]]:
        """Each stage that saw the token, as code, and what it did to it."""
        for x in self.stages:
            if x.before == x.after == -math.inf:
                continue
            change = "n/a" if math.isnan(x.change) else f"{x.change:+.3f} nats"
            stays = f"{change}, rank {x.rank} of {x.n_left}"
            yield repr(x.stage), x.why_inert or ("removed" if x.removed else stays)

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td><code>{escape(stage)}</code></td><td>{escape(what)}</td></tr>"
            for stage, what in self._lines()
        )
        head = "<thead><tr><th>stage</th><th>what it did</th></tr></thead>"
        told = f"<p>Step {self.step}: {escape(self.summary())}{escape(self._drawn())}</p>"
        return f"<div>{told}<table>{head}<tbody>{body}</tbody></table></div>"

    def _drawn(self) -> str:
        if self.drawn_by is None:
            return ""
        made, chosen = self.forced < 0, self.chosen
        return f" {in_words(self.draw, self.drawn_by, is_made=made, is_chosen=chosen)}"


def fate(
    trace: Trace,
    step: int,
    token: int | str,
    *,
    on: Model | Session,
    chain: Setting | Chain | Stage | None = None,
) -> Fate:
    """What each stage did to a token at a step of a trace, and what would have kept it.

    The row is the one that the trace kept, if that decides it, otherwise decoded again. With a
    Model, which cannot decode, a probability that what was kept does not tell is NaN.

    Args:
        step: from 0.
        token: an id, or a text that is exactly one token.
        on: the Model of the trace; or a Session of it, which can decode a row again.
        chain: another chain than the one that was in force there, or a Setting: where its weights
            are others than the trace's, the row is decoded with those. Mirostat and adaptive-p in
            it learn from all tokens before the step, as in `replay`.

    Raises:
        ValueError: no such step or token; the trace was not drawn, or is a part of one; or the
            whole row is needed and `on` is no Session.

    Example:
        fate(trace, 3, " Paris", on=session)
    """
    steerings = [(0, chain.steering)] if isinstance(chain, Setting) else None
    rows = TraceRows(trace, on, steerings)
    rows.must_have_draws()
    step = step_of(rows, step)
    token = one_token(rows.model, token)
    chain, state = _at_work(rows, chain.chain if isinstance(chain, Setting) else chain, step)
    kept = rows.kept(step)
    forced = int(rows.tokens[step]) if rows.trace.forced[step] else -1
    if kept is not None and token in kept.ids:
        try:
            there = replace(kept, chain=chain, state=state)
            return replace(_fate(there, token, partly=rows.session is None), forced=forced)
        except Uncovered:
            pass
    there = replace(rows.decoded(step), chain=chain, state=state)
    return replace(_fate(there, token), forced=forced)


def _at_work(
    rows: TraceRows, chain: Chain | Stage | None, step: int
) -> tuple[Chain, tuple[State, ...]]:
    """The chain that is asked about, and what its stages know before a step."""
    trace = rows.trace
    asked = trace.chain_at(step) if chain is None else Chain.of(chain)
    was_so = all(then == asked for first, then in trace.chains if first <= step)
    recorded = (chain is None or was_so) and not rows.has_other_weights(step)
    return asked, trace.state(step) if recorded else _learnt(rows, asked, step)


def _learnt(rows: TraceRows, chain: Chain, step: int) -> tuple[State, ...]:
    """What the stages of a chain would have learnt from a trace's tokens before a step."""
    if not learning(chain):
        return ()

    def sampler() -> ChainSampler:
        history, seed = rows.history(0).tolist(), rows.trace.seed or 0
        return ChainSampler(chain, rows.model, history=history, seed=seed)

    def take(moment: Moment) -> None:
        with suppress(NoCandidates):
            moment.choose(work)
        work.accept(int(rows.tokens[moment.step]))

    work = sampler()
    for before in range(step):
        try:
            take(rows.known(before))
        except Uncovered as why:
            rows.must_have_session([before], chain, str(why))
            work = sampler()
            rows.decode(range(step), take)
            break
    return work.state


def fate_in_row(
    row: ArrayLike,
    token: int | str,
    chain: Chain | Stage,
    *,
    model: Model,
    history: Iterable[int] = (),
    seed: int = 0,
    step: int = 0,
    state: tuple[tuple[float, ...], ...] = (),
) -> Fate:
    """As `fate`, for a row of logits of shape (n_vocab,), such as `session.logits(prompt)`.

    Raises:
        TypeError: the chain is a Setting, whose weights play no part in a row that is there.
        ValueError: no such token; the chain does not fit the model; or a row, history, seed or
            step that `chain.preview` refuses.
    """
    moment = moment_of_row(
        row,
        model,
        chain=chain_for_row(chain),
        history=history,
        seed=seed,
        step=step,
        state=state,
    )
    return _fate(moment, one_token(model, token))


def _fate(moment: Moment, token: int, *, partly: bool = False) -> Fate:
    work = moment.sampler()
    path = _Path(moment, work, token, partly)
    try:
        choice = moment.choose(work, path.stage)
    except NoCandidates:
        choice = -1
        path.emptied()
    piece = moment.model.piece
    return Fate(
        token=token,
        text=piece(token).decode("utf-8", "replace"),
        step=moment.step,
        rank=int(np.count_nonzero(moment.logits > path.logit)),
        logprob=path.logit - moment.logsumexp,
        stages=tuple(path.stages),
        choice=choice,
        choice_text="(nothing left)" if choice < 0 else piece(choice).decode("utf-8", "replace"),
        margin=path.margin if path.is_removed else None,
        reason=path.reason if path.is_removed else "",
        draw=moment.draw,
        drawn_by=None if choice < 0 else draws_that_choose(work, token),
        source=moment.source,
    )


class _Path:
    """Follows a token from stage to stage."""

    def __init__(self, moment: Moment, work: ChainSampler, token: int, partly: bool) -> None:
        self.moment, self.work, self.token, self.partly = moment, work, token, partly
        self.logit = float(moment.logits[moment.ids == token][0])
        self.stages: list[StageFate] = []
        self.margin: Margin | None = None
        self.reason = ""
        self._logprob = self.logit - moment.logsumexp
        self._before = moment.ids, moment.logits, moment.logsumexp

    def stage(self, place: int, inert: bool, total: float) -> None:
        """See what a stage left."""
        if math.isnan(total) and not self.partly:
            raise Uncovered("the probability of what was not kept is not known")
        stage, window = self.work.chain.stages[place], self.work.candidates.window
        before = self._logprob
        logits = window["logit"]
        mine = logits[window["id"] == self.token]
        stays = len(mine) > 0 and float(mine[0]) > -math.inf
        self._logprob = float(mine[0]) - total if stays else -math.inf
        self.stages.append(
            StageFate(
                place=place,
                stage=stage,
                before=before,
                after=self._logprob,
                n_left=int(np.count_nonzero(logits > -np.inf)),
                rank=int(np.count_nonzero(logits > mine[0])) if stays else -1,
                why_inert=stage.why_inert() if inert else "",
            )
        )
        if before != -math.inf and not stays:
            self._find_margin(place, stage)
            self.reason = stage.why_removed(self.work.samplers[place])
        self._before = window["id"].copy(), logits.copy(), total

    @property
    def is_removed(self) -> bool:
        return self._logprob == -math.inf

    def emptied(self) -> None:
        """The stage after the last one seen left nothing."""
        place = len(self.stages)
        for i, stage in enumerate(self.work.chain.stages[place:], start=place):
            self.stages.append(StageFate(i, stage, self._logprob, -math.inf, 0, -1))
            self._logprob = -math.inf

    def _find_margin(self, place: int, stage: Stage) -> None:
        ids, logits, total = self._before
        sure = abs(log_total(logits) - total) <= CLOSED_TO * max(1.0, abs(total))

        def keeps(version: Stage) -> bool:
            self._spare.replace(place, version)
            return self._keeps(place, ids, logits)

        def keeps_at(mu: float) -> bool:
            sampler.mu = mu
            return self._keeps(place, ids, logits)

        if stage.steers_surprise:
            sampler: Any = self._spare.samplers[place]
            self.margin = learnt_margin(sampler.mu, keeps_at)
        else:
            self.margin = margin(stage, self.token, ids, logits, total, keeps if sure else None)

    @cached_property
    def _spare(self) -> ChainSampler:
        """The chain on samplers of its own, to try other versions of a stage."""
        return self.moment.sampler(self.work.chain)

    def _keeps(self, place: int, ids: NDArray[np.int32], logits: NDArray[np.float32]) -> bool:
        work = self._spare
        work.candidates.load_some(ids, logits)
        try:
            work.apply_stage(place, self.moment.step)
        except NoCandidates:
            return False
        window = work.candidates.window
        mine = window["logit"][window["id"] == self.token]
        return len(mine) > 0 and float(mine[0]) > -math.inf

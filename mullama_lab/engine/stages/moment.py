"""Moment: all that decides the token of one step but for the chain, and what a chain makes of it.

A moment holds a row, or the likeliest candidates of one with the log-sum-exp of all of it. Where
only these are there, llama.cpp's samplers run on them, and the outcome is given only if it is
the one that the whole row would have: of the rest, `rows/tail.py` says what is known, and each
stage what is still known after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mullama_lab.engine import native
from mullama_lab.engine.options import MAX_SEED, MAX_STEP, whole
from mullama_lab.engine.rows.tail import CLOSED, Tail, Uncovered, log_total
from mullama_lab.engine.stages.chain import Chain
from mullama_lab.engine.stages.chain_sampler import ChainSampler
from mullama_lab.engine.stages.given_row import row_and_history
from mullama_lab.engine.stages.randomness import uniform
from mullama_lab.engine.stages.stage import Known, Stage
from mullama_lab.engine.stages.stage_sampler import State
from mullama_lab.errors import NoCandidates

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

OnStage = Callable[[int, bool, float], None]
DRAW_ROUNDING = 1e-5  # of a row's mass: its log-sum-exp is computed in float32


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A step before its token is chosen.

    Attributes:
        ids, logits: the row's candidates in order of id; all of them, if `is_whole`.
        logsumexp: of the whole row.
        history: the tokens before it, prompt included.
        state: what each stage of `chain` had learnt before it.
        chain: the chain in force there.
        source: "kept" by the trace, "decoded" again, or "given" by the caller.
    """

    model: Model
    ids: NDArray[np.int32]
    logits: NDArray[np.float32]
    logsumexp: float
    history: NDArray[np.int32]
    seed: int
    step: int
    chain: Chain
    state: tuple[State, ...] = ()
    source: str = "given"

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            "a Moment has its model, so it cannot be copied or pickled. Its trace and "
            "its arrays can: moment.ids, moment.logits and moment.history."
        )

    @property
    def is_whole(self) -> bool:
        """Whether every token of the vocabulary is among the candidates."""
        return len(self.ids) == self.model.n_vocab

    @property
    def draw(self) -> float:
        """The uniform in [0, 1) that llama.cpp's `dist` uses there."""
        return uniform(self.seed, self.step)

    def sampler(
        self, chain: Chain | None = None, candidates: native.Candidates | None = None
    ) -> ChainSampler:
        """A chain (the one in force) ready to choose the token of this step."""
        chain = self.chain if chain is None else chain
        return ChainSampler(
            chain,
            self.model,
            history=self.history.tolist(),
            seed=self.seed,
            step=self.step,
            state=self.state_for(chain),
            candidates=candidates,
        )

    def state_for(self, chain: Chain) -> tuple[State, ...]:
        """What had been learnt, for a chain of the same stages in the same places, else nothing."""
        same = len(chain) == len(self.chain) and all(
            a is b or type(a) is type(b) for a, b in zip(chain, self.chain)
        )
        return self.state if same else ()

    def choose(self, work: ChainSampler, on_stage: OnStage | None = None) -> int:
        """The token that a chain chooses here.

        `on_stage(place, inert, log_total)` is told what each stage left in `work.candidates`:
        the log-sum-exp of that, tail included, is NaN where it is not known for sure.

        Raises:
            Uncovered: the candidates that were kept do not decide it.
            NoCandidates: the chain removed every token.
        """
        tail = CLOSED
        if not self.is_whole:
            weighed = on_stage is not None or _weighs_the_tail(work)
            n_vocab = self.model.n_vocab
            tail = Tail.of(self.logits, n_vocab, self.logsumexp if weighed else None)
        work.candidates.load_some(self.ids, self.logits)
        return _Walk(self, work, tail, on_stage).go(0)


def _weighs_the_tail(work: ChainSampler) -> bool:
    """Whether the tail's probability matters before a stage cuts it by its ceiling alone."""
    for stage, inert in zip(work.chain.stages, work.inert):
        if not inert and (stage.cuts_by_ceiling or stage.cuts_by_share):
            return stage.cuts_by_share
    return True


class _Walk:
    """One chain on one row, stage by stage, with what is known of the tokens that are not there."""

    def __init__(
        self, moment: Moment, work: ChainSampler, tail: Tail, on_stage: OnStage | None
    ) -> None:
        self.moment, self.work, self.tail, self.on_stage = moment, work, tail, on_stage
        self.candidates = work.candidates
        self._was_partial = bool(tail.n) or tail.masked
        # Logits and ids, ascending, just before the tail was cut; until then candidates keep order.
        self._logits_at_cut: NDArray[np.float32] | None = None
        self._ids_at_cut = moment.ids

    def go(self, first: int) -> int:
        """Apply the stages from a place on, and draw."""
        work, step, stages = self.work, self.moment.step, self.work.chain.stages
        for place in range(first, len(stages)):
            stage, inert = stages[place], work.inert[place]
            if self._was_partial and not inert:
                if stage.cuts_by_share and self.tail.n:
                    return self._cut_by_share(place, stage)
                if stage.asks_which_token:
                    self._must_know_its_tokens(stage)
                self._update_tail(place, stage)
            try:
                work.apply_stage(place, step)
            except NoCandidates:
                if self.tail.n:
                    raise Uncovered(f"{stage!r} leaves none of the tokens that were kept") from None
                raise
            self._report(place, inert)
        token = work.draw(step)
        if self._was_partial:
            self._must_be_sure(token)
        return token

    def _update_tail(self, place: int, stage: Stage) -> None:
        tail, logits = self.tail, self.candidates.window["logit"]
        if tail.masked:
            self.tail = stage.tail_after_masked(tail, logits)
        elif tail.n:
            moment, sampler = self.moment, self.work.samplers[place]
            self.tail = stage.tail_after(tail, Known(logits, moment.ids, moment.history, sampler))
            if not self.tail.n:
                self._note_cut()

    def _note_cut(self) -> None:
        window = self.candidates.window
        self._ids_at_cut, self._logits_at_cut = window["id"].copy(), window["logit"].copy()

    def _must_know_its_tokens(self, stage: Stage) -> None:
        """Of tokens with the same logit, the cut may have left others than of the whole row."""
        if self._logits_at_cut is None:
            return
        places = np.searchsorted(self._ids_at_cut, self.candidates.window["id"])
        here = self._logits_at_cut[places]
        if np.count_nonzero(np.isin(self._logits_at_cut, here)) > len(np.unique(here)):
            raise Uncovered(f"{stage!r} asks which tokens are left, and one has a twin")

    def _cut_by_share(self, place: int, stage: Stage) -> int:
        """Let a stage that cuts by a share of all probability do so while the tail is there.

        If the share, rounded both ways, keeps the same tokens, these are the ones. If not, both
        go on to the end, which they reach with the same token if every token between them does:
        the stages after it keep beginnings of one order, and the share of a beginning grows with
        every cut.
        """
        candidates = self.candidates
        self._note_cut()
        slack = self.moment.model.n_vocab * 2.0**-24
        fewest = stage.cut_by_share(candidates, self.tail, slack)
        self.tail = CLOSED
        if fewest == candidates.size:
            self._report(place, False)
            return self.go(place + 1)
        later = [x for x in self.work.chain.stages[place + 1 :] if not x.why_inert()]
        if self.on_stage is not None or not all(x.keeps_beginning for x in later):
            raise Uncovered(f"the border of {stage!r} is nearer than float32 adds up")
        most = candidates.saved()
        candidates.fields.size = fewest
        token = self.go(place + 1)
        candidates.restore(most)
        if self.go(place + 1) != token:
            raise Uncovered(f"the border of {stage!r} is nearer than float32 adds up")
        return token

    def _report(self, place: int, inert: bool) -> None:
        if self.on_stage is None:
            return
        total = log_total(self.candidates.window["logit"])
        if self.tail.n:
            low, high = self.tail.mass_beside(total)
            total = total + math.log1p(high) if high - low <= DRAW_ROUNDING else math.nan
        self.on_stage(place, inert, total)

    def _must_be_sure(self, token: int) -> None:
        if self.tail.n:
            self._must_draw_it_whatever_the_tail()
        elif self._logits_at_cut is not None:
            mine = self._logits_at_cut[np.searchsorted(self._ids_at_cut, token)]
            if np.count_nonzero(self._logits_at_cut == mine) > 1:
                raise Uncovered(f"token {token} has a twin with the same logit")

    def _must_draw_it_whatever_the_tail(self) -> None:
        """Whatever tokens of the tail lie between them, the draw meets the same candidate."""
        window, selected = self.candidates.window, self.candidates.fields.selected
        shares = window["p"]  # of what was kept
        share = float(shares[selected])
        if share <= 0:
            raise Uncovered("the draw may fall on a token that was not kept")
        _, tail = self.tail.mass_beside(float(window["logit"][selected]) - math.log(share))
        before = float(shares[:selected].sum(dtype=np.float64))
        here = before + share
        target = self.moment.draw * (1 + tail)
        if not before + tail + DRAW_ROUNDING < target < here - DRAW_ROUNDING:
            raise Uncovered("the draw may fall on a token that was not kept")


def moment_of_row(
    row: ArrayLike,
    model: Model,
    *,
    chain: Chain,
    history: Iterable[int] = (),
    seed: int = 0,
    step: int = 0,
    state: tuple[State, ...] = (),
) -> Moment:
    """The moment of a whole row of logits, float32 of shape (n_vocab,), that a caller gives.

    Raises:
        ValueError: a row of another shape, or one that cannot be sampled from; a token of the
            history, a seed or a step that is out of range.
        TypeError: no array, no token ids, or no whole number.
    """
    logits, tokens = row_and_history(row, history, model)
    return Moment(
        model=model,
        ids=np.arange(len(logits), dtype=np.int32),
        logits=logits,
        logsumexp=log_total(logits),
        history=np.array(tokens, np.int32),
        seed=whole("seed", seed, 0, MAX_SEED),
        step=whole("step", step, 0, MAX_STEP),
        chain=chain,
        state=state,
    )

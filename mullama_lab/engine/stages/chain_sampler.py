"""A chain at work: its stages applied one after the other to a row, and a token drawn.

Generation and preview both run this, so what a preview shows is what a generation does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from mullama_lab.engine import native
from mullama_lab.engine.native import Logits
from mullama_lab.engine.options import must_not_be_endless
from mullama_lab.engine.rows.capture import Likeliest, must_be_sound
from mullama_lab.engine.rows.shortlist import shortlist
from mullama_lab.engine.stages.randomness import Draws
from mullama_lab.engine.stages.stage import Stage
from mullama_lab.engine.stages.stage_sampler import Idle, Start, State
from mullama_lab.errors import NoCandidates
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.stages.chain import Chain

LARGE_SHARE = 8  # what leaves more than an eighth of a row is quicker in the row's own order


def check(chain: Iterable[Stage], model: Model) -> None:
    """Refuse a chain that does not fit a model.

    Raises:
        ValueError: it names a token outside the vocabulary, or needs what the model has not.
    """
    if not hasattr(model, "vocab_type"):
        raise TypeError(f"model={brief(model)}: it must be a Model.")
    for stage in chain:
        if not stage.why_inert():
            stage.check(model)


class ChainSampler:
    """A chain at work on one sequence: built for a history, applied to row after row.

    `apply` leaves in `candidates` what the last stage left, with probabilities where `dist`
    normalised them, and returns the token that the seed draws at that step. `inert` says of each
    stage whether it does nothing; `constraint_ns` is what those that constrain took of the last
    row.
    """

    def __init__(
        self,
        chain: Chain,
        model: Model,
        *,
        history: Sequence[int] = (),
        seed: int = 0,
        step: int = 0,
        state: Sequence[State] = (),
        candidates: native.Candidates | None = None,
    ) -> None:
        check(chain, model)
        self.chain = chain
        if not isinstance(state, Sequence):
            raise TypeError(f"state={brief(state)}: it must be what trace.state(step) gives.")
        must_not_be_endless("state", state, "states of stages")
        states = [*state, *[()] * len(chain)]
        self._starts = [
            Start(model, history, step, seed, number, state)
            for number, state in zip(_draws_before(chain), states)
        ]
        self.samplers = [stage.built(start) for stage, start in zip(chain, self._starts)]
        self.candidates = candidates or native.Candidates(model.n_vocab)
        self._dist = Draws(seed, step)
        self.constraint_ns = 0
        self._note_facts()

    def _note_facts(self) -> None:
        """What each token would otherwise have to ask the stages."""
        self.inert = [type(sampler) is Idle for sampler in self.samplers]
        self._changes = [stage.masks or stage.moves for stage in self.chain]
        self._constrains = [stage.constrains for stage in self.chain]
        self._foreseeing: list[Any] = [
            sampler
            for stage, sampler, inert in zip(self.chain, self.samplers, self.inert, strict=True)
            if stage.foresees and not inert
        ]
        acting = [place for place, inert in enumerate(self.inert) if not inert]
        # How many of the likeliest tokens are all that matter; 0 if more do.
        self.n_needed = self._n_needed_by(acting)
        # Where a mask comes first, and how many of the likeliest that it leaves matter then.
        is_mask = bool(acting) and self.chain[acting[0]].masks_rows
        self._mask_place = acting[0] if is_mask else -1
        self._n_needed_masked = self._n_needed_by(acting[1:])

    def _n_needed_by(self, places: Sequence[int]) -> int:
        return self.chain[places[0]].n_needed() if places else 0

    def apply(
        self,
        row: Logits,
        step: int,
        on_stage: Callable[[int, native.Candidates, bool], None],
        likeliest: Likeliest | None = None,
        *,
        only_counts: bool = False,
    ) -> int:
        """Choose the token of one row; `DecodeError` if it holds what cannot be sampled from.

        `on_stage(place, candidates, inert)` sees what each stage left; after an inert one there
        may be nothing new to see, nor all that there was before.

        Args:
            only_counts: `on_stage` asks how many candidates are left, `n_left_out` included, and
                need not see them.
        """
        candidates = self.candidates
        self.constraint_ns = 0
        done = self._load_masked(row) if only_counts and self._mask_place >= 0 else -1
        if done < 0:
            self._load(row, likeliest)
        for place, constrains in enumerate(self._constrains):
            began = perf_counter_ns() if constrains else 0
            acted = place == done or self.apply_stage(place, step)
            if constrains:
                self.constraint_ns += perf_counter_ns() - began
            on_stage(place, candidates, not acted)
        return self.draw(step)

    def _load(self, row: Logits, likeliest: Likeliest | None) -> None:
        """Fill `candidates` with a row, or with all of it that matters."""
        candidates, few, k = self.candidates, None, self.n_needed
        candidates.n_left_out = 0
        if k and likeliest is not None:
            few = likeliest.shortlist(k)
        if k and few is None:
            few = shortlist(row, k)
        if few is not None:
            candidates.load_some(*few)
        else:
            must_be_sound(row)
            candidates.load(row)

    def _load_masked(self, row: Logits) -> int:
        """Fill `candidates` with what the mask that comes first leaves, or all of it that matters.

        The place of that stage, which has then done its work; -1 if too much is left.
        """
        began = perf_counter_ns()
        place, candidates, k = self._mask_place, self.candidates, self._n_needed_masked
        mask: Any = self.samplers[place]
        ids = np.flatnonzero(mask.allowed)
        logits = row[ids]  # which a shortlist is sooner made of than of a row with the rest masked
        few = shortlist(logits, k) if k else None
        if few is not None:
            candidates.load_some(ids[few[0]], few[1])
        elif len(ids) <= len(row) // LARGE_SHARE:
            must_be_sound(row)
            candidates.load_some(ids, logits)
        else:
            return -1
        candidates.n_left_out = len(ids) - candidates.size
        self._must_be_usable(place)
        self.constraint_ns = perf_counter_ns() - began
        return place

    def apply_stage(self, place: int, step: int) -> bool:
        """Let one stage do its work on what `candidates` holds; False if it is inert."""
        if self.inert[place]:
            return False
        self.candidates.n_left_out = 0
        self.samplers[place].apply(self.candidates, step)
        if self._changes[place] or not self.candidates.fields.size:
            self._must_be_usable(place)
        return True

    def draw(self, step: int) -> int:
        """The token that the seed draws at a step from what `candidates` holds."""
        candidates = self.candidates
        self._dist.at(step).apply(candidates)
        return int(candidates.window["id"][candidates.fields.selected])

    def replace(self, place: int, stage: Stage) -> None:
        """Put another stage in a place; the others stay as they are, with what they learnt."""
        drew = self.chain[place].draws or stage.draws
        self.chain = self.chain._replaced(place, stage)
        self.samplers[place] = stage.built(self._starts[place])
        if drew:  # those after it draw by how many before them act
            self._renumber(place + 1)
        self._note_facts()

    def _renumber(self, first: int) -> None:
        numbers = _draws_before(self.chain)
        for place in range(first, len(self.chain)):
            if self.chain[place].draws:
                start = self._starts[place] = replace(self._starts[place], number=numbers[place])
                self.samplers[place] = self.chain[place].built(start)

    def _must_be_usable(self, place: int) -> None:
        """`NoCandidates` if nothing is left, or what llama.cpp cannot sort or normalise."""
        stage = self.chain.stages[place]
        logits = self.candidates.window["logit"]
        top = logits.max() if len(logits) else -np.inf
        if top == -np.inf:
            raise NoCandidates(
                f"no token is left after stage {place}, {stage.in_brief()}. "
                "Loosen that stage, move it up in the chain, or take it out."
            )
        if not top <= native.LARGEST_LOGIT:
            raise NoCandidates(
                f"the logits grew past {native.LARGEST_LOGIT:g} at stage {place}, "
                f"{stage.in_brief()}. Use a higher temperature, weaker penalties or a smaller bias."
            )

    def accept(self, token: int) -> None:
        """Tell every stage which token was taken; once a step."""
        for sampler in self.samplers:
            sampler.accept(token)

    @property
    def forced(self) -> list[int]:
        """The tokens that must come next, one after the other, as far as a stage knows."""
        return next((forced for sampler in self._foreseeing if (forced := sampler.forced)), [])

    @property
    def has_ended(self) -> bool:
        """Whether a stage ends the text where it is now."""
        return any(getattr(sampler, "has_ended", False) for sampler in self.samplers)

    @property
    def state(self) -> tuple[State, ...]:
        """What mirostat and adaptive-p have learnt, one tuple a stage, empty for the others."""
        return tuple(getattr(sampler, "state", ()) for sampler in self.samplers)


def carried(before: Chain, state: Sequence[State], after: Chain) -> list[State]:
    """The states for a chain that takes another one's place: equal stages keep theirs."""
    kept = dict(zip(_numbered(before), state, strict=False))
    return [kept.get(stage, ()) for stage in _numbered(after)]


def _numbered(chain: Chain) -> list[tuple[Stage, int]]:
    """Each stage with how many equal ones are before it."""
    stages = list(chain)
    return [(stage, stages[:i].count(stage)) for i, stage in enumerate(stages)]


def _draws_before(chain: Iterable[Stage]) -> list[int]:
    """For each stage, how many that act before it draw numbers of their own, as XTC does."""
    acting = [stage.draws and not stage.why_inert() for stage in chain]
    return list(accumulate(acting, initial=0))[: len(acting)]


class SurvivorCount:
    """Counts the candidates that each stage leaves, without counting where nothing changed."""

    def __init__(self, chain: Iterable[Stage]) -> None:
        self.masking = [stage.masks for stage in chain]
        self.counts: list[int] = []
        self._size = self._masked = 0

    def start(self, n_vocab: int) -> None:
        """Begin a row."""
        self.counts = []
        self._size, self._masked = n_vocab, 0

    def count(self, place: int, candidates: native.Candidates, inert: bool) -> None:
        """Take note of what stage `place` left."""
        if not inert:
            size = candidates.fields.size + candidates.n_left_out
            if self.masking[place] or (self._masked and size != self._size):
                self._masked = size - candidates.n_possible()
            self._size = size
        self.counts.append(self._size - self._masked)

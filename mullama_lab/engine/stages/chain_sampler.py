"""A chain at work: its stages applied one after the other to a row, and a token drawn.

Generation and preview both run this, so what a preview shows is what a generation does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.options import must_not_be_endless
from mullama_lab.engine.rows.capture import must_be_sound
from mullama_lab.engine.rows.shortlist import shortlist
from mullama_lab.engine.stages import samplers as s
from mullama_lab.engine.stages.chain import Chain, Stage
from mullama_lab.engine.stages.randomness import Draws
from mullama_lab.engine.stages.stage_samplers import Inert, State, build
from mullama_lab.errors import NoCandidates
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

Logits = NDArray[np.float32]  # (n_vocab,)

# Stages that may mask with -inf in place, so that candidates have to be counted afterwards.
MASKING = (
    *(s.TopNSigma, s.Temperature, s.DynamicTemperature, s.LogitBias, s.Mask, s.Infill, s.DRY),
    *(s.Ban, s.Custom),
)
# Stages that change logits: they may leave nothing, or let a finite row overflow.
_CHANGING = (*MASKING, s.Penalties, s.AdaptiveP)


def check(chain: Chain, model: Model) -> None:
    """Refuse a chain that does not fit a model.

    Raises:
        ValueError: it names a token outside the vocabulary, or needs what the model has not.
    """
    if not hasattr(model, "vocab_type"):
        raise TypeError(f"model={brief(model)}: it must be a Model.")
    for stage in chain:
        if stage.why_inert():
            continue
        if isinstance(stage, s.LogitBias):
            _in_vocabulary(stage, [token for token, _ in stage.biases], model.n_vocab)
        elif isinstance(stage, s.Mask):
            _in_vocabulary(stage, (*(stage.allow or ()), *stage.ban), model.n_vocab)
        elif isinstance(stage, s.Infill) and model.eot is None and model.eos is None:
            raise ValueError("Infill needs a model with an end-of-text token; this one has none.")
        if model.vocab_type == "NONE" and (isinstance(stage, (s.Infill, s.Ban)) or _breaks(stage)):
            raise ValueError(
                f"{_brief(stage)} reads the text of tokens, and {model.name} has no vocabulary. "
                "Use DRY with breakers=(), and no Infill or Ban."
            )


def _breaks(stage: Stage) -> bool:
    return isinstance(stage, s.DRY) and bool(stage.breakers)


def _in_vocabulary(stage: Stage, tokens: Iterable[int], n_vocab: int) -> None:
    if wrong := [t for t in tokens if t >= n_vocab]:
        raise ValueError(
            f"{type(stage).__name__} names token {wrong[0]}, but this model's vocabulary has "
            f"{n_vocab} tokens (0 to {n_vocab - 1})."
        )


class ChainSampler:
    """A chain at work on one sequence: built for a history, applied to row after row.

    `apply` leaves in `candidates` what the last stage left, with probabilities where `dist`
    normalised them, and returns the token that the seed draws at that step. `inert` says of each
    stage whether it does nothing.
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
        self._build = lambda place, stage: build(
            stage, model, history, seed, _xtcs_before(self.chain, place), states[place]
        )
        self.samplers = [self._build(place, stage) for place, stage in enumerate(chain)]
        self.candidates = candidates or native.Candidates(model.n_vocab)
        self._dist = Draws(seed, step)
        self._note_inert()

    def _note_inert(self) -> None:
        self.inert = [type(sampler) is Inert for sampler in self.samplers]
        acting = (stage for stage, inert in zip(self.chain, self.inert) if not inert)
        first = next(acting, None)
        # How many of the likeliest tokens are all that matter; 0 if more do.
        self._k = max(first.k, first.min_keep) if isinstance(first, s.TopK) else 0

    def apply(
        self,
        row: Logits,
        step: int,
        on_stage: Callable[[int, native.Candidates, bool], None],
    ) -> int:
        """Choose the token of one row; `DecodeError` if it holds what cannot be sampled from.

        `on_stage(place, candidates, inert)` sees what each stage left; after an inert one there
        may be nothing new to see, nor all that there was before.
        """
        candidates = self.candidates
        if self._k and (few := shortlist(row, self._k)) is not None:
            candidates.load_some(*few)
        else:
            must_be_sound(row)
            candidates.load(row)
        for place in range(len(self.samplers)):
            on_stage(place, candidates, not self.apply_stage(place, step))
        return self.draw(step)

    def apply_stage(self, place: int, step: int) -> bool:
        """Let one stage do its work on what `candidates` holds; False if it is inert."""
        if self.inert[place]:
            return False
        self.samplers[place].apply(self.candidates, step)
        self._must_be_usable(place)
        return True

    def draw(self, step: int) -> int:
        """The token that the seed draws at a step from what `candidates` holds."""
        candidates = self.candidates
        self._dist.at(step).apply(candidates)
        return int(candidates.window["id"][candidates.fields.selected])

    def replace(self, place: int, stage: Stage) -> None:
        """Put another stage in a place; the others stay as they are, with what they learnt."""
        stages = list(self.chain)
        stages[place] = stage
        self.chain = Chain(stages)
        self.samplers[place] = self._build(place, stage)
        if isinstance(stage, s.XTC):  # those after it draw by how many before them act
            for later in range(place + 1, len(stages)):
                if isinstance(stages[later], s.XTC):
                    self.samplers[later] = self._build(later, stages[later])
        self._note_inert()

    def _must_be_usable(self, place: int) -> None:
        """Something is left, and nothing that llama.cpp cannot sort or normalise."""
        stage = self.chain.stages[place]
        if not isinstance(stage, _CHANGING) and self.candidates.size:
            return
        logits = self.candidates.window["logit"]
        top = logits.max() if len(logits) else -np.inf
        if top == -np.inf:
            raise NoCandidates(
                f"no token is left after stage {place + 1}, {_brief(stage)}. "
                "Loosen that stage, move it up in the chain, or take it out."
            )
        if not top <= native.LARGEST_LOGIT:
            raise NoCandidates(
                f"the logits grew past {native.LARGEST_LOGIT:g} at stage {place + 1}, "
                f"{_brief(stage)}. Use a higher temperature, weaker penalties or a smaller bias."
            )

    def accept(self, token: int) -> None:
        """Tell every stage which token was taken; once a step."""
        for sampler in self.samplers:
            sampler.accept(token)

    @property
    def state(self) -> tuple[State, ...]:
        """What mirostat and adaptive-p have learnt, one tuple a stage, empty for the others."""
        return tuple(getattr(sampler, "state", ()) for sampler in self.samplers)


def carried(before: Chain, state: Sequence[State], after: Chain) -> list[State]:
    """What each stage of a chain knows that takes another one's place: what stays as it is, all."""
    kept = dict(zip(_numbered(before), state, strict=False))
    return [kept.get(stage, ()) for stage in _numbered(after)]


def _numbered(chain: Chain) -> list[tuple[Stage, int]]:
    """Each stage with how many equal ones are before it."""
    stages = list(chain)
    return [(stage, stages[:i].count(stage)) for i, stage in enumerate(stages)]


def _brief(stage: Stage) -> str:
    """The stage as code, but not every token of a mask."""
    text = repr(stage)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _xtcs_before(chain: Chain, place: int) -> int:
    """How many XTC stages act before a place; one that never acts draws nothing."""
    before = chain.stages[:place]
    return sum(isinstance(stage, s.XTC) and not stage.why_inert() for stage in before)


class SurvivorCount:
    """Counts the candidates that each stage leaves, without counting where nothing changed."""

    def __init__(self, chain: Chain) -> None:
        self.masking = [isinstance(stage, MASKING) for stage in chain]
        self.counts: list[int] = []
        self._size = self._masked = 0

    def start(self, n_vocab: int) -> None:
        """Begin a row."""
        self.counts = []
        self._size, self._masked = n_vocab, 0

    def count(self, place: int, candidates: native.Candidates, inert: bool) -> None:
        """Take note of what stage `place` left."""
        if not inert:
            size = candidates.size
            if self.masking[place] or (self._masked and size != self._size):
                self._masked = size - candidates.n_possible()
            self._size = size
        self.counts.append(self._size - self._masked)

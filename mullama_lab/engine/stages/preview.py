"""Preview: a chain applied to one row of logits, stage by stage, with no decode.

It runs the same `ChainSampler` as a generation does, on native objects of its own, so it may
run on any thread at any time, also while a generation uses the same model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mullama_lab.engine import native
from mullama_lab.engine.native import Logits
from mullama_lab.engine.options import MAX_SEED, MAX_STEP, whole
from mullama_lab.engine.rows.capture import largest
from mullama_lab.engine.stages.chain_sampler import ChainSampler
from mullama_lab.engine.stages.given_row import row_and_history
from mullama_lab.engine.stages.randomness import uniform
from mullama_lab.engine.stages.stage import Stage
from mullama_lab.errors import ClosedError

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.stages.chain import Chain


@dataclass(frozen=True, slots=True, eq=False)
class StageView:
    """The candidates after one stage (or, with no stage, the row itself).

    Attributes:
        n_kept: candidates left, those with a logit of minus infinity not counted.
        ids, probs, logits: the likeliest of them, likeliest first; probabilities are of all
            that are left, so they add up to 1 when all are listed.
        removed_mass: the probability that the stage's input gave to what it removed.
        entropy: of what is left, in nats.
        changed: whether the stage changed anything at all.
    """

    stage: Stage | None
    n_kept: int
    ids: NDArray[np.int32]
    probs: NDArray[np.float32]
    logits: NDArray[np.float32]
    removed_mass: float
    entropy: float
    changed: bool

    @property
    def name(self) -> str:
        """The stage as code, "row" for the row itself."""
        return "row" if self.stage is None else repr(self.stage)

    def __repr__(self) -> str:
        return (
            f"<{self.name}: {self.n_kept} kept, {self.removed_mass:.2%} removed, "
            f"entropy {self.entropy:.3f}>"
        )


@dataclass(frozen=True)
class KnownPieces:
    """The bytes of some tokens without their model; of any other token, b"<7>"."""

    pieces: Mapping[int, bytes]

    def __call__(self, token: int) -> bytes:
        return self.pieces.get(int(token), b"<%d>" % token)


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """What a chain makes of one row: `before`, one view for each of `stages`, and the `choice`.

    Attributes:
        choice: the token that this seed draws at this step.
        draw: the uniform in [0, 1) that llama.cpp's `dist` uses there.
        piece: the bytes of a token, as the model has them. A copy, or what was pickled, has the
            bytes of the tokens that it lists, and needs no model.
    """

    chain: Chain
    before: StageView
    stages: tuple[StageView, ...]
    choice: int
    seed: int
    step: int
    draw: float
    piece: Callable[[int], bytes] = field(repr=False)

    @property
    def final(self) -> StageView:
        """The view after the last stage: what the token is drawn from."""
        return self.stages[-1] if self.stages else self.before

    def __reduce__(self) -> tuple[type[Preview], tuple[Any, ...]]:
        pieces: dict[int, bytes] = {}
        ids = [view.ids for view in (self.before, *self.stages)]
        for token in np.unique(np.concatenate([*ids, [self.choice]])).tolist():
            with suppress(ClosedError):
                pieces[token] = self.piece(token)
        values = [getattr(self, field.name) for field in fields(self)]
        return Preview, (*values[:-1], KnownPieces(pieces))

    def __repr__(self) -> str:
        views = "\n  ".join(map(repr, (self.before, *self.stages)))
        return (
            f"<Preview of {self.chain!r}: token {self.choice} (seed {self.seed}, step {self.step})"
            f"\n  {views}>"
        )


def preview(
    chain: Chain,
    row: ArrayLike,
    *,
    model: Model,
    history: Iterable[int] = (),
    seed: int = 0,
    step: int = 0,
    top: int = 64,
    state: Sequence[tuple[float, ...]] = (),
) -> Preview:
    """See `Chain.preview`."""
    checked, tokens = row_and_history(row, history, model)
    seed = whole("seed", seed, 0, MAX_SEED)
    step = whole("step", step, 0, MAX_STEP)
    top = whole("top", top, 1, 2**31)
    with model._memory.in_use(), _scratch(model.n_vocab) as scratch:
        work = ChainSampler(
            chain,
            model,
            history=tokens,
            seed=seed,
            step=step,
            state=state,
            candidates=scratch.candidates,
        )
        recorder = _Recorder(chain, top, scratch.row_view(checked, top), scratch.logits)
        choice = work.apply(checked, step, recorder.stage)
    return Preview(
        chain=chain,
        before=recorder.views[0],
        stages=tuple(recorder.views[1:]),
        choice=choice,
        seed=seed,
        step=step,
        draw=uniform(seed, step),
        piece=model.piece,
    )


@dataclass(slots=True)
class _RowView:
    """How a row looks before any stage, and its log-sum-exp."""

    view: StageView
    log_total: float


class _Scratch:
    """Buffers that previews reuse, one preview at a time, and the view of the last row.

    Allocating megabytes costs more than sampling. And a slider asks about the same row again and
    again.
    """

    def __init__(self, n_vocab: int) -> None:
        self.candidates = native.Candidates(n_vocab)
        self.logits = np.empty(n_vocab, np.float32)  # by token id: what the next stage is given
        self._row = np.empty(n_vocab, np.float32)
        self._top = 0
        self._before: _RowView | None = None

    def row_view(self, row: Logits, top: int) -> _RowView:
        """How a row looks before any stage; leaves it in `logits`."""
        if self._before is None or top != self._top or not np.array_equal(row, self._row):
            self._before = _row_view(row, top)
            self._top = top
            self._row[:] = row
        self.logits[:] = row
        return self._before


def _row_view(row: Logits, top: int) -> _RowView:
    best = float(row.max())
    weights = np.empty_like(row)
    total = native.exp_shifted(row, best, weights)
    with np.errstate(invalid="ignore"):
        mean_logit = native.dot(weights, row) / total
    n_possible = len(row)
    if not math.isfinite(mean_logit):  # 0 * -inf: the row holds removed tokens
        n_possible = int(np.count_nonzero(row > -np.inf))
        some = weights > 0
        mean_logit = native.dot(weights[some], row[some]) / total
    log_total = best + math.log(total)
    ids = largest(row, min(top, n_possible)).astype(np.int32)
    view = StageView(
        stage=None,
        n_kept=n_possible,
        ids=ids,
        probs=(weights[ids] / total).astype(np.float32),
        logits=row[ids],
        removed_mass=0.0,
        entropy=max(0.0, log_total - mean_logit),
        changed=True,
    )
    for array in (view.ids, view.probs, view.logits):
        array.flags.writeable = False  # the next preview may show them too
    return _RowView(view, log_total)


_unused: dict[int, list[_Scratch]] = {}


@contextmanager
def _scratch(n_vocab: int) -> Iterator[_Scratch]:
    unused = _unused.setdefault(n_vocab, [])
    try:
        scratch = unused.pop()
    except IndexError:
        scratch = _Scratch(n_vocab)
    yield scratch
    if len(unused) < 4:
        unused.append(scratch)


class _Recorder:
    """Looks at the candidates after each stage and compares them with those before it."""

    def __init__(self, chain: Chain, top: int, before: _RowView, logits: Logits) -> None:
        self.chain = chain
        self.top = top
        self.logits = logits
        self.log_total = before.log_total
        self.views = [before.view]

    def stage(self, place: int, candidates: native.Candidates, inert: bool) -> None:
        """Record what stage `place` left."""
        stage, before = self.chain.stages[place], self.views[-1]
        if inert:
            self.views.append(_unchanged(before, stage))
            return
        window = candidates.window
        ids, logits = window["id"], window["logit"].copy()
        given = self.logits[ids]
        if logits.min() == -np.inf:
            possible = logits > -np.inf
            ids, logits, given = ids[possible], logits[possible], given[possible]
        n_kept = len(ids)
        changed = n_kept != before.n_kept or not np.array_equal(given, logits)
        self.logits[ids] = logits
        weights = np.empty_like(logits)
        removed = 0.0
        if n_kept < before.n_kept:
            removed = max(0.0, 1.0 - native.exp_shifted(given, self.log_total, weights))
        best = logits.max()
        logits -= best
        total = native.exp_shifted(logits, 0.0, weights)
        log_sum = math.log(total)
        self.log_total = float(best) + log_sum
        order = largest(logits, self.top)
        listed = ids[order]
        self.views.append(
            StageView(
                stage=stage,
                n_kept=n_kept,
                ids=listed,
                probs=(weights[order] / total).astype(np.float32),
                logits=self.logits[listed],
                removed_mass=removed,
                entropy=max(0.0, log_sum - native.dot(weights, logits) / total),
                changed=changed,
            )
        )


def _unchanged(before: StageView, stage: Stage) -> StageView:
    return StageView(
        stage=stage,
        n_kept=before.n_kept,
        ids=before.ids,
        probs=before.probs,
        logits=before.logits,
        removed_mass=0.0,
        entropy=before.entropy,
        changed=False,
    )

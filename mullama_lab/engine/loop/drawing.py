"""Draw a token from a row, then make a step of a trace of it.

Between two decodes only `draw` must happen; `record` may come later, on another thread, as long
as it comes before the next draw, and before the row is gone unless that was copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native import Logits
from mullama_lab.engine.rows.capture import Likeliest, RowReader
from mullama_lab.engine.stages import Chain, State
from mullama_lab.engine.stages.chain_sampler import ChainSampler, SurvivorCount, carried
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.record import Outcome, StepRecord, standing_in

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

Learnt: TypeAlias = tuple[Chain, tuple[State, ...]]  # a chain, and what its stages know


@dataclass(slots=True)
class Draw:
    """A token that was drawn, and what its record is made from."""

    token: int
    row: Logits  # like left, a buffer that the next draw overwrites
    likeliest: Likeliest | None  # of the row, where the draw looked for them
    left: NDArray[np.void]  # the candidates that the chain left
    selected: int  # among them
    n_kept: tuple[int, ...]
    state: tuple[State, ...]
    decode_ns: int
    sample_ns: int
    canonical: bool
    constraint_ns: int
    has_ended: bool  # with it, as a stage says
    ahead: bool = False  # it had been decoded with the token before it
    seconds: float = 0.0  # since the beginning
    wall_ns: int = 0  # since the draw before


class Drawing:
    """One lane's draws: turns rows into steps of its trace; follows changes of the chain.

    Args:
        copies_rows: a draw is recorded after its row is gone.
    """

    def __init__(self, model: Model, trace: Trace, learnt: Learnt, *, copies_rows: bool) -> None:
        self.model = model
        self.trace = trace
        self.learnt = learnt
        self.reader = RowReader(model.n_vocab, trace.top)
        self.chain: Chain | None = None
        self._copy = np.empty(model.n_vocab, np.float32) if copies_rows else None

    def has_ended(self, chain: Chain) -> bool:
        """Whether the text has ended for a chain that draws the next step."""
        if chain is self.chain:
            return False  # or the last draw would have said so
        self._take(chain, len(self.trace))
        return self.work.has_ended

    @property
    def forced(self) -> list[int]:
        """The tokens that must come next as the chain is, as far as it knows."""
        return self.work.forced

    def draw(self, row: Logits, decode_ns: int, *, canonical: bool) -> Draw:
        """Choose a token and tell the stages."""
        i = len(self.trace)
        began = perf_counter_ns()
        state = self.work.state
        self.survivors.start(len(row))
        few = self.work.n_needed
        likeliest = self.reader.likeliest(row) if 0 < few <= self.reader.n_top else None
        token = self.work.apply(row, i, self.survivors.count, likeliest, only_counts=True)
        sample_ns = perf_counter_ns() - began
        if self._copy is not None:
            np.copyto(self._copy, row)
            row = self._copy
        candidates = self.work.candidates
        draw = Draw(
            token=token,
            row=row,
            likeliest=likeliest,
            left=candidates.window,
            selected=candidates.fields.selected,
            n_kept=tuple(self.survivors.counts),
            state=state,
            decode_ns=decode_ns,
            sample_ns=sample_ns - self.work.constraint_ns,
            constraint_ns=self.work.constraint_ns,
            canonical=canonical,
            has_ended=False,
        )
        self.work.accept(token)
        draw.has_ended = self.work.has_ended
        return draw

    def record(self, draw: Draw) -> None:
        """Append the step of a draw to the trace."""
        began = perf_counter_ns()
        facts = self.reader.read(draw.row, draw.likeliest)
        record = StepRecord.of_row(
            self.model,
            draw.token,
            facts,
            standing_in(draw.row, draw.token, facts),
            outcome=_outcome(draw, self.trace.top),
            n_kept=draw.n_kept,
            state=draw.state,
        )
        record.decode_ns, record.sample_ns = draw.decode_ns, draw.sample_ns
        record.canonical, record.ahead = draw.canonical, draw.ahead
        record.constraint_ns, record.wall_ns = draw.constraint_ns, draw.wall_ns
        record.capture_ns = perf_counter_ns() - began
        self.trace.append(record)

    def _take(self, chain: Chain, step: int) -> None:
        trace = self.trace
        before, state = self.learnt if self.chain is None else (self.chain, self.work.state)
        self.work = ChainSampler(
            chain,
            self.model,
            history=trace.history(step).tolist(),
            seed=trace.seed or 0,
            step=step,
            state=carried(before, state, chain),
        )
        self.survivors = SurvivorCount(chain)
        self.chain = chain
        trace.change_chain(chain)


def _outcome(draw: Draw, top: int) -> Outcome:
    """The log-probability of the token that was drawn, and the likeliest with theirs."""
    return float(np.log(draw.left["p"][draw.selected])), *likeliest_of(draw.left, top)


def likeliest_of(left: NDArray[np.void], top: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The likeliest of the candidates that a chain left: (ids, log-probabilities)."""
    probs = left["p"]
    best = np.argpartition(probs, -top)[-top:] if len(probs) > top else np.arange(len(probs))
    best = best[np.argsort(-probs[best], kind="stable")]
    best = best[probs[best] > 0]
    return left["id"][best], np.log(probs[best])

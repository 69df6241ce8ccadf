"""Grammar tax: how much of the model's probability a grammar took at each token, and what it was.

The cost of a token is -ln of the probability that the grammar left, of what the stages before it
in the chain had left; mostly it comes first, and that is all the model said. Their sum is how much
less likely the model finds it to keep to the grammar, token by token, than to write on freely.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.model import Model
from mullama_lab.engine.rows.tail import Uncovered
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain, Constrain
from mullama_lab.engine.stages.constrain import ConstrainSampler
from mullama_lab.engine.stages.moment import Moment
from mullama_lab.engine.stages.schedule import ScheduleSampler
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace_rows import TraceRows
from mullama_lab.errors import NoCandidates
from mullama_lab.glyphs import piece_label
from mullama_lab.studies._grammars import NO_COST, SURE_TO, UNKNOWN, Left, Mask, left

if TYPE_CHECKING:
    import pandas

__all__ = ["GrammarTax", "grammar_tax"]
__dir__ = __all__.copy  # what tab completion offers


@dataclass(frozen=True, eq=False)
class GrammarTax:
    """What grammars cost at each token of a generation; all arrays of shape (n,).

    Attributes:
        tokens: the token ids, int32.
        nats: float64: -ln of the probability that the grammar left, at least; 0 where no grammar
            was in force.
        nats_high: the same, at most; where the trace kept only a part of the row, the two differ.
        wanted: int32: the likeliest token that the grammar took out; -1 if it took none, or only
            some that were not kept.
        wanted_logprob: float64: its log-probability before, in nats.
        sources: "kept" or "decoded": where the row came from; "" where none was needed or known.
    """

    tokens: NDArray[np.int32]
    nats: NDArray[np.float64]
    nats_high: NDArray[np.float64]
    wanted: NDArray[np.int32]
    wanted_logprob: NDArray[np.float64]
    sources: tuple[str, ...]
    _pieces: dict[int, bytes] = field(repr=False)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def removed(self) -> NDArray[np.float64]:
        """The probability that the grammar took at each token, at least."""
        return -np.expm1(-self.nats)

    @property
    def sure(self) -> NDArray[np.bool_]:
        """Whether the cost of each token is known."""
        return self.nats_high - self.nats <= SURE_TO

    @property
    def total(self) -> float:
        """The cost of all tokens in nats, at least."""
        return float(self.nats.sum())

    @property
    def total_high(self) -> float:
        """The same, at most."""
        return float(self.nats_high.sum())

    @property
    def dearest(self) -> int | None:
        """The step that costs most; None if nothing costs anything."""
        return int(self.nats.argmax()) if len(self) and self.nats.max() > 0 else None

    def to_pandas(self) -> pandas.DataFrame:
        """One row a step; needs pandas."""
        import pandas as pd

        table = pd.DataFrame(
            {
                "token": self.tokens,
                "text": [self._label(token) for token in self.tokens],
                "removed": self.removed,
                "nats": self.nats,
                "nats_high": self.nats_high,
                "wanted": self.wanted,
                "wanted_text": [self._label(token) for token in self.wanted],
                "wanted_logprob": self.wanted_logprob,
                "row": self.sources,
            }
        )
        table.index.name = "step"
        return table

    def _label(self, token: int) -> str:
        return piece_label(self._pieces[int(token)]) if token >= 0 else ""

    def summary(self) -> str:
        """What it comes to, in a line: a nat is one unit of -ln of a probability."""
        step, unknown = self.dearest, int(np.count_nonzero(~self.sure))
        tokens = counted(len(self), "token")
        if step is None and not unknown:
            return f"the grammar cost nothing over {tokens}"
        told = f"the grammar cost {self._range()} (-ln of the probability it left) over {tokens}"
        if step is not None:
            share = "most" if unknown else f"{self.nats[step] / self.total:.0%}"
            told += f"; {share} of that at token {step}, where it left {self._left_at(step)}"
            wanted = self._label(self.wanted[step])
            told += f" and the model wanted `{wanted}`" if wanted else ""
        if unknown:
            told += f"; of {counted(unknown, 'token')} only bounds are known"
        return told

    def _range(self) -> str:
        """The cost of all tokens, or its bounds."""
        least, most = f"{self.total:.3g}", f"{self.total_high:.3g}"
        if least == most:
            return f"{least} nats"
        if math.isfinite(self.total_high):
            return f"{least} to {most} nats"
        return f"at least {least} nats"

    def _left_at(self, step: int) -> str:
        """How much of the probability the grammar left at a step."""
        share = math.exp(-self.nats[step])
        least = "" if self.sure[step] else "at most "
        return f"{least}{share:.1%}" if share >= 0.001 else "less than 0.1%"

    def __repr__(self) -> str:
        more = "" if self.sure.all() else "; pass on=session to know the rest"
        return f"<GrammarTax: {self.summary()}{more}>"


def grammar_tax(trace: Trace, *, on: Model | Session) -> GrammarTax:
    """What the grammars in the chains of a generation cost at each token.

    Args:
        on: the Model of the trace, which gives bounds where the trace kept too little of a row;
            or a Session of it, which decodes those rows again.

    Raises:
        ValueError: the trace has no step, or was made with another vocabulary; or no grammar was
            in its chains.

    Example:
        grammar_tax(trace, on=session).summary()
    """
    rows = TraceRows(trace, on)
    if not trace.schedule.constrains:
        raise ValueError(
            "no grammar was in force: give a trace of session.generate(..., grammar=...), or ask "
            "studies.forbidden what one would have forbidden."
        )
    found = [_cost(*each) for each in _steps(rows)]
    unsure = [step for step, (cost, _) in enumerate(found) if not cost.sure]
    if unsure and rows.session is not None:
        masks = _Masks(rows)

        def visit(moment: Moment) -> None:
            with suppress(NoCandidates):
                found[moment.step] = _cost(moment, masks.at(moment.step))

        rows.decode(unsure, visit)
    costs, sources = zip(*found)
    wanted = np.array([cost.wanted for cost in costs], np.int32)
    named = {int(token) for token in (*rows.tokens, *wanted) if token >= 0}
    return GrammarTax(
        tokens=rows.tokens.copy(),
        nats=np.array([cost.low for cost in costs]),
        nats_high=np.array([cost.high for cost in costs]),
        wanted=wanted,
        wanted_logprob=np.array([cost.wanted_logprob for cost in costs]),
        sources=sources,
        _pieces={token: rows.model.piece(token) for token in named},
    )


class _Masks:
    """The tokens that the grammars of a trace's chains allow, one step after the other."""

    def __init__(self, rows: TraceRows) -> None:
        self._trace, self._tokens = rows.trace, rows.tokens.tolist()
        schedule = rows.trace.schedule.map(_only_grammars)
        history, seed = rows.history(0).tolist(), rows.trace.seed or 0
        self._work = ScheduleSampler(schedule, rows.model, history=history, seed=seed)
        self._step = 0

    def at(self, step: int) -> dict[int, Mask]:
        """By place in the chain, whether each token may come; empty where there is no grammar.

        Steps are asked for in order; some may be left out.

        Raises:
            GrammarBroken: the text before is no beginning of what one of them allows.
        """
        while self._step < step:
            self._work.accept(self._tokens[self._step])
            self._step += 1
        chain, now = self._trace.chain_at(step), self._work.now
        places = (place for place, stage in enumerate(chain) if isinstance(stage, Constrain))
        found = {}
        for place, sampler in zip(places, now.samplers, strict=True):
            if isinstance(sampler, ConstrainSampler):  # else it has no effect
                found[place] = sampler.allowed
        return found


def _only_grammars(chain: Chain) -> Chain:
    return Chain(stage for stage in chain if isinstance(stage, Constrain))


def _steps(rows: TraceRows) -> Iterator[tuple[Moment | None, dict[int, Mask] | None]]:
    """What was kept of each row, and the masks there; None after one that could not be met."""
    masks = _Masks(rows)
    for step in range(len(rows)):
        try:
            yield rows.kept(step), masks.at(step)
        except NoCandidates:
            yield None, None


def _cost(moment: Moment | None, masks: dict[int, Mask] | None) -> tuple[Left, str]:
    """What the grammars of a step cost, one after the other, and where the row came from."""
    if masks is not None and not masks:
        return NO_COST, ""
    if moment is None or masks is None:
        return UNKNOWN, ""
    costs = [_left_at(moment, place, allowed) for place, allowed in masks.items()]
    likeliest = max(costs, key=lambda cost: np.nan_to_num(cost.wanted_logprob, nan=-np.inf))
    low, high = (sum(ends) for ends in zip(*((cost.low, cost.high) for cost in costs)))
    return likeliest._replace(low=low, high=high), moment.source


def _left_at(moment: Moment, place: int, allowed: Mask) -> Left:
    """What a grammar at a place of the chain leaves of what comes there."""
    if place == 0:
        is_whole = moment.is_whole
        return left(moment.ids, moment.logits, moment.logsumexp, allowed, is_whole=is_whole)
    seen: list[tuple[NDArray[np.int32], NDArray[np.float32], float]] = []
    before = replace(
        moment, chain=Chain(moment.chain.stages[:place]), state=tuple(moment.state[:place])
    )
    work = before.sampler()

    def look(at: int, inert: bool, total: float) -> None:
        window = work.candidates.window
        if at == place - 1:
            seen.append((window["id"].copy(), window["logit"].copy(), total))

    with suppress(Uncovered, NoCandidates):
        before.choose(work, look)
    if not seen or math.isnan(seen[0][2]):
        return UNKNOWN
    return left(*seen[0], allowed, is_whole=moment.is_whole)

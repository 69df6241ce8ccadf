"""States: what penalties, DRY and mirostat did at each step of a generation.

Their state is the text so far. It is told from the difference before and after the stage, made
by llama.cpp's own samplers: which candidates were moved and by how much, and what in the text is
the reason. Of mirostat, what it had learnt and what it learnt from the token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import whole
from mullama_lab.engine.rows.tail import Uncovered
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import SettingOrChain
from mullama_lab.engine.stages import Chain, Stage, every_kind
from mullama_lab.engine.stages.moment import Moment
from mullama_lab.engine.stages.penalties import LookingBack
from mullama_lab.engine.stages.schedule import Schedule, ScheduleSampler
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace_rows import TraceRows, rows_and_schedule

if TYPE_CHECKING:
    import pandas

__all__ = ["StageState", "StageStates", "Touched", "stage_states"]
__dir__ = __all__.copy  # what tab completion offers


@dataclass(frozen=True, slots=True)
class Touched:
    """A candidate whose logit a stage changed.

    Attributes:
        change: of its logit, in nats.
        prob: its probability before the stage; NaN where that is not known for sure.
        count: how often it is among the tokens that the stage looks at.
        ngram: for DRY, the tokens at the end of the text that it would have continued as they
            were continued before; empty for penalties.
        ago: for DRY, how many tokens before this step it was continued so; 0 for penalties.
    """

    token: int
    text: str
    change: float
    prob: float
    count: int
    ngram: str = ""
    n_repeated: int = 0
    ago: int = 0

    @property
    def why(self) -> str:
        """The reason, in a few words."""
        if self.n_repeated:
            ago = counted(self.ago, "token")
            return f"followed {self.ngram!r} {ago} ago ({self.n_repeated} repeated)"
        return f"{counted(self.count, 'time')} in its window"


@dataclass(frozen=True, slots=True)
class StageState:
    """What one stage did at one step.

    Attributes:
        n_touched: candidates whose logit it changed, of those that are known.
        touched: the likeliest of them before the stage.
        moved: the probability it moved from some tokens to others (total variation), from 0 to
            1; NaN where that is not known for sure.
        n_kept: candidates it left, of those that are known.
        mu, mu_after: what mirostat had learnt before the step, and after its token, in bits.
        surprise: of the token that was taken, in bits, as mirostat saw it; NaN where it had
            removed the token.
    """

    step: int
    place: int
    stage: Stage
    n_kept: int
    n_touched: int = 0
    touched: tuple[Touched, ...] = ()
    moved: float = math.nan
    mu: float = math.nan
    mu_after: float = math.nan
    surprise: float = math.nan

    def __str__(self) -> str:
        if self.stage.steers_surprise:
            took = "n/a" if math.isnan(self.surprise) else f"{self.surprise:.2f}"
            return (
                f"mu {self.mu:.2f}, {self.n_kept} kept, surprise {took} bits, "
                f"then mu {self.mu_after:.2f}"
            )
        if not self.touched:
            return "touched nothing"
        first = self.touched[0]
        return (
            f"touched {self.n_touched}, the likeliest {first.text!r} by {first.change:+.3f} nats: "
            f"{first.why}"
        )


class StageStates(tuple[StageState, ...]):
    """One StageState for each step and each of the chain's penalties, DRY and mirostat."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row a step and stage, with the likeliest candidate that was touched; needs pandas."""
        import pandas as pd

        rows = []
        for x in self:
            first = x.touched[0] if x.touched else None
            rows.append(
                {
                    "step": x.step,
                    "stage": repr(x.stage),
                    "kept": x.n_kept,
                    "touched": x.n_touched,
                    "moved": x.moved,
                    "likeliest": first.text if first else "",
                    "change": first.change if first else math.nan,
                    "why": first.why if first else "",
                    "mu": x.mu,
                    "surprise": x.surprise,
                    "mu_after": x.mu_after,
                }
            )
        return pd.DataFrame(rows)

    def touched(self) -> pandas.DataFrame:
        """One row for each candidate that was touched and listed; needs pandas."""
        import pandas as pd

        names = ["token", "text", "change", "prob", "count", "ngram", "n_repeated", "ago"]
        rows = [
            (x.step, repr(x.stage), *(getattr(t, name) for name in names))
            for x in self
            for t in x.touched
        ]
        return pd.DataFrame(rows, columns=["step", "stage", *names])

    def __repr__(self) -> str:
        return "\n".join(f"step {x.step}: {x.stage!r} {x}" for x in self)

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{x.step}</td><td><code>{escape(repr(x.stage))}</code></td>"
            f"<td>{escape(str(x))}</td></tr>"
            for x in self
        )
        head = "<tr><th>step</th><th>stage</th><th>what it did</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def stage_states(
    trace: Trace,
    chain: SettingOrChain = None,
    *,
    on: Model | Session,
    top: int = 8,
) -> StageStates:
    """What penalties, DRY and mirostat did at each step.

    Args:
        chain: what to put in the place of the chain that was in force, or a dict of chains by
            steps; None is the chain that was in force at each step.
        on: the Model of the trace, or a Session of it, which can decode rows again.
        top: how many of the candidates a stage touched to list, the likeliest first.

    Raises:
        ValueError: the chain has none of these stages, or none that acts; the trace was not
            drawn; or whole rows are needed and `on` is no Session.

    Example:
        stage_states(trace, on=session).to_pandas()
    """
    rows, schedule = rows_and_schedule(trace, chain, on)
    top = whole("top", top, 0, 1024)
    if not any(map(_watched, schedule.values())):
        *others, last = [kind.__name__ for kind in every_kind() if _is_watched(kind)]
        raise ValueError(
            f"{schedule!r} has no {', '.join(others)} or {last} that does anything. "
            "Put one in: pass chain=."
        )
    watch = _Watch(rows, schedule, top)
    try:
        watch.up_to(len(rows))
    except Uncovered as why:
        step = len(watch.done)
        rows.must_have_session([step], schedule.at(step), str(why))
        watch = _Watch(rows, schedule, top)
        rows.decode(range(len(rows)), watch.take)
    return StageStates(state for step in watch.done for state in step)


def _watched(chain: Chain) -> list[int]:
    """The places of the stages that are watched."""
    return [i for i, x in enumerate(chain) if _is_watched(type(x)) and not x.why_inert()]


def _is_watched(kind: type[Stage]) -> bool:
    return issubclass(kind, LookingBack) or kind.steers_surprise


class _Watch:
    """A schedule going through a trace, told the trace's tokens as it goes."""

    def __init__(self, rows: TraceRows, schedule: Schedule, top: int) -> None:
        self.rows, self.top = rows, top
        seed, history = rows.trace.seed or 0, rows.history(0).tolist()
        self.work = ScheduleSampler(schedule, rows.model, history=history, seed=seed)
        self.done: list[list[StageState]] = []
        self._before = np.full(rows.model.n_vocab, np.nan, np.float32)

    def up_to(self, end: int) -> None:
        for step in range(len(self.done), end):
            self.take(self.rows.known(step))

    def take(self, moment: Moment) -> None:
        """Watch one step, and accept the trace's token."""
        step, work = moment.step, self.work.now
        chain, states, watched = work.chain, work.state, _watched(work.chain)
        token = int(self.rows.tokens[step])
        seen: list[StageState] = []
        mirostats: dict[int, float] = {}
        total_before = [moment.logsumexp]
        self._before[:] = np.nan
        self._before[moment.ids] = moment.logits

        def on_stage(place: int, inert: bool, total: float) -> None:
            if inert:
                return
            window = work.candidates.window
            ids, logits = window["id"].copy(), window["logit"].copy()
            stage = chain[place]
            if place in watched:
                n_kept = int(np.count_nonzero(logits > -np.inf))
                if isinstance(stage, LookingBack):
                    given = self._before[ids], total_before[0]
                    at = place, stage
                    seen.append(self._looked_back(moment, at, ids, logits, given, total))
                else:
                    mine = logits[ids == token]
                    mirostats[len(seen)] = float(total - mine[0]) if len(mine) else math.nan
                    seen.append(StageState(step, place, stage, n_kept, mu=states[place][0]))
            self._before[ids] = logits
            total_before[0] = total

        moment.choose(work, on_stage)
        self.work.accept(token)
        for i, surprise in mirostats.items():
            x = seen[i]
            learnt = work.state[x.place][0]
            seen[i] = StageState(
                step, x.place, x.stage, x.n_kept,
                mu=x.mu, mu_after=learnt, surprise=surprise / math.log(2),
            )  # fmt: skip
        self.done.append(seen)

    def _looked_back(
        self,
        moment: Moment,
        at: tuple[int, LookingBack],
        ids: NDArray[np.int32],
        after: NDArray[np.float32],
        given: tuple[NDArray[np.float32], float],
        total: float,
    ) -> StageState:
        place, stage = at
        before, total_before = given
        changed = np.flatnonzero(before != after)
        likeliest = changed[np.argsort(-before[changed], kind="stable")][: self.top]
        probs, left = (
            np.exp(x.astype(np.float64) - y) for x, y in ((before, total_before), (after, total))
        )
        return StageState(
            moment.step,
            place,
            stage,
            int(np.count_nonzero(after > -np.inf)),
            n_touched=len(changed),
            touched=tuple(self._touched(moment, stage, ids, before, after, probs, likeliest)),
            moved=_moved(probs, left),
        )

    def _touched(
        self,
        moment: Moment,
        stage: LookingBack,
        ids: NDArray[np.int32],
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        probs: NDArray[np.float64],
        places: NDArray[np.intp],
    ) -> Iterator[Touched]:
        seen = stage.seen(moment.history)
        for i in places.tolist():
            token, change = int(ids[i]), float(after[i]) - float(before[i])
            ngram, ago = stage.repeated(moment.history, token, change)
            yield Touched(
                token=token,
                text=self._text([token]),
                change=change,
                prob=float(probs[i]),
                count=int(np.count_nonzero(seen == token)),
                ngram=self._text(ngram),
                n_repeated=len(ngram),
                ago=ago,
            )

    def _text(self, tokens: list[int] | tuple[int, ...]) -> str:
        return b"".join(map(self.rows.model.piece, tokens)).decode("utf-8", "replace")


def _moved(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Total variation: half of what the known differ by, and half of what the others do."""
    rest = abs((1 - before.sum()) - (1 - after.sum()))
    return float(np.abs(before - after).sum() + rest) / 2

"""Flip map: over which values of one setting each token of a generation stays the choice.

The draws are those of the generation and the text before each token is as it is, so the first
token whose interval a value leaves is where a rerun with that value first differs; intervals of
later tokens are off-policy. The interval is found by asking llama.cpp's samplers at the stops of
the setting's slider on both sides and halving the gap in which the choice changes: a choice that
changes and comes back between two stops is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.model import Model
from mullama_lab.engine.sampling.chain import Chain, Setting, Stage
from mullama_lab.engine.sampling.moment import Moment
from mullama_lab.engine.sampling.tail import Uncovered
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.trace_rows import TraceRows, rows_and_chain
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import NoCandidates, StageFailed

if TYPE_CHECKING:
    import pandas

N_STOPS = 24  # of a slider, where the choice is looked at
PRECISION = 1e-4  # of the slider's range, to which a flip is found
NO_TOKEN = -1  # the chain leaves nothing


@dataclass(frozen=True, eq=False)
class FlipMap:
    """For each token the interval of one setting over which it stays the choice.

    Attributes:
        stage, setting, now: what is turned, and its value in force.
        slider: the range that was looked at.
        low, high: float64 of shape (n,): the ends of the intervals, the slider's own where no
            flip was found; NaN where the token was given, not drawn.
        flips_low, flips_high: whether the choice is another one beyond that end.
        sure: whether both ends are decided, by what the trace kept or by the row decoded again;
            where not, the interval ends at the last value that is decided.
    """

    stage: Stage
    setting: str
    now: float
    slider: tuple[float, float]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    flips_low: NDArray[np.bool_]
    flips_high: NDArray[np.bool_]
    sure: NDArray[np.bool_]
    texts: tuple[str, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.low)

    def first_flip(self, value: float) -> int | None:
        """The first token that is no longer the choice at a value; None if none is known to go."""
        gone = ((value < self.low) & self.flips_low) | ((value > self.high) & self.flips_high)
        found = np.flatnonzero(gone)
        return int(found[0]) if len(found) else None

    def to_pandas(self) -> pandas.DataFrame:
        """One row a token; needs pandas."""
        import pandas as pd

        table = pd.DataFrame(
            {
                "text": self.texts,
                "low": self.low,
                "high": self.high,
                "flips_low": self.flips_low,
                "flips_high": self.flips_high,
                "sure": self.sure,
            }
        )
        table.index.name = "step"
        return table

    def __repr__(self) -> str:
        firm = int(np.count_nonzero(~self.flips_low & ~self.flips_high & self.sure))
        n_open = int(np.count_nonzero(~self.sure))
        unknown = f", {n_open} not known (pass a Session: on=session)" if n_open else ""
        return (
            f"<FlipMap of {self.setting} in {self.stage!r}, {len(self)} tokens: {firm} stay over "
            f"all of {self.slider[0]:g} to {self.slider[1]:g}{unknown}>"
        )


def flip_map(
    trace: Trace,
    stage: type[Stage] | int,
    setting: str | None = None,
    *,
    on: Model | Session,
    chain: Chain | Stage | None = None,
) -> FlipMap:
    """Over which values of a setting each token of a generation would still have been chosen.

    Args:
        stage: the kind of stage, such as `Temperature`, or its place in the chain.
        setting: its name, such as "t"; None is the stage's first.
        on: the Model of the trace, which leaves open what the trace does not decide; or a Session
            of it, which decodes those rows again.
        chain: the chain it is a stage of; None is the one in force at the end of the trace.

    Raises:
        ValueError: no such stage or setting, or the trace was not drawn.

    Example:
        flip_map(trace, Temperature, on=session).first_flip(1.2)
    """
    rows, chain = rows_and_chain(trace, chain, on)
    place = _place(chain, stage)
    owner = chain[place]
    setting, rule = _setting(owner, setting)

    def ends_of(step: int, moment: Moment | None) -> Ends:
        return _ends(rows, step, moment, chain, place, setting, rule)

    ends = [ends_of(step, rows.kept(step)) for step in range(len(rows))]
    unsure = [step for step, (*_, is_sure) in enumerate(ends) if not is_sure]
    if unsure and rows.session is not None:

        def visit(moment: Moment) -> None:
            ends[moment.step] = ends_of(moment.step, moment)

        rows.decode(unsure, visit)
    low, high, flips_low, flips_high, sure = (np.array(column) for column in zip(*ends))
    return FlipMap(
        stage=owner,
        setting=setting,
        now=float(getattr(owner, setting)),
        slider=_range(rule, float(getattr(owner, setting))),
        low=low,
        high=high,
        flips_low=flips_low,
        flips_high=flips_high,
        sure=sure,
        texts=tuple(piece.decode("utf-8", "replace") for piece in trace.pieces[: len(rows)]),
    )


Ends = tuple[float, float, bool, bool, bool]


def _ends(
    rows: TraceRows,
    step: int,
    moment: Moment | None,
    chain: Chain,
    place: int,
    setting: str,
    rule: Setting,
) -> Ends:
    trace, stage = rows.trace, chain[place]
    if step < trace.n_copied or trace.forced[step]:
        return math.nan, math.nan, False, False, True
    now = getattr(stage, setting)
    token = int(rows.tokens[step])
    if moment is None or (moment.source == "decoded" and not _draws(moment, token)):
        return now, now, False, False, False
    chosen = _Choices(moment, chain, place, setting)
    try:
        if chosen(now) != token:  # the chain was another one at that step
            return now, now, True, True, True
    except Uncovered:
        return now, now, False, False, False
    slider = _range(rule, float(now))
    low, flips_low, sure_low = _end(chosen, token, _stops(rule, now, slider[0]), rule)
    high, flips_high, sure_high = _end(chosen, token, _stops(rule, now, slider[1]), rule)
    return low, high, flips_low, flips_high, sure_low and sure_high


def _draws(moment: Moment, token: int) -> bool:
    """Whether a row decoded again still draws the token; noise may be enough for another one."""
    try:
        return moment.choose(moment.sampler()) == token
    except (Uncovered, NoCandidates):
        return False


class _Choices:
    """The token of one step as a function of one setting."""

    def __init__(self, moment: Moment, chain: Chain, place: int, setting: str) -> None:
        self.moment, self.place, self.setting = moment, place, setting
        self.stage = chain[place]
        self.work = moment.sampler(chain)

    def __call__(self, value: float) -> int:
        self.work.replace(self.place, replace(self.stage, **{self.setting: value}))
        try:
            return self.moment.choose(self.work)
        except NoCandidates:
            return NO_TOKEN
        except StageFailed as error:
            raise StageFailed(f"at step {self.moment.step}: {error}") from error


def _end(
    chosen: Callable[[float], int], token: int, stops: Sequence[float], rule: Setting
) -> tuple[float, bool, bool]:
    """How far the choice stays on the way over some stops; whether it flips there; whether sure."""
    stays = stops[0]
    try:
        for stop in stops[1:]:
            if chosen(stop) == token:
                stays = stop
                continue
            return _halved(chosen, token, stays, stop, rule), True, True
    except Uncovered:
        return float(stays), False, False
    return float(stays), False, True


def _halved(
    chosen: Callable[[float], int], token: int, stays: float, gone: float, rule: Setting
) -> float:
    precision = PRECISION * (rule.slider[1] - rule.slider[0])
    while True:
        middle = (stays + gone) / 2
        if rule.kind == "int":
            middle = int(middle)
            if middle in (stays, gone):
                return float(stays)
        elif abs(gone - stays) <= precision:
            return float(stays)
        if chosen(middle) == token:
            stays = middle
        else:
            gone = middle


def _stops(rule: Setting, now: float, end: float) -> list[float]:
    """Values from the one in force to an end of the slider, closer where the slider is."""
    if rule.scale == "log" and now > 0 and end > 0:
        values = np.geomspace(now, end, N_STOPS)
    else:
        values = np.linspace(now, end, N_STOPS)
    if rule.kind == "int":
        return list(dict.fromkeys([int(now), *np.rint(values).astype(int).tolist()]))
    return [float(now), *(float(x) for x in values[1:-1]), float(end)]


def _range(rule: Setting, now: float) -> tuple[float, float]:
    return min(rule.slider[0], now), max(rule.slider[1], now)


def _place(chain: Chain, stage: type[Stage] | int) -> int:
    if isinstance(stage, int) and not isinstance(stage, bool):
        if not 0 <= stage < len(chain):
            raise ValueError(f"stage={stage}: {chain!r} has places 0 to {len(chain) - 1}.")
        return stage
    for place, one in enumerate(chain):
        if isinstance(stage, type) and type(one) is stage:
            return place
    name = getattr(stage, "__name__", repr(stage))
    raise ValueError(f"{chain!r} has no {name}. Put one in: pass chain=.")


def _setting(stage: Stage, name: str | None) -> tuple[str, Setting]:
    rules = stage.settings()
    if name is None and rules:
        name = next(iter(rules))
    if name not in rules:
        known = ", ".join(rules) or "none"
        raise ValueError(f"{stage!r} has no setting {name!r} that is a number; it has {known}.")
    return name, rules[name]

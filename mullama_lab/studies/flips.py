"""Flip map: over which values of one setting each token of a generation stays the choice.

The draws are those of the generation and the text before each token is as it is, so the first
token whose interval a value leaves is where a rerun with that value first differs; intervals of
later tokens are off-policy. Where the chain changed on the way, the setting is turned in the
chain that was in force at each step; a step whose chain has no such stage stays over all values.
The interval is found by asking llama.cpp's samplers at the stops of the setting's slider, up to
the first where the choice is another, and halving the gap before it: a choice that changes and
comes back, between two stops or beyond the end, is not seen. One comes back with typical,
penalties, XTC or mirostat, or where no stage has sorted the candidates; what one value does is
answered exactly by `replay`. Mirostat and adaptive-p would have learnt other things: a chain that
has one goes through the whole text at each stop, and the interval ends at the last that stays.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.model import Model
from mullama_lab.engine.rows.tail import Uncovered
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import SettingOrChain
from mullama_lab.engine.stages import Chain, NumberRule, Stage
from mullama_lab.engine.stages.chain_sampler import ChainSampler
from mullama_lab.engine.stages.moment import Moment
from mullama_lab.engine.stages.schedule import (
    Schedule,
    ScheduleSampler,
    StageName,
    names_of,
)
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace_rows import TraceRows, ever_learning, rows_and_schedule
from mullama_lab.errors import NoCandidates, StageFailed
from mullama_lab.glyphs import brief
from mullama_lab.studies._interval import (
    Chosen,
    Halfway,
    Interval,
    Ways,
    around,
    elsewhere,
    stops_of,
)

if TYPE_CHECKING:
    import pandas

__all__ = ["FlipMap", "flip_map"]
__dir__ = __all__.copy  # what tab completion offers

N_STOPS = 24  # of a slider, where the choice is looked at
PRECISION = 1e-4  # of the slider's range, to which a flip is found
NO_TOKEN = -1  # the chain leaves nothing


@dataclass(frozen=True, eq=False)
class FlipMap:
    """For each token the interval of one setting over which it stays the choice.

    Attributes:
        stage, setting, now: what is turned, and its value in force; the last, if it changed.
        was: float64 of shape (n,): the value in force at each step, NaN where the chain there had
            no such stage, so that the setting changes nothing.
        slider: the range that was looked at.
        low, high: float64 of shape (n,): the ends of the intervals, the slider's own where no
            flip was found; NaN where the token was given, not drawn. Exact to a ten-thousandth of
            the slider; with mirostat or adaptive-p in the chain to one of its stops. Where another
            chain does not choose the token at the value in force, the interval around the nearest
            stop where it does; if there is none, the slider's ends crossed: `low` above `high`.
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
    was: NDArray[np.float64]
    texts: tuple[str, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.low)

    def first_flip(self, value: float) -> int | None:
        """The first token whose interval a value leaves; None if none is known to go.

        It is where a rerun with that value first differs, if no choice comes back beyond the end.
        """
        gone = ((value < self.low) & self.flips_low) | ((value > self.high) & self.flips_high)
        found = np.flatnonzero(gone)
        return int(found[0]) if len(found) else None

    def to_pandas(self) -> pandas.DataFrame:
        """One row a token; needs pandas."""
        import pandas as pd

        table = pd.DataFrame(
            {
                "text": self.texts,
                "was": self.was,
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
            f"<FlipMap of {self.setting} in {self.stage!r}, {counted(len(self), 'token')}: {firm} "
            f"{'stays' if firm == 1 else 'stay'} over "
            f"all of {self.slider[0]:g} to {self.slider[1]:g}{unknown}>"
        )


def flip_map(
    trace: Trace,
    stage: type[Stage] | int,
    setting: str | None = None,
    *,
    on: Model | Session,
    chain: SettingOrChain = None,
) -> FlipMap:
    """Over which values of a setting each token of a generation would still have been chosen.

    Args:
        stage: the kind of stage, such as `Temperature`, or its place in the chain; where the chain
            changed on the way, in the last one, and the stage of that kind in those before.
        setting: its name, such as "t"; None is the stage's first.
        on: the Model of the trace, which leaves open what the trace does not decide; or a Session
            of it, which decodes those rows again.
        chain: the chain it is a stage of, or a dict of chains by steps; None is the chain that was
            in force at each step. Of a Setting whose weights are others than the trace's, the rows
            are decoded with those.

    Raises:
        ValueError: no such stage or setting, or the trace was not drawn.

    Example:
        flip_map(trace, Temperature, on=session).first_flip(1.2)
    """
    rows, schedule = rows_and_schedule(trace, chain, on)
    name = _name(schedule, stage)
    owner = schedule.versions(name)[-1][1]
    setting, rule = _setting(owner, setting)
    turn = _Turn(rows, schedule, name, setting, rule)
    found = _learnt_intervals(turn) if ever_learning(schedule) else _intervals(turn)
    low, high, flips_low, flips_high, sure = (np.array(column) for column in zip(*found))
    values = [turn.value_at(step) for step in range(len(rows))]
    return FlipMap(
        stage=owner,
        setting=setting,
        now=float(getattr(owner, setting)),
        slider=turn.slider,
        low=low,
        high=high,
        flips_low=flips_low,
        flips_high=flips_high,
        sure=sure,
        was=np.array([math.nan if value is None else float(value) for value in values]),
        texts=tuple(piece.decode("utf-8", "replace") for piece in trace.pieces[: len(rows)]),
    )


@dataclass(frozen=True)
class _Turn:
    """The setting that is turned, and the trace it is turned on."""

    rows: TraceRows
    schedule: Schedule
    name: StageName
    setting: str
    rule: NumberRule

    def value_at(self, step: int) -> float | None:
        """Its value in force at a step; None where there is no such stage."""
        chain = self.schedule.at(step)
        place = self.name.place_in(chain)
        return None if place is None else getattr(chain[place], self.setting)

    @cached_property
    def values(self) -> list[float]:
        """The values it has, one after the other."""
        return [getattr(stage, self.setting) for _, stage in self.schedule.versions(self.name)]

    @property
    def slider(self) -> tuple[float, float]:
        low, high = self.rule.slider
        return min(low, *map(float, self.values)), max(high, *map(float, self.values))

    def ways(self, value: float) -> Ways:
        """The stops from a value down, and up, but for those that the stage refuses."""
        low, high = self.slider
        down, up = (stops_of(self.rule, value, end, N_STOPS) for end in (low, high))
        return [x for x in down if self.allows(x)], [x for x in up if self.allows(x)]

    def allows(self, value: float) -> bool:
        """Whether the stage can have that value; a temperature is 0 or at least 0.001."""
        try:
            return bool(self.schedule.map(partial(self.turned, value)))
        except ValueError:
            return False

    def turned(self, value: float, chain: Chain) -> Chain:
        """A chain with the setting at that value, if it has it."""
        place = self.name.place_in(chain)
        if place is None:
            return chain
        return self.name.put(replace(chain[place], **{self.setting: value}), chain)

    def halfway(self, stays: float, gone: float) -> float | None:
        """The value between two; None where they are near enough, or none is allowed."""
        low, high = self.rule.slider
        middle = (stays + gone) / 2
        near = abs(gone - stays) <= PRECISION * (high - low)
        if self.rule.kind == "int":
            middle = int(middle)
            near = middle in (stays, gone)
        return None if near or not self.allows(middle) else middle


def _intervals(turn: _Turn) -> list[Interval]:
    rows = turn.rows

    def interval(step: int, moment: Moment | None) -> Interval:
        chosen = None if moment is None else _Choices(moment, turn)
        return _interval(turn, step, moment, chosen, turn.ways, turn.halfway)

    found = [interval(step, rows.kept(step)) for step in range(len(rows))]
    unsure = [step for step, each in enumerate(found) if not each.sure]
    if unsure and rows.session is not None:

        def visit(moment: Moment) -> None:
            found[moment.step] = interval(moment.step, moment)

        rows.decode(unsure, visit)
    return found


def _learnt_intervals(turn: _Turn) -> list[Interval]:
    rows = turn.rows

    def interval(stops: _LearningStops, step: int, moment: Moment | None) -> Interval:
        return _interval(turn, step, moment, stops.take(step, moment), stops.ways, None)

    stops = _LearningStops(turn)
    found = [interval(stops, step, rows.kept(step)) for step in range(len(rows))]
    if rows.session is not None and not all(each.sure for each in found):
        again = _LearningStops(turn)

        def visit(moment: Moment) -> None:
            found[moment.step] = interval(again, moment.step, moment)

        rows.decode(range(len(rows)), visit)
    return found


def _interval(
    turn: _Turn,
    step: int,
    moment: Moment | None,
    chosen: Chosen | None,
    ways: Callable[[float], Ways],
    halfway: Halfway | None,
) -> Interval:
    """The interval of a step, whose token is `chosen` at a value of the setting."""
    trace, value, slider = turn.rows.trace, turn.value_at(step), turn.slider
    if step < trace.n_copied or trace.forced[step]:
        return Interval(math.nan, math.nan)
    token = int(turn.rows.tokens[step])
    low, high = slider if value is None else (float(value), float(value))
    not_known = Interval(low, high, sure=False)
    if moment is None or chosen is None:
        return not_known
    if moment.source == "decoded" and not _draws(moment, token):
        return not_known
    try:
        # Where there is no such stage any value will do: all are the same.
        stays = chosen(turn.values[-1] if value is None else value) == token
    except Uncovered:
        return not_known
    stops = ([0], [0]) if value is None else ways(value)
    if not stays:
        return elsewhere(chosen, token, stops, slider, halfway)
    return Interval(*slider) if value is None else around(chosen, token, stops, halfway)


def _draws(moment: Moment, token: int) -> bool:
    """Whether a row decoded again still draws the token; noise may be enough for another one."""
    try:
        return moment.choose(moment.sampler()) == token
    except (Uncovered, NoCandidates):
        return False


class _Choices:
    """The token of one step as a function of one setting."""

    def __init__(self, moment: Moment, turn: _Turn) -> None:
        self.moment, self.turn = moment, turn
        self.work = moment.sampler(turn.schedule.at(moment.step))
        self.place = turn.name.place_in(self.work.chain)

    def __call__(self, value: float) -> int:
        if self.place is not None:
            chain = self.turn.turned(value, self.work.chain)
            self.work.replace(self.place, chain[self.place])
        return _choice(self.moment, self.work)


class _LearningStops:
    """The chain at each stop, going through a trace and told the trace's tokens as it goes."""

    def __init__(self, turn: _Turn) -> None:
        rows = turn.rows
        history, seed = rows.history(0).tolist(), rows.trace.seed or 0
        self._tokens = rows.tokens.tolist()
        self._works: dict[float, ScheduleSampler] = {}
        self._stops = sorted(
            {*turn.values, *(x for way in turn.ways(turn.values[-1]) for x in way)}
        )
        shared = None
        for value in self._stops:
            schedule = turn.schedule.map(partial(turn.turned, value))
            work = ScheduleSampler(
                schedule, rows.model, history=history, seed=seed, candidates=shared
            )
            shared, self._works[value] = work.candidates, work

    def ways(self, value: float) -> Ways:
        """The stops from one of them down, and up."""
        place = bisect_left(self._stops, value)
        return self._stops[place::-1], self._stops[place:]

    def take(self, step: int, moment: Moment | None) -> Chosen:
        """What is chosen at one step at each stop; a stop that once is not known stays so."""
        choices: dict[float, int] = {}
        for value, work in list(self._works.items()):
            try:
                if moment is None:
                    raise Uncovered("its row was not kept")
                choices[value] = _choice(moment, work.now)
            except Uncovered:
                del self._works[value]
            else:
                work.accept(self._tokens[step])

        def chosen(value: float) -> int:
            if value not in choices:
                raise Uncovered("what the chain would have learnt is not known")
            return choices[value]

        return chosen


def _choice(moment: Moment, work: ChainSampler) -> int:
    try:
        return moment.choose(work)
    except NoCandidates:
        return NO_TOKEN
    except StageFailed as error:
        raise StageFailed(f"at step {moment.step}: {error}") from error


def _name(schedule: Schedule, stage: type[Stage] | int) -> StageName:
    if isinstance(stage, int) and not isinstance(stage, bool):
        chain = schedule.last
        if not 0 <= stage < len(chain):
            raise ValueError(f"stage={brief(stage)}: {chain!r} has places 0 to {len(chain) - 1}.")
        return names_of(chain)[stage]
    for name in schedule.stages():
        if isinstance(stage, type) and name == (stage, 0):
            return name
    name = getattr(stage, "__name__", brief(stage))
    raise ValueError(f"{schedule!r} has no {name}. Put one in: pass chain=.")


def _setting(stage: Stage, name: str | None) -> tuple[str, NumberRule]:
    rules = stage.settings()
    if name is None and rules:
        name = next(iter(rules))
    if not isinstance(name, str) or name not in rules:
        known = ", ".join(rules) or "none"
        raise ValueError(
            f"{stage!r} has no setting {brief(name)} that is a number; it has {known}."
        )
    return name, rules[name]

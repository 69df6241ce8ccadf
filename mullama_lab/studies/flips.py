"""Flip map: over which values of one setting each token of a generation stays the choice.

The draws are those of the generation and the text before each token is as it is, so the first
token whose interval a value leaves is where a rerun with that value first differs; intervals of
later tokens are off-policy. The interval is found by asking llama.cpp's samplers at the stops of
the setting's slider on both sides, up to the first where the choice is another, and halving the
gap before it: a choice that changes and comes back, between two stops or beyond the end, is not
seen. One comes back with typical, penalties, XTC or mirostat, or where no stage has sorted the
candidates; what one value does is answered exactly by `replay`.

Mirostat and adaptive-p learn from each token, and another value would have let them learn other
things. A chain that has one goes through the whole text once for each stop, and the interval ends
at the last stop where the choice stays.
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
from mullama_lab.engine.sampling.chain_sampler import ChainSampler
from mullama_lab.engine.sampling.moment import Moment
from mullama_lab.engine.sampling.tail import Uncovered
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.trace_rows import TraceRows, learning, rows_and_chain
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
            flip was found; NaN where the token was given, not drawn. Exact to a ten-thousandth of
            the slider; with mirostat or adaptive-p in the chain to one of its stops.
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
    turn = _Turn(rows, chain, place, setting, rule)
    ends = _learnt_ends(turn) if learning(chain) else _ends(turn)
    low, high, flips_low, flips_high, sure = (np.array(column) for column in zip(*ends))
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
        texts=tuple(piece.decode("utf-8", "replace") for piece in trace.pieces[: len(rows)]),
    )


Ends = tuple[float, float, bool, bool, bool]


@dataclass(frozen=True)
class _Turn:
    """The setting that is turned, and the trace it is turned on."""

    rows: TraceRows
    chain: Chain
    place: int
    setting: str
    rule: Setting

    @property
    def now(self) -> float:
        return getattr(self.chain[self.place], self.setting)

    @property
    def slider(self) -> tuple[float, float]:
        return min(self.rule.slider[0], float(self.now)), max(self.rule.slider[1], float(self.now))

    @property
    def ways(self) -> tuple[list[float], list[float]]:
        """The stops from the value in force down, and up."""
        down, up = (_stops(self.rule, self.now, end) for end in self.slider)
        return down, up

    def version(self, value: float) -> Stage:
        return replace(self.chain[self.place], **{self.setting: value})


def _ends(turn: _Turn) -> list[Ends]:
    rows = turn.rows

    def ends_of(step: int, moment: Moment | None) -> Ends:
        chosen = None if moment is None else _Choices(moment, turn)
        return _ends_of(turn, step, moment, chosen, halve=True)

    ends = [ends_of(step, rows.kept(step)) for step in range(len(rows))]
    unsure = [step for step, (*_, is_sure) in enumerate(ends) if not is_sure]
    if unsure and rows.session is not None:

        def visit(moment: Moment) -> None:
            ends[moment.step] = ends_of(moment.step, moment)

        rows.decode(unsure, visit)
    return ends


def _learnt_ends(turn: _Turn) -> list[Ends]:
    rows = turn.rows
    stops, ends = _LearningStops(turn), []
    for step in range(len(rows)):
        moment = rows.kept(step)
        ends.append(_ends_of(turn, step, moment, stops.take(step, moment), halve=False))
    if rows.session is not None and not all(is_sure for *_, is_sure in ends):
        again = _LearningStops(turn)

        def visit(moment: Moment) -> None:
            chosen = again.take(moment.step, moment)
            ends[moment.step] = _ends_of(turn, moment.step, moment, chosen, halve=False)

        rows.decode(range(len(rows)), visit)
    return ends


def _ends_of(
    turn: _Turn,
    step: int,
    moment: Moment | None,
    chosen: Callable[[float], int] | None,
    *,
    halve: bool,
) -> Ends:
    trace, now = turn.rows.trace, turn.now
    if step < trace.n_copied or trace.forced[step]:
        return math.nan, math.nan, False, False, True
    token = int(turn.rows.tokens[step])
    if moment is None or chosen is None:
        return now, now, False, False, False
    if moment.source == "decoded" and not _draws(moment, token):
        return now, now, False, False, False
    try:
        if chosen(now) != token:  # the chain was another one at that step
            return now, now, True, True, True
    except Uncovered:
        return now, now, False, False, False
    rule = turn.rule if halve else None
    (low, flips_low, sure_low), (high, flips_high, sure_high) = (
        _end(chosen, token, stops, rule) for stops in turn.ways
    )
    return low, high, flips_low, flips_high, sure_low and sure_high


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
        self.work = moment.sampler(turn.chain)

    def __call__(self, value: float) -> int:
        self.work.replace(self.turn.place, self.turn.version(value))
        return _choice(self.moment, self.work)


class _LearningStops:
    """The chain at each stop, going through a trace and told the trace's tokens as it goes."""

    def __init__(self, turn: _Turn) -> None:
        rows = turn.rows
        history, seed = rows.history(0).tolist(), rows.trace.seed or 0
        self._tokens = rows.tokens.tolist()
        self._works: dict[float, ChainSampler] = {}
        shared = None
        for value in {x for way in turn.ways for x in way}:
            stages = list(turn.chain)
            stages[turn.place] = turn.version(value)
            work = ChainSampler(
                Chain(stages), rows.model, history=history, seed=seed, candidates=shared
            )
            shared, self._works[value] = work.candidates, work

    def take(self, step: int, moment: Moment | None) -> Callable[[float], int]:
        """What is chosen at one step at each stop; a stop that once is not known stays so."""
        choices: dict[float, int] = {}
        for value, work in list(self._works.items()):
            try:
                if moment is None:
                    raise Uncovered("its row was not kept")
                choices[value] = _choice(moment, work)
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


def _end(
    chosen: Callable[[float], int], token: int, stops: Sequence[float], rule: Setting | None
) -> tuple[float, bool, bool]:
    """How far the choice stays on the way over some stops; whether it flips there; whether sure.

    With a rule the border is searched between two stops, else it is the last where it stays.
    """
    stays = stops[0]
    try:
        for stop in stops[1:]:
            if chosen(stop) == token:
                stays = stop
                continue
            end = float(stays) if rule is None else _halved(chosen, token, stays, stop, rule)
            return end, True, True
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

"""Replay: what another chain would have chosen on a finished generation, with the same draws.

At each step the other chain gets the row, the tokens before it and the draw that the generation
had there. Up to the first choice that differs this is what a rerun with that chain and seed does.
After it the rerun would see other text, so later choices answer a smaller question: what the
chain would choose there if the text before were as it was. They are marked off-policy.

A Setting with other adapters or another control vector gives other rows too. No record has those:
the text is decoded with them, teacher-forced: the prompt, then the rest in one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted, differing
from mullama_lab.engine.model import Model
from mullama_lab.engine.rows.tail import Uncovered
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import SettingOrChain
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.moment import Moment
from mullama_lab.engine.stages.schedule import Schedule, ScheduleSampler
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace_rows import (
    TraceRows,
    ever_learning,
    goes_on_learning,
    learning,
    rows_and_schedule,
)
from mullama_lab.errors import NoCandidates, StageFailed

if TYPE_CHECKING:
    import pandas

__all__ = ["NOTHING", "UNKNOWN", "Replay", "StageEffect", "StageEffects", "replay", "stage_effects"]
__dir__ = __all__.copy  # what tab completion offers

NOTHING = -1  # in place of a choice: the chain leaves no token
UNKNOWN = -2  # in place of a choice: the row was not kept, and not decoded again; or is noise
NOISE = (
    "decoded again, its row differs so far by noise that the chain which drew the token would "
    "draw another one there, too"
)
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Replay:
    """What a chain chooses at each step of a trace.

    Attributes:
        chain, seed: what was replayed, and with which draws; a Schedule where it changes.
        tokens: the tokens of the trace, int32 of shape (n,).
        choices: what the chain chooses there: -1 where it leaves no token, -2 where that is not
            known, which is also where noise alone would change the choice.
        given: steps that were not drawn (the beginning of a branch, its given token).
        sources: for each step where its row came from: "kept" by the trace, "decoded" again, or
            computed by "other weights" than the trace's; "" where from nowhere.
        weights: what acts on those other weights otherwise than in the trace, in words.
        problems: why the chain leaves no token, or why a choice is not known, by step.
        first: the first step whose choice differs, None if all are the same.
    """

    chain: Chain | Schedule
    seed: int
    tokens: NDArray[np.int32]
    choices: NDArray[np.int32]
    given: Bools
    sources: tuple[str, ...]
    problems: dict[int, str]
    pieces: dict[int, str] = field(repr=False)
    weights: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def differs(self) -> Bools:
        """Where the choice is another one than the trace has."""
        return (self.choices != self.tokens) & ~self.given & self.known

    @property
    def known(self) -> Bools:
        """Where the choice is known."""
        return self.choices != UNKNOWN

    @property
    def first(self) -> int | None:
        found = np.flatnonzero(self.differs)
        return int(found[0]) if len(found) else None

    @property
    def off_policy(self) -> Bools:
        """Where the text before is not what a rerun would have: after the first difference."""
        steps = np.arange(len(self))
        return steps > (len(self) if self.first is None else self.first)

    @property
    def first_is_sure(self) -> bool:
        """Whether every choice up to the first that differs is known."""
        end = len(self) if self.first is None else self.first
        return bool((self.known | self.given)[:end].all())

    @property
    def n_compared(self) -> int:
        """How many choices were compared: known, and of a token that was drawn."""
        return int(np.count_nonzero(self.known & ~self.given))

    @property
    def n_changed(self) -> int:
        """How many of them differ."""
        return int(np.count_nonzero(self.differs))

    def text_of(self, token: int) -> str:
        """The text of a token or a choice."""
        return self.pieces.get(int(token), f"<{token}>")

    def to_pandas(self) -> pandas.DataFrame:
        """One row a step; needs pandas."""
        import pandas as pd

        table = pd.DataFrame(
            {
                "token": self.tokens,
                "text": [self.text_of(t) for t in self.tokens],
                "choice": self.choices,
                "choice_text": [self.text_of(t) for t in self.choices],
                "differs": self.differs,
                "off_policy": self.off_policy,
                "given": self.given,
                "row": self.sources,
            }
        )
        table.index.name = "step"
        return table

    def summary(self) -> str:
        """What came of it, in a line."""
        first, n = self.first, self.n_compared
        parts = []
        if first is None:
            parts.append(differing(0, n))
        else:
            now, then = (repr(self.text_of(t[first])) for t in (self.choices, self.tokens))
            parts.append(f"step {first} is the first that differs: {now} instead of {then}")
            parts.append(differing(self.n_changed, n))
        if unknown := int(np.count_nonzero(~self.known & ~self.given)):
            parts.append(f"{unknown} not known")
        if decoded := self.sources.count("decoded"):
            parts.append(f"{counted(decoded, 'row')} decoded again")
        if other := self.sources.count("other weights"):
            parts.append(f"{counted(other, 'row')} decoded {', '.join(self.weights)}")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"<Replay of {counted(len(self), 'token')} under {self.chain!r}: {self.summary()}>"


@dataclass(frozen=True)
class StageEffect:
    """How many choices change when one stage is taken out of a chain.

    `place` and `stage` are as they were last, where the chain changed on the way.
    """

    place: int
    stage: Stage
    n_changed: int
    n_compared: int
    why_inert: str = ""

    def __str__(self) -> str:
        why = f" ({self.why_inert})" if self.why_inert else ""
        return f"changed {self.n_changed} of {self.n_compared}{why}"


class StageEffects(tuple[StageEffect, ...]):
    """One StageEffect for each stage of a chain, in its order."""

    def to_pandas(self) -> pandas.DataFrame:
        """One row a stage; needs pandas."""
        import pandas as pd

        rows = [(repr(x.stage), x.n_changed, x.n_compared, x.why_inert) for x in self]
        return pd.DataFrame(rows, columns=["stage", "changed", "of", "no effect"])

    def __repr__(self) -> str:
        return "\n".join(f"{x.stage!r}: {x}" for x in self) or "no stages"


def replay(
    trace: Trace,
    chain: SettingOrChain = None,
    *,
    on: Model | Session,
    allow_unknown: bool = False,
) -> Replay:
    """Which token another chain would have chosen at each step of a generation.

    The draws are those of the generation, and penalties, DRY, mirostat and adaptive-p see the
    tokens that the trace has. A step is answered from the candidates that the trace kept of its
    row if these decide it for sure, otherwise from the row decoded again; `sources` says which.
    A row decoded again is another one by noise: where that is enough to change the choice of the
    chain that drew the token, another choice is no effect of the new one, and is left open.

    Args:
        trace: a trace of `session.generate` or `session.branch`.
        chain: what to put in the place of the chain that was in force: a chain for all steps, or
            a dict with a chain for each step from which another one is in force. None is the
            chain that was in force at each step, which chooses what the trace has. It may be a
            Setting, or a dict of those: where its weights are others than the trace's, the rows
            are decoded with them, each of its steps as if they had been in force from the
            beginning.
        on: the Model of the trace; or a Session of it, which can decode rows again.
        allow_unknown: leave a choice open (-2) where a row would have to be decoded again,
            instead of raising; nothing is decoded then.

    Raises:
        ValueError: the trace was not drawn, or is of another model; the chain does not fit the
            model; or whole rows are needed and `on` is no Session.
        StageFailed: a Custom stage raised or returned something unusable; the text names the step.

    Example:
        replay(trace, TopK(40) | Temperature(1.2), on=session).first
    """
    rows, schedule = rows_and_schedule(trace, chain, on)
    return _replayed(rows, schedule, allow_unknown)


def stage_effects(
    trace: Trace,
    chain: SettingOrChain = None,
    *,
    on: Model | Session,
    allow_unknown: bool = False,
) -> StageEffects:
    """How many choices change when a stage is taken out: "changed 0 of 412".

    A stage that changes nothing here does nothing for this text, whatever its settings. Where
    the chain changed on the way, a stage is known by its kind (the second TopK of a chain is
    another one than the first); it is taken out of every chain that has it, and compared over
    all steps.

    Args:
        chain: as for `replay`; None is the chain that was in force at each step.
        on, allow_unknown: as for `replay`; a choice that is not known is not counted.

    Raises:
        ValueError, StageFailed: as `replay`.
    """
    rows, schedule = rows_and_schedule(trace, chain, on)
    whole = _replayed(rows, schedule, allow_unknown)
    return StageEffects(_effects(rows, schedule, whole, allow_unknown))


def _effects(
    rows: TraceRows, schedule: Schedule, whole: Replay, allow_unknown: bool
) -> Iterator[StageEffect]:
    for name in schedule.stages():
        versions = schedule.versions(name)
        place, stage = versions[-1]
        if all(version.why_inert() for _, version in versions):
            yield StageEffect(place, stage, 0, whole.n_compared, stage.why_inert())
            continue
        without = _replayed(rows, schedule.map(name.without), allow_unknown)
        compared = whole.known & without.known & ~whole.given
        changed = compared & (whole.choices != without.choices)
        yield StageEffect(
            place, stage, int(np.count_nonzero(changed)), int(np.count_nonzero(compared))
        )


def _replayed(rows: TraceRows, schedule: Schedule, allow_unknown: bool) -> Replay:
    run = _Pass(rows, schedule)
    run.up_to(len(rows))
    wanted = [step for step, choice in enumerate(run.choices) if choice == UNKNOWN]
    if wanted and not allow_unknown:
        rows.must_have_session(wanted, schedule.at(wanted[0]), run.problems[wanted[0]])
        run = _decoded(rows, schedule, wanted)
    trace = rows.trace
    other = next(filter(rows.has_other_weights, range(len(rows))), None)
    choices = np.array(run.choices, np.int32)
    named = {int(t) for t in (*rows.tokens.tolist(), *run.choices) if t >= 0}
    pieces = {token: trace.piece(token).decode("utf-8", "replace") for token in named}
    return Replay(
        chain=schedule if schedule.changes else schedule.last,
        seed=trace.seed or 0,
        tokens=rows.tokens.copy(),
        choices=choices,
        given=_given(rows),
        sources=tuple(run.sources),
        problems=run.problems,
        pieces={**pieces, NOTHING: "(nothing left)", UNKNOWN: "n/a"},
        weights=() if other is None else rows.other_weights(other),
    )


def _given(rows: TraceRows) -> Bools:
    """The steps whose tokens were not drawn with the trace's seed."""
    return rows.trace.forced[: rows.n] | (np.arange(rows.n) < rows.trace.n_copied)


def _decoded(rows: TraceRows, schedule: Schedule, wanted: Sequence[int]) -> _Pass:
    """Once more, with those rows decoded again; all of them where a stage learns from each."""
    run = _Pass(rows, schedule)
    steps = range(len(rows)) if ever_learning(schedule) else wanted

    def visit(moment: Moment) -> None:
        run.up_to(moment.step)
        run.take(moment.step, moment)

    rows.decode(steps, visit)
    run.up_to(len(rows))
    return run


class _Pass:
    """A schedule going through a trace, told the trace's tokens as it goes."""

    def __init__(self, rows: TraceRows, schedule: Schedule) -> None:
        self.rows, self.schedule = rows, schedule
        history = rows.history(0).tolist()
        seed = rows.trace.seed or 0
        self.work = ScheduleSampler(schedule, rows.model, history=history, seed=seed)
        self.choices: list[int] = []
        self.sources: list[str] = []
        self.problems: dict[int, str] = {}
        self._tokens = rows.tokens.tolist()
        self._given = _given(rows)
        self._lost = ""  # why a stage that learns no longer knows what it would have learnt

    def up_to(self, end: int) -> None:
        """Take the steps before `end` from what the trace kept."""
        for step in range(len(self.choices), end):
            self.take(step, self.rows.kept(step))

    def take(self, step: int, moment: Moment | None) -> None:
        """Choose at one step and accept the trace's token."""
        chain = self.schedule.at(step)
        if self._lost and not goes_on_learning(self.schedule.at(step - 1), chain):
            self._lost = ""
        choice, why = UNKNOWN, self._lost or self.rows.why_not_kept(step)
        if moment is not None and not self._lost:
            choice, why = self._choose(step, moment)
        if choice == UNKNOWN and learning(chain):
            self._lost = why
        self.sources.append(moment.source if moment is not None and choice != UNKNOWN else "")
        if choice not in (UNKNOWN, self._tokens[step]) and self._is_noisy(step, moment):
            choice, why = UNKNOWN, NOISE
        self.choices.append(choice)
        if choice < 0:
            self.problems[step] = why
        self.work.accept(self._tokens[step])

    def _is_noisy(self, step: int, moment: Moment | None) -> bool:
        """Whether a row decoded again gives another token under the very chain that drew it."""
        if moment is None or moment.source != "decoded" or self._given[step]:
            return False
        if any(stage.holds_code for stage in moment.chain):
            return False  # a function may not be there any more, or draw for itself
        try:
            return moment.choose(moment.sampler()) != self._tokens[step]
        except NoCandidates:
            return True

    def _choose(self, step: int, moment: Moment) -> tuple[int, str]:
        try:
            return moment.choose(self.work.now), ""
        except Uncovered as why:
            return UNKNOWN, str(why)
        except NoCandidates as why:
            return NOTHING, str(why)
        except (StageFailed, ValueError) as error:
            raise type(error)(f"at step {step}: {error}") from error

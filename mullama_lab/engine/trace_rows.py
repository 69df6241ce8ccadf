"""The rows a trace was chosen from: as it kept them, or decoded again.

What is decoded again is teacher-forced, its rows in one batch, so its logits differ from those of
the generation by the noise of another batch size. What was kept is exact. The weights are those
that computed the trace, whatever is in force in the session, or others that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import whole
from mullama_lab.engine.rows.tail import Uncovered, log_total
from mullama_lab.engine.session.session import Session
from mullama_lab.engine.setting import (
    Setting,
    SettingOrChain,
    Steerings,
    between_steerings,
    planned,
)
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.moment import Moment
from mullama_lab.engine.stages.schedule import Schedule
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.parts import value_at
from mullama_lab.errors import DecodeError, NoCandidates
from mullama_lab.glyphs import brief

N_CHECKED = 8  # drawn steps that must come out as the trace has them
FAR = 3.0  # nats; rounding moves a log-probability by less than one


class TraceRows:
    """Gives the Moment of any step of a trace.

    Args:
        trace: a Trace; of one that still grows, the steps there are now.
        on: its Model, which is enough where the trace kept what is needed, or a Session of it,
            which can decode the rest.
        steerings: what acts on the weights, each from a step on; None is what did.

    Raises:
        TypeError: neither a Model nor a Session, or no Trace.
        ValueError: the trace has no steps, or was made with another vocabulary; what asks for a
            row that it did not keep, where that came over what other weights had left in the
            cache (`trace.stale`).
    """

    def __init__(
        self, trace: Trace, on: Model | Session, steerings: Steerings | None = None
    ) -> None:
        if not isinstance(trace, Trace):
            raise TypeError(f"a {type(trace).__name__} is not a Trace; session.generate gives one.")
        if not isinstance(on, (Model, Session)):
            raise TypeError(
                f"on={brief(on)}: give the Model that made the trace, or a Session of it."
            )
        self.session = on if isinstance(on, Session) else None
        self.model = on.model if isinstance(on, Session) else on
        self.n = len(trace)
        if self.n == 0:
            raise ValueError("the trace has no steps: generate some tokens first.")
        self.trace = trace
        self._steerings = steerings
        self._all = trace.history(self.n)
        self._ids = np.arange(self.model.n_vocab, dtype=np.int32)
        trace.must_be_of(self.model)

    def __len__(self) -> int:
        return self.n

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The tokens of the trace."""
        return self.trace.tokens[: self.n]

    def history(self, step: int) -> NDArray[np.int32]:
        """The tokens before a step, prompt included."""
        return self._all[: len(self._all) - self.n + step]

    def kept(self, step: int) -> Moment | None:
        """The moment of a step from what the trace kept of its row.

        None if it kept nothing, or other weights are asked for than computed it.
        """
        return None if self.has_other_weights(step) else self._kept(step)

    def known(self, step: int) -> Moment:
        """The same; `Uncovered` says why there is none."""
        moment = self.kept(step)
        if moment is None:
            raise Uncovered(self.why_not_kept(step))
        return moment

    def why_not_kept(self, step: int) -> str:
        """Why there is no moment of a step from what the trace kept."""
        if self.has_other_weights(step):
            return "other weights than those asked for computed its row"
        return "its row was not kept"

    def has_other_weights(self, step: int) -> bool:
        """Whether other weights are asked for at a step than computed it."""
        if self._steerings is None:
            return False
        return self._asked_at(step) != value_at(self.trace.in_force, step).steering

    def other_weights(self, step: int) -> tuple[str, ...]:
        """What those that are asked for have otherwise, in words."""
        was = value_at(self.trace.in_force, step).steering
        return tuple(between_steerings(was, self._asked_at(step)))

    def _asked_at(self, step: int) -> Steering:
        if self._steerings is None:
            return value_at(self.trace.in_force, step).steering
        return value_at(self._steerings, step)

    def _kept(self, step: int) -> Moment | None:
        kept = self.trace.kept(step)
        if kept is None:
            return None
        return self._moment(step, *kept, float(self.trace.logsumexp[step]), "kept")

    def decoded(self, step: int) -> Moment:
        """The moment of one step with its whole row, decoded again unless all of it was kept."""
        moment = self.kept(step)
        if moment is not None and moment.is_whole:
            return moment
        session, found = self._session_for([step]), []
        tokens, setting = self.history(step).tolist(), self._setting_of([step])
        session.visit_rows(
            tokens, len(tokens) - 1, lambda _, row: found.append(row.copy()), setting=setting
        )
        return self._of_row(step, found[0])

    def decode(self, steps: Collection[int], visit: Callable[[Moment], None]) -> None:
        """Decode the text again and visit the moments of some steps, in order.

        It is one batch, or one for each of the weights where they are others from some step on.
        The visits happen on the session's thread; a moment's row is gone after its visit.
        Sequence 0 of the session holds the text afterwards.

        Raises:
            ValueError: the trace came over what other weights had left in the cache.
        """
        session = self._session_for(steps)
        wanted = frozenset(steps)
        first = len(self._all) - self.n - 1  # the place whose row is that of step 0

        def look(place: int, row: NDArray[np.float32]) -> None:
            if place - first in wanted:
                visit(self._of_row(place - first, row))

        for _, span in groupby(sorted(wanted), lambda step: self._asked_at(step).epoch):
            some = list(span)
            begin = 0 if len(some) == len(wanted) else some[0]
            tokens = self._all[: first + some[-1] + 1].tolist()
            session.visit_rows(tokens, first + begin, look, setting=self._setting_of(some))

    def _setting_of(self, steps: Sequence[int]) -> Setting:
        """Whose weights decode the rows of some steps, which are the same for all of them."""
        for step in steps:
            if value_at(self.trace.in_force, step).stale and not self.has_other_weights(step):
                raise ValueError(
                    f"before step {step} of the trace adapters or a control vector were changed, "
                    "and it went on over what the cache held of the weights before "
                    "(trace.stale), which a decode does not give again. Give a Setting of other "
                    "weights, or generate again."
                )
        asked = self._asked_at(steps[0])
        return Setting(Chain(), asked.adapters, asked.control)

    def must_have_draws(self) -> None:
        """Refuse a trace whose tokens were not drawn by its seed at the steps it gives them.

        Raises:
            ValueError: it is a scored text, or a part of a trace.
        """
        trace = self.trace
        if trace.seed is None:
            raise ValueError(
                "the trace has no seed, so nothing in it was drawn (a scored text). "
                "Give a trace of session.generate."
            )
        if trace.first_step:
            raise ValueError(
                f"the trace is a part of another, from its step {trace.first_step} on, so its "
                "draws have moved: give the whole trace."
            )
        drawn = range(trace.n_copied, min(self.n, trace.n_copied + N_CHECKED))
        for step in drawn:
            moment = self._kept(step)
            if moment is None or any(stage.holds_code for stage in moment.chain):
                return
            try:
                chosen = moment.choose(moment.sampler())
            except (Uncovered, NoCandidates):
                continue
            if chosen != self.tokens[step]:
                raise ValueError(
                    f"seed {trace.seed} and the chain do not draw the token that the trace has at "
                    f"step {step}: the record was altered, or another model than {self.model.name} "
                    f"made it ({trace.model_name!r})."
                )

    def must_have_session(self, steps: Collection[int], chain: Chain, why: str) -> None:
        """Refuse to go on from what the trace kept, where rows cannot be decoded again.

        Args:
            steps: those that it does not decide under `chain`.
            why: the reason at the first of them.

        Raises:
            ValueError: there is a Model and no Session.
        """
        if self.session is None:
            raise ValueError(
                f"what the trace kept does not decide {listed_steps(steps)} under {chain!r}: "
                f"{why}. Pass a session to decode those rows again: on=model.session()."
            )

    def _moment(
        self,
        step: int,
        ids: NDArray[np.int32],
        logits: NDArray[np.float32],
        logsumexp: float,
        source: str,
    ) -> Moment:
        trace = self.trace
        return Moment(
            model=self.model,
            ids=ids,
            logits=logits,
            logsumexp=logsumexp,
            history=self.history(step),
            seed=trace.seed or 0,
            step=step,
            chain=trace.chain_at(step),
            state=trace.state(step),
            source=source,
        )

    def _of_row(self, step: int, row: NDArray[np.float32]) -> Moment:
        if not abs(float(row.max())) <= native.LARGEST_LOGIT:
            raise DecodeError(
                f"the row of step {step} has a NaN, an infinity or a huge number. "
                "The file or its quantisation is damaged: try another one."
            )
        logsumexp = log_total(row)
        now, then = float(row[self.tokens[step]]) - logsumexp, float(self.trace.logprob[step])
        other = self.has_other_weights(step)
        if not other and abs(now - then) > FAR:
            raise ValueError(
                f"at step {step} {self.model.name} gives the token {now:.2f} nats and the trace "
                f"has {then:.2f}: another model of the same vocabulary, or another text before it, "
                f"made the trace. Use {self.trace.model_name!r}."
            )
        source = "other weights" if other else "decoded"
        return self._moment(step, self._ids, row, logsumexp, source)

    def _session_for(self, steps: Collection[int]) -> Session:
        if self.session is None:
            need, rows, them = (
                ("needs", "its whole row", "it") if len(steps) == 1
                else ("need", "their whole rows", "them")
            )  # fmt: skip
            raise ValueError(
                f"{listed_steps(steps)} {need} {rows}, and the trace does not keep {them}. "
                f"Pass a session to decode {them} again: on=model.session()."
            )
        return self.session


def rows_and_schedule(
    trace: Trace, chain: SettingOrChain, on: Model | Session, *, drawn: bool = True
) -> tuple[TraceRows, Schedule]:
    """The rows of a trace and the chains that a study tries on them, both checked.

    Args:
        chain: None is the chain that was in force at each step; with a Setting its weights are
            asked for too.
        drawn: whether the study asks what was drawn, not only from what.

    Raises:
        TypeError, ValueError: as `TraceRows` and `must_have_draws` say, or the chain does not fit
            the model.
    """
    schedule, steerings = (None, []) if chain is None else planned(chain)
    rows = TraceRows(trace, on, steerings or None)
    if drawn:
        rows.must_have_draws()
    schedule = trace.schedule if schedule is None else schedule
    schedule.check(rows.model)
    return rows, schedule


def step_of(rows: TraceRows, step: Any) -> int:
    """A step as a caller names it, from 0; `ValueError` names the range."""
    return whole("step", step, 0, rows.n - 1)


def listed_steps(steps: Collection[int]) -> str:
    """Steps as a message names them."""
    first = sorted(steps)[:6]
    listed = ", ".join(map(str, first)) + (", …" if len(steps) > len(first) else "")
    return f"step {listed}" if len(steps) == 1 else f"{len(steps)} steps ({listed})"


def learning(chain: Iterable[Stage]) -> bool:
    """Whether a stage of the chain learns from each token (mirostat, adaptive-p)."""
    return any(stage.learns for stage in chain)


def goes_on_learning(before: Chain, after: Chain) -> bool:
    """Whether a stage that learns stays as it is where one chain takes another one's place."""
    return learning(stage for stage in after if stage in before.stages)


def ever_learning(schedule: Schedule) -> bool:
    """Whether a stage of any of the chains learns from each token."""
    return any(map(learning, schedule.values()))

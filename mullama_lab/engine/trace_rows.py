"""The rows a trace was chosen from: as it kept them, or decoded again.

What is decoded again is teacher-forced, all tokens in one batch, so its logits differ from those
of the generation by the noise of another batch size. What was kept is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import whole
from mullama_lab.engine.rows.tail import Uncovered, log_total
from mullama_lab.engine.session.session import Session
from mullama_lab.engine.stages import Chain, Stage
from mullama_lab.engine.stages.moment import Moment
from mullama_lab.engine.stages.schedule import ChainOrSchedule, Schedule
from mullama_lab.engine.trace import Trace
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

    Raises:
        TypeError: neither a Model nor a Session, or no Trace.
        ValueError: the trace has no steps, or was made with another vocabulary.
    """

    def __init__(self, trace: Trace, on: Model | Session) -> None:
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
        """The moment of a step from what the trace kept of its row; None if it kept nothing."""
        kept = self.trace.kept(step)
        if kept is None:
            return None
        return self._moment(step, *kept, float(self.trace.logsumexp[step]), "kept")

    def decoded(self, step: int) -> Moment:
        """The moment of one step with its whole row, decoded again unless all of it was kept."""
        moment = self.kept(step)
        if moment is not None and moment.is_whole:
            return moment
        row = self._session_for([step]).logits(self.history(step))
        return self._of_row(step, row)

    def decode(self, steps: Collection[int], visit: Callable[[Moment], None]) -> None:
        """Decode the text again in one batch and visit the moments of some steps, in order.

        The visits happen on the session's thread; a moment's row is gone after its visit.
        Sequence 0 of the session holds the text afterwards.
        """
        session = self._session_for(steps)
        wanted, last = frozenset(steps), max(steps)
        first = len(self._all) - self.n - 1  # the place whose row is that of step 0

        tokens = self._all[: first + last + 1].tolist()

        def look(place: int, row: NDArray[np.float32]) -> None:
            if place - first in wanted:
                visit(self._of_row(place - first, row))

        session.visit_rows(tokens, first, look)

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
            moment = self.kept(step)
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
        if abs(now - then) > FAR:
            raise ValueError(
                f"at step {step} {self.model.name} gives the token {now:.2f} nats and the trace "
                f"has {then:.2f}: another model of the same vocabulary, or another text before it, "
                f"made the trace. Use {self.trace.model_name!r}."
            )
        return self._moment(step, self._ids, row, logsumexp, "decoded")

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
    trace: Trace, chain: ChainOrSchedule, on: Model | Session, *, drawn: bool = True
) -> tuple[TraceRows, Schedule]:
    """The rows of a trace and the chains that a study tries on them, both checked.

    Args:
        chain: None is the chain that was in force at each step.
        drawn: whether the study asks what was drawn, not only from what.

    Raises:
        TypeError, ValueError: as `TraceRows` and `must_have_draws` say, or the chain does not fit
            the model.
    """
    rows = TraceRows(trace, on)
    if drawn:
        rows.must_have_draws()
    schedule = trace.schedule if chain is None else Schedule.of(chain)
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

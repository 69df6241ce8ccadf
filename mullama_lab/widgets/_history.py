"""The runs of a run panel that have ended: numbered, listed, found again, compared.

It knows traces, no view and no thread: whoever holds it says who may use it when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import numpy as np

from mullama_lab.engine.trace import Trace
from mullama_lab.glyphs import brief
from mullama_lab.widgets._compare import Compared, Comparison, Cost, compare
from mullama_lab.widgets._runs import Asked, PastRun, branch_of, branch_text, summary
from mullama_lab.widgets._what_differs import between_settings

MAX_RUNS = 30
MOST_CALLED = 3  # runs that one path is called after

BRANCH = "branch of"  # a column only where there is one
COLUMNS = (
    "run", BRANCH, "prompt", "stages with effect", "seed", "tokens", "mean logprob", "ended", "text"
)  # fmt: skip


class History:
    """The newest runs, with their traces.

    Attributes:
        runs: the newest last, at most 30.
        count: how many there were in all; the number of the newest.
    """

    def __init__(self) -> None:
        self.runs: list[PastRun] = []
        self.count = 0
        self._by_path: dict[bytes, list[int]] = {}  # numbers, also of runs that are listed no more

    @classmethod
    def of(cls, runs: Iterable[PastRun]) -> History:
        """A history of some runs by the numbers that they have, which rise."""
        history = cls()
        for run in runs:
            history.add(run.trace, run.asked, number=run.number)
        return history

    def __len__(self) -> int:
        return len(self.runs)

    def __contains__(self, trace: Trace) -> bool:
        return any(past.trace is trace for past in self.runs)

    def add(
        self, trace: Trace, asked: Asked | None = None, *, number: int | None = None
    ) -> PastRun:
        """List one more.

        Args:
            asked: what a panel asked for when it began; kept as far as the trace agrees with it.
            number: a larger one than the last; None is the next.
        """
        self.count = self.count + 1 if number is None else number
        asked = asked.as_far_as_of(trace) if asked else None
        past = PastRun(self.count, trace, asked, branch_of(trace, self.runs))
        self.runs = [*self.runs, past][-MAX_RUNS:]
        self._by_path.setdefault(_path(trace), []).append(past.number)
        return past

    def run(self, number: int) -> PastRun:
        """The run of a number.

        Raises:
            ValueError: it is not listed, or no more.
        """
        for past in self.runs:
            if past.number == number:
                return past
        known = ", ".join(str(past.number) for past in self.runs) or "none"
        raise ValueError(f"there is no run {brief(number)}; there are {known}")

    def number_of(self, trace: Trace) -> int:
        """The number of the run that a trace is of; 0 if it is not listed."""
        return next((past.number for past in reversed(self.runs) if past.trace is trace), 0)

    def called(self, trace: Trace) -> str:
        """What the path of a trace is called: "run 5", or "run 5, 8" where two runs took it.

        "" where none did.
        """
        numbers = self._by_path.get(_path(trace), [])
        more = ", …" if len(numbers) > MOST_CALLED else ""
        return f"run {', '.join(map(str, numbers[:MOST_CALLED]))}{more}" if numbers else ""

    def compare(self, *numbers: int, cost_of: Callable[[Trace], Cost | None]) -> Comparison:
        """Two to four runs by number: where they part, the KL there, what grammars cost them."""
        runs = [self.run(number) for number in numbers]
        return compare(
            [
                Compared(run.number, run.label, run.trace, run.ends, cost_of(run.trace))
                for run in runs
            ]
        )

    def lines(self, begin_mark: int | None = None) -> list[dict[str, Any]]:
        """One short dict a run, the newest last, as the trait `history` of a panel has it.

        Args:
            begin_mark: a token that is left out where a prompt begins with it.
        """
        before = [None, *self.runs]
        return [
            summary(run, begin_mark, [*between_settings(last.trace, run.trace)] if last else ())
            for last, run in zip(before, self.runs)
        ]


def _path(trace: Trace) -> bytes:
    """What tells the tokens of a trace, with those of its prompt, from others."""
    end = np.array([-1], np.int32)
    return blake2b(np.concatenate([trace.prompt_tokens, end, trace.tokens]).tobytes()).digest()


def table(lines: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Lines of a history as columns and rows of text."""
    rows = []
    for line in lines:
        logprob = "n/a" if line["logprob"] is None else f"{line['logprob']:.2f}"
        rows.append(
            [
                str(line["number"]), branch_text(line["branch"]), repr(line["prompt"]),
                line["chain"], str(line["seed"]), str(line["tokens"]), logprob, line["ended"],
                repr(line["text"]),
            ]
        )  # fmt: skip
    if any(line["branch"] for line in lines):
        return list(COLUMNS), rows
    return [name for name in COLUMNS if name != BRANCH], [[row[0], *row[2:]] for row in rows]

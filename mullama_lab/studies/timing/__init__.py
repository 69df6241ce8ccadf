"""Timing: where the time of a generation went, measured.

`timing(trace)` splits the time of each token into parts, in llama-bench's words: `pp512` is a
prompt of 512 tokens, `tg128` is 128 tokens one by one, `@ d4096` is with 4096 in the cache before.
`counters` puts llama.cpp's own clock beside ours. `operators` measures which of ggml's operations
and which layers take the time of a decode, `depth` what the tokens in the cache cost.

The parts of a token's time follow one another and add up to it. Where a core is free, a token is
recorded while the next one is decoded: that takes none of its time, and is listed as `beside`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.cache.ledger import Ledger
from mullama_lab.engine.native.context import Counters
from mullama_lab.engine.options import instance, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.measuring import llama_counters
from mullama_lab.engine.trace import Trace
from mullama_lab.studies.timing.depth_curve import DepthCurve, DepthStopped, depth, from_trace
from mullama_lab.studies.timing.line import Estimate, Line
from mullama_lab.studies.timing.operation_times import Operators, operators
from mullama_lab.studies.timing.units import NS_PER_MS

if TYPE_CHECKING:
    import pandas

__all__ = [
    "Counted",
    "DepthCurve",
    "DepthStopped",
    "Estimate",
    "Line",
    "Operators",
    "Speed",
    "Timing",
    "counters",
    "depth",
    "from_trace",
    "operators",
    "timing",
]
__dir__ = __all__.copy  # what tab completion offers

PARTS = MappingProxyType(
    {
        "decode": "decode",
        "sampling": "sampling",
        "constraint": "constraint",
        "capture": "capture",
        "rest": "Python and display",
    }
)


class Speed(NamedTuple):
    """Tokens a second.

    Attributes:
        test: what was measured, as llama-bench names it.
        n: tokens.
        mean: all of them by all of their time; NaN where that is not known.
        q1, median, q3: of the tokens one by one; NaN of a prompt, whose tokens come together.
    """

    test: str
    n: int
    mean: float
    q1: float = np.nan
    median: float = np.nan
    q3: float = np.nan

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return f"{self.test}: t/s not available"
        spread = (
            ""
            if np.isnan(self.median)
            else (f" (median {self.median:.1f}, half of the tokens {self.q1:.1f} to {self.q3:.1f})")
        )
        return f"{self.test}: {self.mean:.1f} t/s{spread}"


@dataclass(frozen=True, eq=False)
class Timing:
    """The time of each token that was drawn, in parts. Times in ms, arrays of one entry a token.

    Attributes:
        PARTS: the attributes that add up to the total, and what each is called.
        steps: their indices in the trace.
        total: from the draw of the token before to that of this one; that of the first begins
            with the prompt. NaN in an old trace, which does not have it.
        decode: the whole batch that the row came from, other texts in it included.
        sampling, constraint: the stages and the draw; those that constrain the text, as a grammar.
        capture: recording the token before, where this one waited for that: no core was free for
            it, both tokens came out of one batch, or adapters or control vectors were changed.
        beside: recording the token before while this one was decoded: no part of the total. Where
            it took longer than the decode, the wait is in the rest.
        first: index of the first token, whose decode is the prompt's; None if it is not in here.
        prompt: the speed of the prompt's tokens; None where none were decoded, or in a part.
        n_before: tokens before step 0.
    """

    PARTS: ClassVar[Mapping[str, str]] = PARTS

    steps: NDArray[np.int64]
    total: NDArray[np.float64]
    decode: NDArray[np.float64]
    sampling: NDArray[np.float64]
    constraint: NDArray[np.float64]
    capture: NDArray[np.float64]
    beside: NDArray[np.float64]
    first: int | None
    prompt: Speed | None
    n_before: int

    @property
    def rest(self) -> NDArray[np.float64]:
        """What is left of the total: Python, waiting for other texts, callbacks, a pause."""
        return self.total - self.decode - self.sampling - self.constraint - self.capture

    def __len__(self) -> int:
        return len(self.steps)

    def between(self, a: int, b: int) -> Timing:
        """The tokens of steps a to b, without b.

            found.between(100, 200).shares

        Raises:
            ValueError: a is negative, or b is less than a.
        """
        a = whole("a", a, 0, 1 << 40)
        b = whole("b", b, a, 1 << 40)
        chosen = (self.steps >= a) & (self.steps < b)
        names = ("steps", "total", "decode", "sampling", "constraint", "capture", "beside")
        has_first = self.first is not None and bool(chosen[self.first])
        return Timing(
            **{name: getattr(self, name)[chosen] for name in names},
            first=0 if has_first else None,
            prompt=self.prompt if has_first else None,
            n_before=self.n_before,
        )

    @property
    def after_first(self) -> Timing:
        """The tokens after the first, whose time has no prompt in it."""
        if self.first is None:
            return self
        return self.between(int(self.steps[self.first]) + 1, int(self.steps[-1]) + 1)

    @property
    def tokens(self) -> Speed:
        """The speed of the tokens after the first, one by one."""
        later = self.after_first
        n, total = len(later), later.total
        depth = self.n_before + int(later.steps[0]) - 1 if n else 0
        test = f"tg{n} @ d{depth}" if depth else f"tg{n}"
        if not n or np.isnan(total).any():
            return Speed(test, n, np.nan)
        q1, median, q3 = np.quantile(1e3 / total, (0.25, 0.5, 0.75)).tolist()
        return Speed(test, n, 1e3 * n / float(total.sum()), q1, median, q3)

    @property
    def shares(self) -> Mapping[str, float]:
        """The share of each part in the time of the tokens after the first; they add up to 1.

        NaN where the total is not known.
        """
        later = self.after_first
        whole_time = float(later.total.sum()) if len(later) else np.nan
        return {name: float(getattr(later, name).sum()) / whole_time for name in PARTS}

    def to_pandas(self) -> pandas.DataFrame:
        """A row a token, in ms: total, its parts, and `beside`; needs pandas."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in ("total", *PARTS, "beside")}
        return pd.DataFrame(columns, index=pd.Index(self.steps, name="step"))

    def speeds(self) -> pandas.DataFrame:
        """The rows that llama-bench would print: test, n, mean, q1, median, q3 in t/s."""
        import pandas as pd

        return pd.DataFrame(self._speeds(), columns=list(Speed._fields)).set_index("test")

    def _speeds(self) -> list[Speed]:
        return [*filter(None, [self.prompt]), self.tokens]

    @property
    def findings(self) -> Mapping[str, str]:
        """What was found, a line for each of: prompt, tokens, first, shares, beside.

        What there is nothing to say of is left out.
        """
        found = {} if self.prompt is None else {"prompt": str(self.prompt)}
        found["tokens"] = str(self.tokens)
        if self.first is not None:
            found["first"] = f"first token: {_ms(self.total[self.first])}, with the prompt's"
        if not np.isnan(self.tokens.mean):
            shares = [f"{name} {share:.1%}" for name, share in self.shares.items()]
            found["shares"] = f"time of a later token: {', '.join(shares)}"
        beside = self.after_first.beside
        if (aside := beside[beside > 0]).size:
            took = _ms(float(np.median(aside)))
            found["beside"] = f"recording a token takes {took}, while the next one is decoded"
        return found

    def summary(self) -> str:
        """The findings, one a line."""
        return "\n".join(self.findings.values())

    def __repr__(self) -> str:
        said = self.summary().replace("\n", "\n  ")
        return f"<Timing of {counted(len(self), 'token')}:\n  {said}>"

    def _repr_html_(self) -> str:
        return "".join(f"<div>{escape(line)}</div>" for line in self.summary().splitlines())


def timing(trace: Trace) -> Timing:
    """Where the time of a generation went, token by token.

    Of a branch, the tokens that it drew itself. A running trace is taken as it is now.

        found = timing(session.generate("Once upon a time"))
        found.to_pandas()[["decode", "sampling"]].median()

    Args:
        trace: of a generation. Beside other texts in one batch the decode is that of the batch,
            and the rest has the draws of the others.

    Raises:
        ValueError: it is of a scored text, whose tokens were not decoded one by one.
    """
    trace = instance("trace", trace, Trace)[:]
    if trace.finish_reason == "scored":
        raise ValueError(
            "the trace is of a scored text, whose rows come out of a batch together. "
            "timing takes the trace of a generation."
        )
    own = slice(trace.n_copied, len(trace))
    columns = ("wall_ns", "decode_ns", "sample_ns", "constraint_ns", "capture_ns")
    total, decode, sampling, constraint, capture = (
        trace.column(name)[own] / NS_PER_MS for name in columns
    )
    total[total == 0] = np.nan
    before = np.concatenate([[0.0], capture[:-1]])[: len(capture)]  # of the token before
    aside = _captured_aside(trace)[own]
    has_first = len(total) > 0 and (trace.first_step == 0 or trace.prompt_seconds > 0)
    return Timing(
        steps=np.arange(own.start, own.stop),
        total=total,
        decode=decode,
        sampling=sampling,
        constraint=constraint,
        capture=np.where(aside, 0.0, before),
        beside=np.where(aside, before, 0.0),
        first=0 if has_first else None,
        prompt=_prompt_speed(trace),
        n_before=len(trace.prompt_tokens),
    )


def _captured_aside(trace: Trace) -> NDArray[np.bool_]:
    """Whether the record of the token before each was made while it was decoded.

    A token from the same batch as the one before it has no decode of its own, and before adapters
    or control vectors change, all tokens are recorded.
    """
    aside = trace.decode_ns > 0
    changes = [step for step, _ in trace.in_force if step < len(aside)]
    aside[changes] = False
    return aside & trace.captured_aside


def _prompt_speed(trace: Trace) -> Speed | None:
    n, reused, seconds = trace.n_prompt_decoded, trace.n_prompt_reused, trace.prompt_seconds
    if not n or not seconds:
        return None
    return Speed(f"pp{n} @ d{reused}" if reused else f"pp{n}", n, n / seconds)


def _ms(value: float) -> str:
    return "not available" if np.isnan(value) else f"{value:.3g} ms"


@dataclass(frozen=True)
class Counted:
    """What was decoded in a session: by our clock around `llama_decode`, and by llama.cpp's own.

    Subtract two of them to get what was decoded in between.

    Attributes:
        ours: the session's ledger.
        llama: `llama_perf_context`, which tells batches of one token from those of several.
    """

    ours: Ledger
    llama: Counters

    def __sub__(self, other: Counted) -> Counted:
        if not isinstance(other, Counted):
            return NotImplemented
        a, b = self.llama, other.llama
        llama = Counters(
            prompt_ms=a.prompt_ms - b.prompt_ms,
            eval_ms=a.eval_ms - b.eval_ms,
            n_prompt=a.n_prompt - b.n_prompt,
            n_eval=a.n_eval - b.n_eval,
        )
        return Counted(self.ours - other.ours, llama)

    def to_pandas(self) -> pandas.DataFrame:
        """Rows all, prompt (batches of several) and eval (of one token), of whose clock; ms, t/s.

        Ours does not tell the two apart: NaN.
        """
        import pandas as pd

        llama = self.llama
        rows = [
            ("all", "ours", self.ours.decoded, 1e3 * self.ours.seconds),
            ("all", "llama.cpp", llama.n_prompt + llama.n_eval, llama.prompt_ms + llama.eval_ms),
            ("prompt", "llama.cpp", llama.n_prompt, llama.prompt_ms),
            ("eval", "llama.cpp", llama.n_eval, llama.eval_ms),
        ]
        table = pd.DataFrame(rows, columns=["what", "clock", "tokens", "ms"])
        table["t/s"] = 1e3 * table["tokens"] / table["ms"].where(table["ms"] > 0)
        return table.set_index(["what", "clock"])

    def __repr__(self) -> str:
        llama = self.llama
        return (
            f"<Counted: {self.ours.decoded} tokens in {1e3 * self.ours.seconds:.1f} ms of "
            f"llama_decode; llama.cpp's own clock: {llama.n_prompt} in batches in "
            f"{llama.prompt_ms:.1f} ms, {llama.n_eval} one by one in {llama.eval_ms:.1f} ms>"
        )


def counters(session: Session) -> Counted:
    """llama.cpp's own counters beside ours, since the session was opened.

        before = counters(session)
        session.generate("Once upon a time")
        (counters(session) - before).to_pandas()

    llama.cpp's header advises against relying on its own; the workbench relies on ours.

    Raises:
        ClosedError: the session was closed.
    """
    session = instance("session", session, Session)
    return Counted(session.ledger, llama_counters(session))

"""Depth curve: how the time of a token grows with the tokens in the cache before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.options import instance, listed, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.measuring import decode_at_depths
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import Stopped
from mullama_lab.studies.timing.line import LEAST, Estimate, Line
from mullama_lab.studies.timing.units import NS_PER_MS

if TYPE_CHECKING:
    import pandas

N_DEPTHS = 8  # unless told otherwise
N_PARTS = 32  # of a trace, of each of which the median is taken


@dataclass(frozen=True, eq=False)
class DepthCurve:
    """Milliseconds a token against the tokens in the cache before it.

    The line goes through the medians of the places, which single slow tokens do not move. Its
    intervals (95 %) say how well it is known, if the machine stays as busy as it was.

    Attributes:
        depths, ms: of each token that was timed, in order.
        places: the group of each, from 0 on: tokens at about the same depth.
        n_ctx: tokens the context has room for; None where that is not known.
        n_planned: tokens that were to be timed; fewer are there if it was stopped.
    """

    depths: NDArray[np.int64]
    ms: NDArray[np.float64]
    places: NDArray[np.int64]
    n_ctx: int | None
    n_planned: int

    @property
    def is_complete(self) -> bool:
        """Whether all tokens that were to be timed are there."""
        return len(self.ms) == self.n_planned

    def to_pandas(self) -> pandas.DataFrame:
        """A row a place: depth, n (tokens timed), q1, ms (the median), q3; needs pandas."""
        import pandas as pd

        columns = ["depth", "n", "q1", "ms", "q3"]
        return pd.DataFrame(self._points, columns=columns).astype({"n": int})

    @cached_property
    def _points(self) -> NDArray[np.float64]:
        """The mean depth, how many, and the quartiles of each place."""
        rows = []
        for place in np.unique(self.places):
            some = self.places == place
            quartiles = np.quantile(self.ms[some], (0.25, 0.5, 0.75))
            rows.append([self.depths[some].mean(), some.sum(), *quartiles])
        return np.array(rows, np.float64).reshape(-1, 5)

    @cached_property
    def line(self) -> Line:
        """The straight line through the medians: ms, and ms for each token in the cache.

        Raises:
            ValueError: there are fewer than four places.
        """
        return Line.through(self._points[:, 0], self._points[:, 3])

    def at(self, depth: int) -> Estimate:
        """What a token takes with so many in the cache, in ms, with its interval."""
        return self.line.at(whole("depth", depth, 0, 1 << 40))

    def seconds_to_fill(self, start: int = 0, stop: int | None = None) -> Estimate:
        """How long decoding token by token takes, from `start` tokens in the cache up to `stop`.

        Args:
            stop: None is all that the context has room for.

        Raises:
            ValueError: fewer than four places were measured; or `stop` is needed.
        """
        start = whole("start", start, 0, 1 << 40)
        if stop is None and self.n_ctx is None:
            raise ValueError("the trace does not say how much the context holds: give stop=.")
        stop = self.n_ctx if stop is None else whole("stop", stop, 0, 1 << 40)
        assert stop is not None
        if stop < start:
            raise ValueError(f"stop={stop}: it must be at least start={start}.")
        return Estimate(*(ms / 1e3 for ms in self.line.total(start, stop)))

    def summary(self) -> str:
        """The result, in words."""
        n = len(self._points)
        said = f"{counted(len(self.ms), 'token')} at {counted(n, 'depth')}"
        if not self.is_complete:
            said += f", of {self.n_planned} that were to be timed when it was stopped"
        if n < LEAST:
            return f"{said}: too few for a line, which takes {LEAST}"
        base, more = self.line.combined(1, 0), self.line.combined(0, 1000)
        said += (
            f": {_interval(base)} ms a token, and {_interval(more)} ms for each 1000 in the cache"
        )
        if self.n_ctx is None:
            return said
        if (last := int(self.depths[-1]) + 1) < self.n_ctx / 2:
            return f"{said}; no more than {last} of {self.n_ctx} were in the cache"
        return f"{said}; filling {self.n_ctx} takes {_interval(self.seconds_to_fill())} s"

    def __repr__(self) -> str:
        lines = [f"<DepthCurve: {self.summary()}>"]
        lines += [f"  @ d{d:<7.0f} {ms:8.3f} ms" for d, _, _, ms, _ in self._points[:40]]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = self.to_pandas().to_html(index=False, float_format="%.3f", border=0, max_rows=40)
        return f"<p>{escape(self.summary())}</p>{table}"


class DepthStopped(KeyboardInterrupt):
    """Ctrl-C while depths were measured; `curve` has what there was.

    In a notebook: `curve = sys.last_value.curve`.
    """

    def __init__(self, curve: DepthCurve) -> None:
        super().__init__(
            f"stopped after {counted(len(curve.ms), 'token')}, which are in `sys.last_value.curve`"
        )
        self.curve = curve


def depth(
    session: Session,
    depths: Iterable[int] | None = None,
    *,
    repeats: int = 16,
    progress: bool = True,
) -> DepthCurve:
    """What a token takes at several depths of the cache, measured as the session decodes.

        curve = depth(session)
        curve.seconds_to_fill()

    The tokens are random, and decoded in a context of their own, opened with the session's
    settings; the session is not changed. Ctrl-C raises DepthStopped, which has what was measured;
    when another thread calls `session.stop()`, what was measured is returned.

    Args:
        depths: tokens in the cache; None is eight from none to all that fit.
        repeats: tokens that are timed at each.
        progress: show a bar if it takes longer than two seconds.

    Raises:
        ValueError: a depth does not fit with its tokens in the session's context; or a context
            of its own would not fit in memory.
        ClosedError: the session was closed.
    """
    session = instance("session", session, Session)
    repeats = whole("repeats", repeats, 1, 10_000)
    known = _checked(depths, session.n_ctx, repeats)
    found: list[tuple[int, int]] = []

    def curve() -> DepthCurve:
        places = np.arange(len(found)) // repeats
        return _curve(found, places, session.n_ctx, len(known) * repeats)

    try:
        decode_at_depths(session, known, repeats, lambda *one: found.append(one), progress=progress)
    except Stopped:
        pass
    except KeyboardInterrupt:
        raise DepthStopped(curve()) from None
    return curve()


def from_trace(trace: Trace) -> DepthCurve:
    """The same from the decode times of a long generation.

    Left out are the first token, which has the prompt's time, and tokens that were decoded
    together. Other texts beside it in a batch make it slower.

    Raises:
        ValueError: the trace is of a scored text.
    """
    trace = instance("trace", trace, Trace)[:]
    if trace.finish_reason == "scored":
        raise ValueError("the trace is of a scored text, whose tokens were decoded together.")
    took, n = trace.decode_ns, len(trace)
    alone = (took > 0) & np.append(took[1:] > 0, True)[:n]
    alone[: trace.n_copied + 1] = False
    steps = np.flatnonzero(alone)
    depths = len(trace.prompt_tokens) + steps - 1
    found = list(zip(depths.tolist(), took[steps].tolist(), strict=True))
    n_places = min(N_PARTS, len(found))
    places = np.arange(len(found)) * n_places // max(1, len(found))
    return _curve(found, places, _n_ctx(trace), len(found))


def _curve(
    found: list[tuple[int, int]], places: NDArray[np.int64], n_ctx: int | None, n_planned: int
) -> DepthCurve:
    values = np.array(found, np.int64).reshape(-1, 2)
    return DepthCurve(values[:, 0], values[:, 1] / NS_PER_MS, places, n_ctx, n_planned)


def _checked(depths: Iterable[int] | None, n_ctx: int, repeats: int) -> list[int]:
    most = n_ctx - repeats - 1
    if most < 0:
        raise ValueError(f"repeats={repeats}: the context has room for {n_ctx} tokens alone.")
    if depths is None:
        depths = np.linspace(0, most, min(N_DEPTHS, 1 + most // (repeats + 1))).astype(int).tolist()
    given = [whole("a depth", one, 0, most) for one in listed("depths", depths, "ints")]
    known = sorted(given)
    if not known:
        raise ValueError("depths is empty: name some, or None for eight of them.")
    for one, after in pairwise(known):
        if after - one <= repeats:
            raise ValueError(
                f"depths {one} and {after} overlap: at each, repeats={repeats} tokens are timed "
                "after one that is not. Name depths that lie further apart."
            )
    return known


def _n_ctx(trace: Trace) -> int | None:
    """What a sequence of the session that made a trace has room for."""
    options = trace.session_options
    n_ctx = options.get("n_ctx")
    apart = options.get("reproducible", False) or not options.get("kv_unified", True)
    return n_ctx // options.get("n_seq_max", 1) if n_ctx and apart else n_ctx


def _interval(of: Estimate) -> str:
    return f"{of.value:.3g} ({of.low:.3g} to {of.high:.3g})"

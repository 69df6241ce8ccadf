"""What acted on the weights while a text was generated, and what a stale cache did to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.noise_floor import divergence
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import divergence_from_row
from mullama_lab.studies._given_text import GivenText
from mullama_lab.studies.effect.by_token import Effect, made

Span: TypeAlias = tuple[tuple[int, int], Setting]  # steps from one to before another


def effect_in(trace: Trace, *, on: Session) -> Effect:
    """How what acted on the weights changed what the model said at each token of a generation.

        seen = ml.studies.effect.effect_in(session.generate("It was"), on=session)

    It is compared with the model as it is. Both compute the whole text before each token: what went
    on over a stale cache is looked at as if it had not; see `staleness_in`. Of the Effect,
    `changed` is the Setting of the last step.

    Args:
        trace: a Trace; of one that still grows, the steps there are now.
        on: a Session of its model. What is in force in it plays no part.

    Raises:
        ValueError: the trace has no step, or was made with another vocabulary; or as `effect`.
        ContextFull: the text does not fit.
    """
    shown, base = GivenText.of_trace(trace, on), Setting()
    n = len(shown.tokens)
    held, kl, best, logprob = shown.room(), np.zeros(n), np.zeros(n, np.int32), np.zeros(n)
    exact = shown.seen(base, held.__setitem__)
    best[:], logprob[:] = exact

    def compare(step: int, logs: NDArray[np.float64]) -> None:
        kl[step] = divergence(held[step].astype(np.float64), logs)

    tail = dict[int, NDArray[Any]]()
    acting = [one for one in _spans(trace, n) if one[1].steering != base.steering]
    for part, setting in acting:
        steps = slice(*part)
        best[steps], logprob[steps] = shown.seen(setting, compare, part=part, tail=tail)
    longest, setting = max(acting, key=_length, default=((0, n), base))
    floor = shown.floor(setting, tail if acting else held, longest)
    return made(shown, (base, trace.setting_at(n - 1)), kl, exact, (best, logprob), floor)


def staleness_in(trace: Trace, *, on: Session) -> Effect:
    """What it did to a generation that it went on over a cache which other weights had computed.

    That is at the steps `np.flatnonzero(trace.stale)`, whose tokens are those of the Effect. Its
    `base` and `base_logprob` are exact, of the weights that were in force at each step; the others
    are what the trace recorded. Where it kept a part of a row the divergence is at least that, and
    NaN where it kept nothing.

        gap = ml.studies.effect.staleness_in(run.wait(), on=session)
        gap.kl.max(), gap.floor.kl

    Args: as `effect_in`.

    Raises:
        ValueError: no step is stale; or as `effect_in`.
        ContextFull: the text does not fit.
    """
    shown = GivenText.of_trace(trace, on)
    n = len(shown.tokens)
    is_stale = trace.stale
    spans = [(part, setting) for part, setting in _spans(trace, n) if is_stale[part[0]]]
    if not spans:
        raise ValueError(
            "no step of the trace is stale: no weights were changed while it was generated, or "
            "what it had so far was decoded anew."
        )
    kl, best, logprob = np.full(n, np.nan), np.zeros(n, np.int32), np.zeros(n)
    tail = dict[int, NDArray[Any]]()

    def compare(step: int, logs: NDArray[np.float64]) -> None:
        found = divergence_from_row(logs, trace, step)
        kl[step] = np.nan if found is None else found.nats

    for part, setting in spans:
        steps = slice(*part)
        best[steps], logprob[steps] = shown.seen(setting, compare, part=part, tail=tail)
    longest, setting = max(spans, key=_length)
    recorded = trace.top_ids[:n, 0], trace.logprob[:n].astype(np.float64)
    last = trace.setting_at(n - 1)
    floor, at = shown.floor(setting, tail, longest), np.flatnonzero(is_stale[:n])
    return made(shown, (last, last), kl, (best, logprob), recorded, floor, at)


def _length(span: Span) -> int:
    return span[0][1] - span[0][0]


def _spans(trace: Trace, n: int) -> Iterator[Span]:
    """The first n steps of a trace in parts of the same weights, stale or not: (part, Setting)."""
    firsts = [first for first, _ in trace.in_force if first < n]
    for part in zip(firsts, [*firsts[1:], n]):
        yield part, trace.setting_at(part[0])

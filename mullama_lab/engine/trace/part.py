"""A part of a trace, which is a trace too.

A slice knows where it begins, and counts its own steps. A beginning can grow into another trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mullama_lab.engine.trace import arrays as trace_arrays
from mullama_lab.engine.trace.file import FACTS
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.trace.trace import Trace


def sliced(trace: Trace, index: slice) -> Trace:
    """What `trace[a:b]` is; ValueError if it leaves out steps between."""
    n = len(trace)  # it may grow meanwhile
    steps = range(n)[index]
    if steps.step != 1:
        raise ValueError(f"a Trace is cut in runs of steps, not by {brief(index)}: use step 1")
    a, b = steps.start, max(steps.start, steps.stop)
    part = type(trace)(
        prompt_tokens=trace.history(a),
        seed=trace.seed,
        top=trace.top,
        piece=trace._piece_of,
        model_name=trace.model_name,
    )
    part._known_pieces = trace._known_pieces
    for name in FACTS:
        setattr(part, name, getattr(trace, name))
    part._n = b - a
    part.chains = list({max(0, i - a): c for i, c in trace.chains if i < max(b, 1)}.items())
    part._arrays = {name: array[a:b].copy() for name, array in trace._arrays.items()}
    for name in ("pieces", "_n_kept", "_states", "_rows"):
        setattr(part, name, getattr(trace, name)[a:b])
    part._texts = trace._texts.sliced(a, b)
    if part._n < n:
        _count(part, trace, a)
    return part


def begun(
    trace: Trace, n: int, *, top: int, seed: int | None, piece: Callable[[int], bytes] | None
) -> Trace:
    """What `trace.begun(n)` is."""
    other = type(trace)(
        prompt_tokens=trace.prompt_tokens,
        seed=seed,
        top=top,
        piece=piece,
        model_name=trace.model_name,
    )
    other.chains = [entry for entry in trace.chains if entry[0] <= n]
    other._arrays = trace_arrays.begun(trace._arrays, n, top)
    for name in ("pieces", "_n_kept", "_states", "_rows"):
        setattr(other, name, getattr(trace, name)[:n])
    other._texts = trace._texts.begun(n)
    other._row_bytes = sum(row[0].nbytes + row[1].nbytes for row in other._rows if row)
    other._known_pieces = dict(trace._known_pieces)
    other._n = other.n_copied = n
    return other


def _count(part: Trace, trace: Trace, a: int) -> None:
    """Give a part that begins at step `a` its own counts and times."""
    part.first_step = trace.first_step + a
    part.n_copied = min(max(0, trace.n_copied - a), part._n)
    drawn = slice(part.n_copied, part._n)
    spent = [part._arrays[n][drawn] for n in ("decode_ns", "sample_ns", "constraint_ns")]
    seconds: list[float] = (np.sum(spent, axis=0) / 1e9).tolist()
    if a:
        part.n_prompt_decoded = part.n_prompt_reused = 0
        part.prompt_seconds = 0.0
    if a > trace.n_copied or trace.seconds_to_first_token is None:
        part.seconds_to_first_token = seconds[0] if seconds else None
    part.seconds = (part.seconds_to_first_token or 0.0) + sum(seconds[1:])

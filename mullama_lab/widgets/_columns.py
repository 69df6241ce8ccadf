"""Steps of a Trace as the binary columns of a message, and one step in full.

The order of the buffers is the one `tokenColumns` reads, in `widgets/token_strip_columns.js`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.stages.named_tokens import named_in_brief
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.step import Step

NS_PER_MS = 1e6


def steps(trace: Trace, start: int, stop: int) -> list[bytes]:
    """token, logprob, entropy, rank, milliseconds, ahead, stale, sizes of pieces, their bytes."""
    cut = slice(start, stop)  # cut first: the trace may grow between two lines
    times = (trace.decode_ns, trace.sample_ns, trace.constraint_ns, trace.capture_ns)
    spent = np.sum([column[cut] for column in times], axis=0) / NS_PER_MS
    numbers = (
        (trace.tokens[cut], "<i4"),
        (trace.logprob[cut], "<f4"),
        (trace.entropy[cut], "<f4"),
        (trace.rank[cut], "<i4"),
        (spent, "<f4"),
        (trace.ahead[cut], "u1"),
        (trace.stale[cut], "u1"),
    )
    columns = [column.astype(kind).tobytes() for column, kind in numbers]
    return [*columns, *pieces(trace.pieces[cut])]


def aside(numbers: Sequence[NDArray[np.float64]], texts: Sequence[bytes]) -> list[bytes]:
    """What a layer shows that comes aside: its numbers, the sizes of pieces, their bytes.

    In the order of `takes` in `LAYERS` there.
    """
    return [*(column.astype("<f4").tobytes() for column in numbers), *pieces(texts)]


def pieces(texts: Sequence[bytes]) -> list[bytes]:
    """The sizes of some byte strings (int32), then their bytes, joined."""
    sizes = np.array([len(text) for text in texts], "<i4")
    return [sizes.tobytes(), b"".join(texts)]


def details(trace: Trace, index: int) -> dict[str, Any]:
    """All that is recorded of one step, as plain values; what is not known is None."""
    step = trace[index]
    return {
        "step": index,
        "token": step.token,
        "hex": step.piece.hex(),
        "p": _probability(step.logprob),
        "after": _probability(step.logprob_after),
        "forced": bool(step.forced),
        "ahead": bool(step.ahead),
        "stale": bool(trace.stale[index]),
        "rank": step.rank if step.rank >= 0 else None,
        "entropy": _number(step.entropy),
        "remaining": _number(step.remaining_mass),
        "top": _alternatives(step),
        "stages": [[named_in_brief(stage, trace.piece), kept] for stage, kept in _survivors(step)],
        "ms": {
            "decode": step.decode_ns / NS_PER_MS,
            "sample": step.sample_ns / NS_PER_MS,
            "constraint": step.constraint_ns / NS_PER_MS,
            "capture": step.capture_ns / NS_PER_MS,
        },
    }


def _alternatives(step: Step) -> list[dict[str, Any]]:
    after = {token: logprob for token, _, logprob in step.after}
    n_left = step.n_kept[-1] if step.n_kept else None
    # Only a list that holds all survivors can say that a token is not among them.
    gone = 0.0 if n_left is not None and n_left <= len(after) else None
    return [
        {
            "token": token,
            "hex": piece.hex(),
            "p": _probability(logprob),
            "after": _probability(after[token]) if token in after else gone,
        }
        for token, piece, logprob in step.top
    ]


def _survivors(step: Step) -> list[tuple[Any, int | None]]:
    kept = [n if n >= 0 else None for n in step.n_kept]
    stages = list(step.chain.stages)
    return list(zip(stages, [*kept, *[None] * len(stages)], strict=False))


def _probability(logprob: float) -> float | None:
    return None if math.isnan(logprob) else float(f"{math.exp(min(0.0, logprob)):.6g}")


def _number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None

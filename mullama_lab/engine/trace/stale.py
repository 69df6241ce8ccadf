"""Which steps of a trace are stale: made over what other weights had left in the cache.

What views say of it in Python is said in the words of this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mullama_lab.counted import counted

if TYPE_CHECKING:
    from mullama_lab.engine.trace.trace import Trace

STALE = "stale"


def stale_spans(trace: Trace) -> list[tuple[int, int]]:
    """The stale steps there are now, as (the first, the one after the last), in order."""
    n, spans = len(trace), list[tuple[int, int]]()
    firsts = [first for first, _ in trace.in_force]
    for (first, one), stop in zip(trace.in_force, [*firsts[1:], n]):
        if not one.stale or first >= min(stop, n):
            continue
        begin = spans.pop()[0] if spans and spans[-1][1] == first else first
        spans.append((begin, min(stop, n)))
    return spans


def is_stale_at(trace: Trace, start: int, stop: int | None = None) -> bool:
    """Whether a step is stale, or any from one to before another."""
    stop = start + 1 if stop is None else stop
    return any(first < stop and start < end for first, end in stale_spans(trace))


def stale_words(trace: Trace) -> str:
    """The same in words: "stale from step 6 on"; "" where no step is."""
    spans, n = stale_spans(trace), len(trace)
    if not spans:
        return ""
    begin, stop = spans[0]
    if stop == n:
        return f"{STALE} from step {begin} on"
    n_stale = sum(stop - begin for begin, stop in spans)
    return f"{STALE} in {counted(n_stale, 'step')}, from step {begin}"

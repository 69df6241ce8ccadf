"""What decoding takes in a session: measured on its thread, beside its cache.

What is measured is decoded in a context of its own, opened as the session's was and with what acts
on the weights there: the session stays as it was, and a session that is never asked pays nothing.
Meanwhile nothing else is done in the session; `session.stop()` and Ctrl-C end it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mullama_lab.engine.bar import bar
from mullama_lab.engine.cache import Cache, Portion
from mullama_lab.engine.loop.scheduler import SequenceJob
from mullama_lab.engine.native.context import Counters, counters
from mullama_lab.engine.native.nodes import Node, NodeTimes
from mullama_lab.engine.session.checks import must_fit_memory
from mullama_lab.engine.session.opening import open_cache
from mullama_lab.engine.session.settings import Settings
from mullama_lab.engine.work import Job
from mullama_lab.errors import DecodeError

if TYPE_CHECKING:
    from mullama_lab.engine.session.session import Session

Decoded = Callable[[int, int], object]  # (tokens that were in the cache, nanoseconds)


def llama_counters(session: Session) -> Counters:
    """llama.cpp's own counters of a session's context, since it was opened."""
    session.must_be_open()
    job = Job(lambda: counters(session._cache.handle), session)
    session._worker.submit(job)
    return job.result_or_stop()


def decode_at_depths(
    session: Session, depths: Sequence[int], n_each: int, visit: Decoded, *, progress: bool
) -> None:
    """Call `visit` for each of `n_each` tokens that are decoded one by one at each depth.

    A cache that is filled with chance tokens up to a depth decodes one token more before it is
    timed: the first after a batch lays out its graph anew.

    Args:
        depths: tokens in the cache, in rising order, with room for `n_each` tokens and one more.

    Raises:
        ValueError: its context would not fit in memory.
        Stopped: by another thread; `visit` has had what was measured.
    """
    n_ctx = depths[-1] + n_each + 1
    tokens = np.random.default_rng(0).integers(0, session.model.n_vocab, n_ctx).tolist()
    done = [0]

    def measure() -> None:
        with _own_cache(session, n_ctx) as cache:
            for depth in depths:
                _fill(cache, tokens[done[0] : depth], done)
                for timed in [False] + [True] * n_each:
                    n = done[0]
                    _decode(cache, tokens[n : n + 1], done)
                    if timed:
                        visit(n, cache.decode_ns)

    _do(session, measure, n_ctx, done, progress)


class NodeRuns:
    """Decodes of one token, left alone and with their nodes timed.

    Attributes:
        bare_ns: what each decode took in a context without a callback.
        timed_ns: what each took whose nodes were timed.
        nodes: of each of those; the same ones in the same order.
    """

    def __init__(self) -> None:
        self.bare_ns: list[int] = []
        self.timed_ns: list[int] = []
        self.nodes: list[list[Node]] = []


def time_nodes(
    session: Session, tokens: Sequence[int], repeats: int, *, progress: bool
) -> NodeRuns:
    """Decode the last token of a text again and again, in turns left alone and node by node.

    Raises:
        Stopped: by another thread.
        ValueError: its contexts would not fit in memory.
        DecodeError: llama.cpp shows no nodes here, or others each time.
    """
    times, found, done = NodeTimes(), NodeRuns(), [0]
    before, last = list(tokens[:-1]), list(tokens[-1:])

    def measure() -> None:
        with (
            _own_cache(session, len(tokens)) as bare,
            _own_cache(session, len(tokens), on_tensor=times.callback.native) as shown,
        ):
            for is_first in [True] + [False] * repeats:  # which lays out its graph
                for cache in (bare, shown):
                    _rewind(cache, before, done)
                _decode(bare, last, done)
                times.nodes, times.on = [], True
                try:
                    _decode(shown, last, done)
                finally:
                    times.on = False
                    times.callback.raise_error()
                if not is_first:
                    found.bare_ns.append(bare.decode_ns)
                    found.timed_ns.append(shown.decode_ns)
                    found.nodes.append(times.nodes)

    _do(session, measure, 2 * (len(tokens) + repeats), done, progress)
    kinds = {tuple((node.name, node.operation) for node in nodes) for nodes in found.nodes}
    if kinds == {()} or len(kinds) > 1:
        raise DecodeError("llama.cpp does not show the same nodes in each decode of this model.")
    return found


@contextmanager
def _own_cache(session: Session, n_ctx: int, *, on_tensor: Any = None) -> Iterator[Cache]:
    """A cache like the session's for one sequence; on the session's thread."""
    model, known = session.model, Settings(**session.settings)
    n_batch = min(known.n_batch, n_ctx)
    settings = replace(
        known, n_ctx=n_ctx, n_seq_max=1, n_batch=n_batch, n_ubatch=min(known.n_ubatch, n_batch)
    )
    must_fit_memory(model, settings)
    cache = open_cache(model, settings, session._cache.stop, on_tensor=on_tensor)
    try:
        cache.sequences.use(0)
        cache.put_in_force(session._cache.weights)
        yield cache
    finally:
        cache.close()


def _do(
    session: Session, measure: Callable[[], None], total: int, done: list[int], progress: bool
) -> None:
    """Do it on the session's thread, when nothing else is at work there."""
    session.must_be_open()
    job = SequenceJob(measure, session)
    session._worker.submit(job)
    job.result_beside(bar("measure", total, " tokens", shown=progress), lambda: done[0])


def _rewind(cache: Cache, tokens: Sequence[int], done: list[int]) -> None:
    """Have a cache hold these tokens, which it holds with more after them, or none of them."""
    held = len(cache.sequences[0].text)
    n = cache.cut(0, min(held, len(tokens)))
    _fill(cache, tokens[n:], done)


def _fill(cache: Cache, tokens: Sequence[int], done: list[int]) -> None:
    """Add tokens to a cache in batches; no row is wanted of them."""
    size = cache.batch.capacity
    for first in range(0, len(tokens), size):
        _decode(cache, tokens[first : first + size], done, wanted=False)


def _decode(cache: Cache, tokens: Sequence[int], done: list[int], *, wanted: bool = True) -> None:
    cache.decode([Portion(0, list(tokens), generated=False, wanted=wanted)])
    done[0] += len(tokens)

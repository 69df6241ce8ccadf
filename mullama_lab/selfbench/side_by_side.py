"""What it costs that texts join a batch at any time, and that results depend on nothing else."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.selfbench.table import Row
from mullama_lab.selfbench.turns import in_turns_afresh, speeds

N_TEXTS = 8
PROMPT = "Once upon a time, in a small town by the sea, there lived a fisherman who"
SHORT, LONG = 16, 64  # tokens of a text
PAIRS = 7
TRIES = 5


def rows(model: Model) -> Iterator[Row]:
    """All figures of one model."""
    yield _joining(model)
    yield _arrivals(model)
    yield _reproducible(model, 1, "one text")
    yield _reproducible(model, N_TEXTS, f"{N_TEXTS} texts at once")


def _joining(model: Model) -> Row:
    """Batches from asking to the first token of a text that joins seven, beyond its own prompt."""
    found = []
    with model.session(n_ctx=2048) as session:
        for attempt in range(TRIES):
            runs = session.start_many(PROMPT, max_tokens=200, seeds=range(N_TEXTS - 1))
            while not all(len(run.trace) > 3 for run in runs):
                time.sleep(0.01)
            late = session.start(f"{attempt} {PROMPT}", max_tokens=2)
            before = session.ledger.batches
            late.step_or_end(0)
            found.append(session.ledger.batches - before)
            runs.stop()
            runs.wait()
            late.wait()
            session.reset()
    n_pieces = 2  # all but the last token of such a prompt, and that
    beyond = statistics.median(found) - n_pieces
    return Row(
        f"{model.source}: batches from joining seven texts to the first token, but the prompt's",
        f"{beyond:g}",
        value=beyond,
        target=2,
    )


def _arrivals(model: Model) -> Row:
    """Texts of different lengths that come at random, against as many that begin together."""
    chance = random.Random(1)
    lengths = [chance.randint(SHORT, LONG) for _ in range(3 * N_TEXTS)]

    @contextmanager
    def at_random() -> Iterator[Callable[[], float]]:
        with _session(model) as session:
            yield lambda: _speed(session, lengths)

    @contextmanager
    def together() -> Iterator[Callable[[], float]]:
        with _session(model) as session:
            yield lambda: _speed(session, [(SHORT + LONG) // 2] * N_TEXTS)

    what = (
        f"{model.source}: {N_TEXTS} lanes whose texts come and go against {N_TEXTS} that begin "
        "together, tokens/s"
    )
    return speeds(what, in_turns_afresh(PAIRS, at_random, together), 0.95)


def _session(model: Model) -> Session:
    return model.session(n_ctx=2048, n_seq_max=N_TEXTS)


def _speed(session: Session, lengths: list[int]) -> float:
    """Tokens a second while every lane has a text: the last ones to end are not counted."""
    session.reset()
    runs = [
        session.start(PROMPT, max_tokens=n, seed=seed, stop=()) for seed, n in enumerate(lengths)
    ]
    start = time.perf_counter()
    while sum(run.done for run in runs) < max(1, len(runs) - N_TEXTS + 1):
        time.sleep(0.005)
    n = sum(len(run.trace) for run in runs)
    spent = time.perf_counter() - start
    for run in runs:
        run.stop()
    for run in runs:
        run.wait()
    return n / spent


def _reproducible(model: Model, n: int, told: str) -> Row:
    """What `reproducible=True` costs."""

    @contextmanager
    def opened(*, reproducible: bool) -> Iterator[Callable[[], float]]:
        with model.session(n_ctx=256 * n, n_seq_max=n, reproducible=reproducible) as session:
            yield lambda: _many(session, n)

    pairs = in_turns_afresh(
        PAIRS, lambda: opened(reproducible=True), lambda: opened(reproducible=False)
    )
    return speeds(f"{model.source}: reproducible=True against False, {told}, tokens/s", pairs)


def _many(session: Session, n: int) -> float:
    session.reset()
    start = time.perf_counter()
    traces = session.generate_many(PROMPT, max_tokens=32, seeds=range(n))
    return sum(map(len, traces)) / (time.perf_counter() - start)

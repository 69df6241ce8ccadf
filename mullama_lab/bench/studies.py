"""How long the studies of a finished generation take: a slider waits for them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from mullama_lab.bench.table import Row
from mullama_lab.engine.chain import Chain, Stage
from mullama_lab.engine.model import Model
from mullama_lab.engine.samplers import MinP, Penalties, Temperature, TopK, TopP
from mullama_lab.engine.trace import Trace
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.replay import replay, stage_effects

PROMPT = "Once upon a time, in a small town by the sea, there lived"
N_TOKENS = 128
TURNED = TopK(40) | TopP(0.95) | MinP(0.05) | Temperature(1.2)


def rows(model: Model) -> Iterator[Row]:
    """Replays of 128 tokens, from what the trace kept, and what is made of many of them."""
    with model.session(n_ctx=1024) as session:
        # Hot enough that no text this short ends by itself.
        trace = session.generate(PROMPT, Temperature(1.0), max_tokens=N_TOKENS, seed=1)
        for seed in range(2, 20):
            if len(trace) == N_TOKENS:
                break
            trace = session.generate(PROMPT, Temperature(1.0), max_tokens=N_TOKENS, seed=seed)
    small = model.n_vocab < 100_000
    yield _replay(model, trace, TURNED, 30 if small else None)
    yield _replay(model, trace, Penalties(repeat=1.1) | TURNED, None)
    effects = _milliseconds(lambda: stage_effects(trace, TURNED, on=model, allow_unknown=True))
    yield _row(model, f"what each stage of {TURNED!r} changed", effects, None)
    flips = _milliseconds(lambda: flip_map(trace, Temperature, on=model, chain=TURNED), 1)
    yield _row(model, "flip map of the temperature", flips, None)


def _replay(model: Model, trace: Trace, chain: Chain | Stage, target: float | None) -> Row:
    spent = _milliseconds(lambda: replay(trace, chain, on=model, allow_unknown=True))
    return _row(model, f"replay under {chain!r}", spent, target)


def _row(model: Model, what: str, milliseconds: float, target: float | None) -> Row:
    told = f"{model.source}: {N_TOKENS} tokens, {what}, ms"
    return Row(told, f"{milliseconds:.1f}", value=milliseconds, target=target)


def _milliseconds(work: Callable[[], object], times: int = 7) -> float:
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return 1e3 * statistics.median(spent)

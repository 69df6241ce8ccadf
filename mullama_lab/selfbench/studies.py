"""How long studies take: of a finished generation, for which a slider waits, and of many texts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence

from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain, MinP, Penalties, Stage, Temperature, TopK, TopP
from mullama_lab.engine.trace import Trace
from mullama_lab.selfbench.table import Row
from mullama_lab.studies.explore import explore
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.replay import replay, stage_effects
from mullama_lab.studies.seeds import seed_fan
from mullama_lab.studies.sweeps import grid, sweep

PROMPT = "Once upon a time, in a small town by the sea, there lived"
N_TOKENS = 128
TURNED = TopK(40) | TopP(0.95) | MinP(0.05) | Temperature(1.2)
N_SEEDS = 32
N_EACH = 32  # tokens of a run
N_ALONE = 8  # of the seeds, one by one
N_SWEPT = 16
BUDGET = 64
PROMPTS = (PROMPT, "The capital of France is")


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
    with model.session(n_ctx=2048, n_seq_max=N_SEEDS) as session:
        yield _seeds(session)
        yield from _exploring(session)
        yield _sweep(session)


def _seeds(session: Session) -> Row:
    """Many seeds in one batch, against one run after another, each begun on the same prompt."""

    def together() -> int:
        fan = seed_fan(
            PROMPT, TURNED, on=session, seeds=range(N_SEEDS), max_tokens=N_EACH, progress=False
        )
        return sum(map(len, fan.traces))

    what = f"{N_SEEDS} seeds of {N_EACH} tokens at once against one by one, tokens/s"
    alone = [(PROMPT, TURNED, seed) for seed in range(N_ALONE)]
    return _beside(session, what, together, alone, N_EACH)


def _exploring(session: Session) -> Iterator[Row]:
    """The likeliest continuations: how fast they are found, and what that costs."""
    session.logits(PROMPT)
    before, start = session.ledger, time.perf_counter()
    found = explore(PROMPT, on=session, budget=BUDGET, at_once=8, progress=False)
    seconds = time.perf_counter() - start
    decoded = (session.ledger - before).decoded
    told = f"{session.model.source}: exploring {found.n_expanded} prefixes"
    yield Row(f"{told}, likeliest paths found a second", f"{len(found) / seconds:.1f}")
    yield Row(f"{told}, tokens decoded", str(decoded))


def _sweep(session: Session) -> Row:
    """Chains by prompts by seeds, several in a batch, against one run after another."""
    chains = grid(TURNED, temperature=[0.5, 1.0], top_k=[20, 40])

    def together() -> int:
        table = sweep(
            PROMPTS, chains, on=session, seeds=range(2), max_tokens=N_SWEPT, progress=False
        )
        return int(table["n_tokens"].sum())

    runs = [(prompt, chain, seed) for prompt in PROMPTS for chain in chains for seed in range(2)]
    what = f"a sweep of {len(runs)} runs of {N_SWEPT} tokens against one by one, tokens/s"
    return _beside(session, what, together, runs, N_SWEPT)


def _beside(
    session: Session,
    what: str,
    together: Callable[[], int],
    alone: Sequence[tuple[str, Chain, int]],
    max_tokens: int,
) -> Row:
    """Tokens a second of a study, and of runs one by one, half of them before it and half after."""

    def one_by_one(runs: Sequence[tuple[str, Chain, int]]) -> int:
        return sum(
            len(session.generate(prompt, chain, max_tokens=max_tokens, seed=seed))
            for prompt, chain, seed in runs
        )

    half = len(alone) // 2
    first, ours, last = (
        _rate(work)
        for work in (lambda: one_by_one(alone[:half]), together, lambda: one_by_one(alone[half:]))
    )
    peer = statistics.harmonic_mean([first, last])
    return Row(f"{session.model.source}: {what}", f"{ours:.0f}", f"{peer:.0f}", ours / peer)


def _rate(work: Callable[[], int]) -> float:
    start = time.perf_counter()
    n = work()
    return n / (time.perf_counter() - start)


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

"""What sequences cost: forks, branches, many texts in one batch, and a session in a file."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mullama_lab.engine.model import Model
from mullama_lab.engine.native import context as native
from mullama_lab.engine.native.batch import Batch
from mullama_lab.engine.session import Session
from mullama_lab.engine.trace import Trace
from mullama_lab.selfbench.table import Row
from mullama_lab.selfbench.turns import in_turns_afresh, speeds

PROMPT = "Once upon a time, in a small town by the sea, there lived"
N_SEQUENCES = 8
N_PREFIX = 512
N_TOKENS = 20
N_WARM = 2  # tokens of a fresh context that are not counted
PAIRS = 25  # of one the ratio scatters by several per cent


def rows(model: Model) -> Iterator[Row]:
    """All figures of one model."""
    with model.session(n_ctx=2048, n_seq_max=N_SEQUENCES + 1) as session:
        yield _forks(model, session)
        yield _branch(model, session)
        yield from _file(model, session)
    yield _side_by_side(model)


def _forks(model: Model, session: Session) -> Row:
    """Eight branches off the end of a long prefix: tokens decoded before their own ones."""
    session.logits(_prefix(model))
    before = session.ledger
    for _ in range(N_SEQUENCES):
        session.fork()
    decoded = (session.ledger - before).decoded
    for sequence in list(session.sequences)[1:]:
        session.remove(sequence)
    return Row(
        f"{model.source}: prefix tokens decoded by {N_SEQUENCES} forks of {N_PREFIX} tokens",
        str(decoded),
        value=decoded,
        target=0,
    )


def _branch(model: Model, session: Session) -> Row:
    """What going on from another token costs, on a trace with a long prompt."""
    trace = session.generate(_prefix(model), max_tokens=8, seed=1)
    ids = trace.top_ids[3]
    others = [int(token) for token in ids if token != trace.tokens[3]]
    costs = []
    for token in others[:N_SEQUENCES]:
        before = session.ledger
        session.branch(trace, 3, token, max_tokens=0)
        costs.append((session.ledger - before).decoded)
    return Row(
        f"{model.source}: tokens decoded by each of {len(costs)} branches, the most",
        str(max(costs)),
        value=max(costs),
        target=1,
    )


def _file(model: Model, session: Session) -> Iterator[Row]:
    """A session of a long prefix and its branches, written and read."""
    cells = session.n_cells
    with tempfile.TemporaryDirectory(prefix="mullama-bench-") as folder:
        path = Path(folder) / "bench.safetensors"
        saved = [session.save(path) for _ in range(3)]
        loaded = []
        for _ in range(3):
            start = time.perf_counter()
            with Session.load(path, model) as other:
                loaded.append(time.perf_counter() - start)
                if {k: v.tolist() for k, v in other.sequences.items()} != {
                    k: v.tolist() for k, v in session.sequences.items()
                }:
                    raise RuntimeError("the session that was loaded has other tokens")
    told = f"{model.source}: a session of {cells} cells"
    yield Row(f"{told}, size of its file, MB", f"{saved[0].size_bytes / 1e6:.1f}")
    seconds = statistics.median(s.seconds for s in saved)
    yield Row(f"{told}, to save it, ms", f"{1e3 * seconds:.0f}")
    prefill = _prefill_seconds(model, session)
    ratio = statistics.median(loaded) / prefill
    yield Row(
        f"{told}, to load it against decoding its longest sequence, ms",
        f"{1e3 * statistics.median(loaded):.0f}",
        f"{1e3 * prefill:.0f}",
        ratio,
    )


def _prefill_seconds(model: Model, session: Session) -> float:
    tokens = max(session.sequences.values(), key=len)
    with model.session(n_ctx=2048) as other:
        other.logits(tokens[:8])
        start = time.perf_counter()
        other.logits(tokens)
        return time.perf_counter() - start


def _side_by_side(model: Model) -> Row:
    """Eight texts at once, each step recorded, against `llama_decode` with the same batches."""
    prompt = model.tokenize(PROMPT)
    with _session_for_all(model) as session:
        traces, n_threads = _generated(session, prompt, N_TOKENS), session.n_threads
    beginnings = [trace[:N_WARM] for trace in traces]

    @contextmanager
    def ours() -> Iterator[Callable[[], float]]:
        with _session_for_all(model) as session:
            _generated(session, prompt, N_WARM)
            yield lambda: _speed(lambda: _generated(session, prompt, N_TOKENS))

    @contextmanager
    def peer() -> Iterator[Callable[[], float]]:
        with _Bare(model, n_threads) as bare:
            bare.decode_all(prompt, beginnings)
            yield lambda: _speed(lambda: bare.decode_all(prompt, traces))

    what = f"{model.source}: {N_SEQUENCES} sequences at once against bare llama_decode, tokens/s"
    return speeds(what, in_turns_afresh(PAIRS, ours, peer), 0.95)


def _session_for_all(model: Model) -> Session:
    return model.session(n_ctx=1024, n_seq_max=N_SEQUENCES)


def _generated(session: Session, prompt: Sequence[int], n: int) -> Sequence[Trace]:
    session.reset()
    return session.generate_many(prompt, max_tokens=n, seeds=range(100, 100 + N_SEQUENCES))


def _speed(work: Callable[[], Sequence[Trace]]) -> float:
    """Tokens a second, in all texts."""
    start = time.perf_counter()
    traces = work()
    return sum(map(len, traces)) / (time.perf_counter() - start)


def _prefix(model: Model) -> list[int]:
    return (model.tokenize(PROMPT) * N_PREFIX)[:N_PREFIX]


class _Bare:
    """A context of its own, and nothing but `llama_decode` on the tokens of finished traces."""

    def __init__(self, model: Model, n_threads: int) -> None:
        self._stop = native.StopFlag()  # llama.cpp looks at it as long as there is a context
        self._handle: Any = native.new_context(
            model._handle,
            n_ctx=1024,
            n_batch=512,
            n_ubatch=512,
            n_threads=n_threads,
            n_seq_max=N_SEQUENCES,
            flash_attention="auto",
            kv_types=("f16", "f16"),
            kv_unified=True,
            stop=self._stop,
        )
        self._batch = Batch(512)

    def __enter__(self) -> _Bare:
        return self

    def __exit__(self, *_: object) -> None:
        native.free_context(self._handle)

    def decode_all(self, prompt: Sequence[int], traces: Sequence[Trace]) -> Sequence[Trace]:
        """Once more the batches that made these traces: the prompt and its last token, one each."""
        handle, batch, n = self._handle, self._batch, len(prompt)
        texts = [trace.tokens.tolist() for trace in traces]
        native.clear_memory(handle)
        for start, stop in ((0, n - 1), (n - 1, n)):
            size = stop - start
            batch.token[:size], batch.pos[:size] = prompt[start:stop], np.arange(start, stop)
            batch.seq[:size], batch.wanted[:size] = 0, stop == n
            self._decode(size)
        for sequence in range(1, len(texts)):
            native.copy_sequence(handle, 0, sequence, n)
        for step in range(max(map(len, texts)) - 1):
            alive = [k for k, text in enumerate(texts) if len(text) > step + 1]
            size = len(alive)
            batch.token[:size] = [texts[k][step] for k in alive]
            batch.seq[:size], batch.pos[:size], batch.wanted[:size] = alive, n + step, 1
            self._decode(size)
        return traces

    def _decode(self, n: int) -> None:
        if not self._batch.decode(self._handle, n):
            raise RuntimeError("llama_decode was stopped")

"""How fast one query is scored against many documents, beside maxsim-cpu, on the same arrays.

Every row first checks that both give the same scores. maxsim-cpu knows float32 only, so float16
and int8 stand beside its float32; where its scores are wrong (0.1.0 above 128 dimensions, where
it lacks a BLAS) it has no figure. What the machine's matrix product (numpy's sgemm) reaches is
measured in between, in the same run.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.multivector import maxsim
from mullama_lab.engine.multivector.maxsim import Ragged
from mullama_lab.selfbench.table import Row
from mullama_lab.selfbench.turns import in_turns

N_QUERY = 32
N_TOKENS = 128  # of a document
ROUNDS = 11
SQUARE = 1536  # of the matrices whose product is the peak
ROUNDING = 2e-4  # of a score; float32 sums of 32 products of unit vectors
STORING = 0.05  # of a score, where documents are kept as float16 or int8

# In a process of its own, as wrong memory may also end the process.
IS_RIGHT = """
import sys, numpy as np, maxsim_cpu
vectors = np.random.default_rng(0).standard_normal((40, 32, {dim}), dtype=np.float32)
vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
right = (vectors[0] @ vectors.transpose(0, 2, 1)).max(axis=2).sum(axis=1)
found = maxsim_cpu.maxsim_scores(vectors[0], vectors)
sys.exit(not np.allclose(found, right, atol=1e-3))
"""

Call = Callable[[], Any]


def rows() -> Iterator[Row]:
    """Scoring: equal lengths, the share of the peak, mixed lengths, other widths and storage."""
    rng = np.random.default_rng(7)
    query, documents = _unit(rng, (N_QUERY, 128)), _unit(rng, (10_000, N_TOKENS, 128))
    yield from _equal_lengths(query, documents)
    yield from _stored(query, documents)
    del documents
    yield _mixed_lengths(rng)
    for dim, n in ((96, 10_000), (384, 3_000)):
        query, documents = _unit(rng, (N_QUERY, dim)), _unit(rng, (n, N_TOKENS, dim))
        yield from _equal_lengths(query, documents)


def _equal_lengths(query: NDArray[np.float32], documents: NDArray[np.float32]) -> Iterator[Row]:
    n, n_tokens, dim = documents.shape
    ragged = _ragged(documents)
    square = _unit(np.random.default_rng(8), (SQUARE, SQUARE))
    peer = _peer("maxsim_scores", query, documents)
    some = documents[:100]
    _must_be_equal(maxsim.scores(query, ragged)[:100], _plainly(query, some), ROUNDING)
    ours, theirs, product = _rounds(
        lambda: maxsim.scores(query, ragged), peer, lambda: square @ square
    )
    what = f"MaxSim of {N_QUERY} tokens, {n} documents of {n_tokens} x {dim}"
    yield _against(f"{what}, ms", ours, theirs, target=2.0)
    work = 2 * N_QUERY * documents.size
    peak = [2 * SQUARE**3 / seconds / 1e9 for seconds in product]
    reached = [work / seconds / 1e9 for seconds in ours]
    yield Row(
        f"{what}, GFLOP/s; numpy's sgemm",
        f"{statistics.median(reached):.0f}",
        f"{statistics.median(peak):.0f}",
        statistics.median(a / b for a, b in zip(reached, peak)),
        0.5,
        at_least=True,
    )


def _stored(query: NDArray[np.float32], documents: NDArray[np.float32]) -> Iterator[Row]:
    exact = _ragged(documents)
    peer = _peer("maxsim_scores", query, documents)
    scales = np.abs(exact.vectors).max(axis=1) / np.float32(127)
    codes = np.rint(exact.vectors / scales[:, None]).astype(np.int8)
    for name, ragged in (
        ("float16", Ragged(exact.vectors.astype(np.float16), exact.offsets)),
        ("int8", Ragged(codes, exact.offsets, scales)),
    ):
        some = range(50)  # what is stored is scored exactly as what is read back
        read = [ragged.document(i) for i in some]
        _must_be_equal(maxsim.scores(query, ragged)[some], maxsim.scores(query, read), 0.0)
        ours, theirs, _ = _rounds(
            lambda kept=ragged: maxsim.scores(query, kept), peer, tolerance=STORING
        )
        yield _against(f"the same, kept as {name}, ms", ours, theirs)


def _mixed_lengths(rng: np.random.Generator) -> Row:
    lengths = rng.integers(8, 249, 10_000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    vectors, query = _unit(rng, (int(offsets[-1]), 128)), _unit(rng, (N_QUERY, 128))
    ragged = Ragged(vectors, offsets)
    documents = [ragged.document(i) for i in range(len(ragged))]
    ours, theirs, _ = _rounds(
        lambda: maxsim.scores(query, ragged),
        _peer("maxsim_scores_variable", query, documents),
    )
    return _against("MaxSim of 32 tokens, 10000 documents of 8 to 248 x 128, ms", ours, theirs, 2.0)


def _against(what: str, ours: list[float], theirs: list[float], target: float | None = None) -> Row:
    told = f"{1e3 * statistics.median(ours):.1f}"
    if not theirs:
        return Row(f"{what}; no maxsim-cpu", told)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs))
    peer = f"{1e3 * statistics.median(theirs):.1f}"
    return Row(f"{what}; maxsim-cpu", told, peer, ratio, target, at_least=True)


def _rounds(
    ours: Call, peer: Call | None, product: Call | None = None, *, tolerance: float = ROUNDING
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of each, taken in turns; none of what is not there."""
    scores = ours()
    if peer is not None:
        _must_be_equal(scores, peer(), tolerance)
    calls = [ours, peer, product]
    spent = in_turns(ROUNDS, *(partial(_seconds, call) for call in calls if call is not None))
    columns = iter(zip(*spent))
    first, second, third = ([] if call is None else list(next(columns)) for call in calls)
    return first, second, third


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _must_be_equal(
    ours: NDArray[np.floating[Any]], theirs: NDArray[np.floating[Any]], tolerance: float
) -> None:
    largest = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    if not largest <= tolerance:
        raise RuntimeError(f"the scores differ by {largest}; at most {tolerance} is allowed")


def _peer(function: str, query: NDArray[np.float32], documents: Any) -> Call | None:
    if importlib.util.find_spec("maxsim_cpu") is None:
        return None
    command = [sys.executable, "-c", IS_RIGHT.format(dim=query.shape[1])]
    if subprocess.run(command, capture_output=True).returncode:
        return None
    score = getattr(importlib.import_module("maxsim_cpu"), function)
    return lambda: score(query, documents)


def _plainly(query: NDArray[np.float32], documents: NDArray[np.float32]) -> NDArray[np.float64]:
    """MaxSim as it is written down, in double precision."""
    return (query.astype(float) @ documents.transpose(0, 2, 1)).max(axis=2).sum(axis=1)


def _ragged(documents: NDArray[np.float32]) -> Ragged:
    n, n_tokens, dim = documents.shape
    return Ragged(documents.reshape(-1, dim), np.arange(n + 1) * n_tokens)


def _unit(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    vectors = rng.standard_normal(shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors

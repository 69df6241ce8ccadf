"""MaxSim: how well a document answers a query, token by token (late interaction).

Each query token finds the document token most similar to it; the score is the sum of these
similarities. So a score comes apart into what each query token adds, and adding that up in order
gives the score again, to the last bit: every score here is `total` of contributions.

Texts are MultiVectors or arrays of their vectors. Similarity is the dot product: the cosine where
vectors have length 1. With numba installed one pass over the documents does it all
(`maxsim_compiled`), without it matrix products do (`maxsim_numpy`).

Source: Khattab and Zaharia 2020, ColBERT, arXiv:2004.12832.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mullama_lab.engine.multivector import maxsim_numpy
from mullama_lab.engine.multivector.multivector import MultiVector
from mullama_lab.engine.multivector.ragged import Chosen, Listed, Ragged, check_dims, vectors_of
from mullama_lab.engine.options import one_of, whole

ScoreKind: TypeAlias = Literal["maxsim", "normalized", "symmetric"]
Tokens: TypeAlias = MultiVector | NDArray[Any]
Documents: TypeAlias = Sequence[Tokens] | Ragged
Run: TypeAlias = Callable[[int, int], object]

KINDS: tuple[ScoreKind, ...] = ("maxsim", "normalized", "symmetric")
SMALL = 1 << 22  # multiplications that are not worth a second thread
PARTS = 8  # of the documents, for each thread


@functools.cache
def compiled() -> ModuleType | None:
    """The compiled half, or None where numba is not installed."""
    if importlib.util.find_spec("numba") is None:
        return None
    from mullama_lab.engine.multivector import maxsim_compiled

    return maxsim_compiled


def total(contributions: NDArray[Any] | Sequence[float]) -> float:
    """Add contributions up, first to last, in double precision. All scores are added up so.

    >>> total([0.5, 0.25, 0.125])
    0.875
    """
    score = 0.0
    for value in np.asarray(contributions).tolist():
        score += value
    return score


def totals(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """`total` of each column of a (n_query, n_documents) table, as float32."""
    score = np.zeros(table.shape[1])
    for row in table:
        score += row
    return score.astype(np.float32)


def similarity(query: Tokens, document: Tokens) -> NDArray[np.float32]:
    """The dot product of each query token and each document token, (n_query, n_document)."""
    asked = query_vectors(query)
    rows = Listed([document], asked.shape[1]).rows(0)
    fast = compiled()
    if fast is None:
        with threadpool_limits(1, "blas"):  # the product that contributions are made of, bit by bit
            return _checked(np.ascontiguousarray((rows @ asked.T).T))
    laid = fast.queries(asked)
    out = np.empty((len(rows), laid.shape[0] * fast.LANES), np.float32)
    fast.similarities(laid, rows.ctypes.data, len(rows), out)
    return _checked(np.ascontiguousarray(out.T[: len(asked)]))


def best_matches(query: Tokens, document: Tokens) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """For each query token the document token most similar to it, and that similarity.

    The first of equal ones; -1 and 0.0 where the document has no tokens.
    """
    matrix = similarity(query, document)
    if not matrix.shape[1]:
        return np.full(len(matrix), -1, np.int32), np.zeros(len(matrix), np.float32)
    return matrix.argmax(axis=1).astype(np.int32), matrix.max(axis=1)


def contributions(
    query: Tokens, document: Tokens, *, kind: ScoreKind = "maxsim"
) -> NDArray[np.float32]:
    """What each query token adds to the score, shape (n_query,).

    Args:
        kind: "maxsim": the similarity of its best match. "normalized": that by the number of
            query tokens. "symmetric": half of that, and half of the same from the document's
            side, where each document token's share goes to the query token it matches best.

    Raises:
        ValueError: an empty query, vectors of different lengths, a NaN.
    """
    return kind_table(query, [document], kind=kind, n_threads=1)[:, 0]


def score(query: Tokens, document: Tokens, *, kind: ScoreKind = "maxsim") -> float:
    """How well the document answers the query: `total` of the contributions.

    >>> score(np.eye(2), np.array([[0.5, 0.0], [0.25, 0.125]]))
    0.625
    """
    return total(contributions(query, document, kind=kind))


def scores(
    query: Tokens,
    documents: Documents,
    *,
    kind: ScoreKind = "maxsim",
    n_threads: int | None = None,
) -> NDArray[np.float32]:
    """The score of each document, shape (n_documents,).

    Args:
        documents: MultiVectors, arrays or a Ragged; of any lengths, nothing is padded.
        n_threads: None takes every core this process may use.
    """
    return totals(kind_table(query, documents, kind=kind, n_threads=n_threads))


def contribution_table(
    query: Tokens, documents: Documents, *, n_threads: int | None = None
) -> NDArray[np.float32]:
    """The contributions to every document's MaxSim, shape (n_query, n_documents)."""
    return kind_table(query, documents, n_threads=n_threads)


def kind_table(
    query: Tokens,
    documents: Documents | Chosen,
    *,
    kind: ScoreKind = "maxsim",
    n_threads: int | None = None,
) -> NDArray[np.float32]:
    """The contributions to every document's score of some kind, shape (n_query, n_documents)."""
    one_of("kind", kind, KINDS)
    n_threads = threads(n_threads)
    asked = query_vectors(query)
    source = _source(documents, asked.shape[1])
    if kind == "symmetric":
        out, run = _symmetric_run(asked, source)
    elif (fast := compiled()) is None:
        out = np.empty((len(source.lengths), len(asked)), np.float32)
        run = functools.partial(_numpy_run, asked, source, out)
    else:
        out, run = _compiled_run(fast, asked, source)
    _side_by_side(run, source.lengths, asked.size, n_threads)
    table = _checked(out[:, : len(asked)].T)
    if kind == "normalized":
        table = np.divide(table, len(asked), dtype=np.float32)
    return table


def threads(n_threads: int | None) -> int:
    """How many threads: None is every core that this process may use."""
    if n_threads is not None:
        return whole("n_threads", n_threads, 1, 512)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def query_vectors(query: Tokens) -> NDArray[np.float32]:
    """The vectors of a query, checked: at least one, finite."""
    vectors = vectors_of(query, "the query").astype(np.float32, copy=False)
    if not len(vectors):
        raise ValueError(
            "the query has no tokens, so nothing can match it. Ask with a text that has some, or "
            "keep its punctuation and special tokens."
        )
    return vectors


def _checked(products: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(products).all():
        raise ValueError(
            "a similarity is larger than float32 can hold. Normalise the vectors, of both texts."
        )
    return products


def _source(documents: Documents | Chosen, dim: int) -> Chosen | Listed:
    if isinstance(documents, Ragged):
        documents = Chosen(documents)
    if isinstance(documents, Chosen):
        check_dims([documents.ragged.vectors], dim, "the query")
        return documents
    if isinstance(documents, MultiVector) or not isinstance(documents, (Sequence, np.ndarray)):
        raise TypeError(f"documents is {type(documents).__name__}: give a list, or a Ragged.")
    return Listed(documents, dim)


def _symmetric_run(
    asked: NDArray[np.float32], source: Chosen | Listed
) -> tuple[NDArray[np.float32], Run]:
    out = np.empty((len(source.lengths), len(asked)), np.float32)

    def run(start: int, end: int) -> None:
        for document in range(start, end):
            out[document] = _symmetric(similarity(asked, source.rows(document)))

    return out, run


def _symmetric(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    n_query, n_document = matrix.shape
    if not n_document:
        return np.zeros(n_query, np.float32)
    there = matrix.max(axis=1) / (2.0 * n_query)
    best = matrix.argmax(axis=0)
    values = matrix[best, np.arange(n_document)]
    back = np.bincount(best, weights=values, minlength=n_query) / (2.0 * n_document)
    return (there + back).astype(np.float32)


def _numpy_run(
    asked: NDArray[np.float32],
    source: Chosen | Listed,
    out: NDArray[np.float32],
    start: int,
    end: int,
) -> None:
    with threadpool_limits(1, "blas"):  # the documents are shared out already
        maxsim_numpy.best(asked, source, out, start, end)


def _compiled_run(
    fast: Any, asked: NDArray[np.float32], source: Chosen | Listed
) -> tuple[NDArray[np.float32], Run]:
    laid, counts = fast.queries(asked), source.lengths
    out = np.empty((len(counts), laid.shape[0] * fast.LANES), np.float32)
    if isinstance(source, Listed):
        addresses = np.array([part.ctypes.data for part in source.parts], np.int64)
    else:
        vectors = np.asarray(source.ragged.vectors)
        if vectors.dtype != np.float32:
            codes = vectors.view(np.uint16) if vectors.dtype == np.float16 else vectors
            scales = source.ragged.scales
            scales = np.zeros(0, np.float32) if scales is None else np.asarray(scales)

            def run_coded(start: int, end: int) -> None:
                fast.best_of_coded(laid, codes, scales, source.firsts, counts, start, end, out)

            return out, run_coded
        addresses = vectors.ctypes.data + source.firsts * (4 * source.dim)

    def run(start: int, end: int) -> None:
        # `source` keeps alive what the addresses point to.
        fast.best(laid, addresses, source.lengths, start, end, out)

    return out, run


def _side_by_side(run: Run, lengths: NDArray[np.int64], cost: int, n_threads: int) -> None:
    """Run over all documents, on several threads if there is work for them."""
    ends = np.cumsum(lengths)
    n_tokens = int(ends[-1]) if len(ends) else 0
    if n_threads == 1 or n_tokens * cost < SMALL:
        run(0, len(lengths))
        return
    goals = np.linspace(0, n_tokens, n_threads * PARTS + 1)[1:-1]
    bounds = np.unique([0, *np.searchsorted(ends, goals), len(lengths)]).tolist()
    pool = ThreadPoolExecutor(n_threads)
    try:
        begun = []
        for start, end in pairwise(bounds):
            try:
                begun.append(pool.submit(run, start, end))
            except RuntimeError:  # the main thread has ended, and no pool takes anything any more
                run(start, end)
        for part in begun:
            part.result()
    finally:  # also when interrupted: what has not begun does not begin
        pool.shutdown(cancel_futures=True)

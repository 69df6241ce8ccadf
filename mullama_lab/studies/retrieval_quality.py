"""How often, and how high, does a ranking show the right document?

Rankings are lists of ids, best first, one list a question; who made them is not asked. Two ways
of ranking to compare with are here: words alone (BM25) and one vector a text (mean pooling).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mullama_lab.engine.multivector import MultiVector

Rankings = Sequence[Sequence[str]]  # one a question, best first


def quality(
    methods: Mapping[str, Rankings],
    answers: Sequence[Collection[str]],
    *,
    ks: Sequence[int] = (1, 5, 10),
) -> pd.DataFrame:
    """Recall at k and the mean reciprocal rank of some ways of ranking, one row each.

    A question is answered by the first document that is among its answers. "recall@k" is the
    share of questions answered within the first k documents; "MRR" the mean of 1 / rank, where
    a question that is never answered counts 0.

    >>> quality({"a": [["x", "y"], ["y", "x"]]}, [{"x"}, {"x"}], ks=[1]).loc["a"].tolist()
    [0.5, 0.75]
    """
    rows = {}
    for name, rankings in methods.items():
        ranks = first_ranks(rankings, answers)
        found = ranks > 0
        rows[name] = {
            **{f"recall@{k}": float(np.mean(found & (ranks <= k))) for k in ks},
            "MRR": float(np.mean(found / np.maximum(ranks, 1))),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("ranking")


def first_ranks(rankings: Rankings, answers: Sequence[Collection[str]]) -> NDArray[np.int64]:
    """The rank, from 1, of the first right document of each question; 0 where there is none.

    >>> first_ranks([["a", "b"], ["a"]], [{"b"}, {"c"}]).tolist()
    [2, 0]
    """
    if len(rankings) != len(answers) or not answers:
        raise ValueError(
            f"{len(rankings)} rankings for {len(answers)} questions; give one ranking a question, "
            "and at least one."
        )
    if without := [i for i, right in enumerate(answers) if not right]:
        raise ValueError(f"question {without[0]} has no answer; every question needs one.")
    return np.array(
        [
            next((rank for rank, name in enumerate(ranking, 1) if name in right), 0)
            for ranking, right in zip(rankings, answers, strict=True)
        ]
    )


def by_question(
    methods: Mapping[str, Rankings],
    questions: Sequence[str],
    answers: Sequence[Collection[str]],
) -> pd.DataFrame:
    """The rank of the first right document, a row a question and a column a way of ranking."""
    ranks = {name: first_ranks(rankings, answers) for name, rankings in methods.items()}
    return pd.DataFrame(ranks, index=pd.Index(questions, name="question"))


def moved(before: Rankings, after: Rankings, *, top: int = 10) -> pd.DataFrame:
    """Which documents changed places between two ways of ranking, within the first `top` of either.

    Columns: query (its place), document, before, after: ranks from 1, 0 beyond the first `top`.
    """
    if len(before) != len(after):
        raise ValueError(
            f"{len(before)} rankings against {len(after)}; they must be of the same queries."
        )
    rows = []
    for query, (old, new) in enumerate(zip(before, after, strict=True)):
        was = {name: rank for rank, name in enumerate(old[:top], 1)}
        now = {name: rank for rank, name in enumerate(new[:top], 1)}
        rows += [
            (query, name, was.get(name, 0), now.get(name, 0))
            for name in {**now, **was}
            if was.get(name, 0) != now.get(name, 0)
        ]
    return pd.DataFrame(rows, columns=["query", "document", "before", "after"])


def bm25(documents: Mapping[str, str], questions: Sequence[str]) -> list[list[str]]:
    """Rank by words alone: BM25 with English stop words left out.

    Source: the library bm25s (Lù 2024, arXiv:2407.03618), its defaults.
    """
    import bm25s

    _some(documents)
    names = list(documents)
    index = bm25s.BM25()
    cut = {"stopwords": "en", "show_progress": False}
    index.index(bm25s.tokenize(list(documents.values()), **cut), show_progress=False)
    words = bm25s.tokenize(list(questions), return_ids=False, **cut)
    places, _ = index.retrieve(words, k=len(names), show_progress=False)
    return [[names[int(place)] for place in row] for row in places]


def mean_pooled(
    queries: Sequence[MultiVector], documents: Mapping[str, MultiVector]
) -> list[list[str]]:
    """Rank by one vector a text: the mean of its token vectors, compared by cosine.

    The same vectors that late interaction compares one by one. A text without tokens has cosine 0.
    """
    _some(documents)
    names = list(documents)
    pooled = np.stack([_pooled(tokens) for tokens in documents.values()])
    scores = np.stack([_pooled(tokens) for tokens in queries]) @ pooled.T
    return [[names[i] for i in np.argsort(-row, kind="stable")] for row in scores]


def _pooled(tokens: MultiVector) -> NDArray[np.float32]:
    vectors = tokens.vectors.astype(np.float32)
    total = vectors.sum(axis=0)
    return total / max(float(np.linalg.norm(total)), 1e-12)


def _some(documents: Mapping[str, object]) -> None:
    if not documents:
        raise ValueError("there are no documents to rank; give at least one.")

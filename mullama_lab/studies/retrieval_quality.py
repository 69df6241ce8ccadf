"""How often, and how high, does a ranking show the right document?

Rankings are lists of ids, best first, one list a question; who made them is not asked. Two ways
of ranking to compare with are here: words alone (BM25) and one vector a text (mean pooling).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mullama_lab.engine.multivector import MultiVector
from mullama_lab.engine.options import instance, listed, whole
from mullama_lab.glyphs import brief

__all__ = ["bm25", "by_question", "first_ranks", "mean_pooled", "moved", "quality"]
__dir__ = __all__.copy  # what tab completion offers

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
    ks = [whole("k", k, 1, 2**31) for k in listed("ks", ks, "whole numbers")]
    for name, rankings in _by_name("methods", methods, "rankings").items():
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
    rankings = _rankings("rankings", rankings)
    answers = [frozenset(_names("answers", right)) for right in listed("answers", answers, "sets")]
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
    named = _by_name("methods", methods, "rankings")
    ranks = {name: first_ranks(rankings, answers) for name, rankings in named.items()}
    texts = _texts("questions", questions)
    return pd.DataFrame(ranks, index=pd.Index(texts, name="question"))


def moved(before: Rankings, after: Rankings, *, top: int = 10) -> pd.DataFrame:
    """Which documents changed places between two ways of ranking, within the first `top` of either.

    Columns: query (its place), document, before, after: ranks from 1, 0 beyond the first `top`.
    """
    before, after = _rankings("before", before), _rankings("after", after)
    top = whole("top", top, 1, 2**31)
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
    texts = _texts("documents", list(documents.values()))
    questions = _texts("questions", questions)
    index.index(bm25s.tokenize(texts, **cut), show_progress=False)
    words = bm25s.tokenize(questions, return_ids=False, **cut)
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
    queries = listed("queries", queries, "MultiVectors")
    if not queries:
        return []
    scores = np.stack([_pooled(tokens) for tokens in queries]) @ pooled.T
    return [[names[i] for i in np.argsort(-row, kind="stable")] for row in scores]


def _by_name(name: str, given: Any, of: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{name}={brief(given)}: it must be a dict of {of} by name.")
    return given


def _rankings(name: str, given: Any) -> list[list[str]]:
    return [_names(name, ranking) for ranking in listed(name, given, "rankings")]


def _names(name: str, given: Any) -> list[str]:
    """Names of documents, which may be numbers too; also from a set."""
    found = listed(name, given, "names of documents")
    if wrong := [each for each in found if not isinstance(each, (str, int, np.integer))]:
        raise TypeError(f"{name}: {brief(wrong[0])} is no name of a document.")
    return found


def _texts(name: str, given: Any) -> list[str]:
    found = listed(name, given, "texts")
    if wrong := [each for each in found if not isinstance(each, str)]:
        raise TypeError(f"{name}: {brief(wrong[0])} is no text.")
    return found


def _pooled(tokens: MultiVector) -> NDArray[np.float32]:
    instance("a text", tokens, MultiVector)
    vectors = tokens.vectors.astype(np.float32)
    total = vectors.sum(axis=0)
    return total / max(float(np.linalg.norm(total)), 1e-12)


def _some(documents: Mapping[str, object]) -> None:
    _by_name("documents", documents, "texts or vectors")
    if not documents:
        raise ValueError("there are no documents to rank; give at least one.")

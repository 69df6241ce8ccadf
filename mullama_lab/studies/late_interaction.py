"""Which document answers a query, which of their tokens met, and why is one ahead of another?

Texts are MultiVectors. Each table's contributions add up, in the order of the query's tokens, to
the score exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mullama_lab.engine.multivector import MultiVector, maxsim
from mullama_lab.engine.multivector.maxsim import ScoreKind
from mullama_lab.engine.options import listed
from mullama_lab.glyphs import brief

__all__ = ["explain", "matches", "rank", "top_k"]
__dir__ = __all__.copy  # what tab completion offers


def rank(
    query: MultiVector,
    documents: Sequence[MultiVector] | Mapping[Any, MultiVector],
    *,
    kind: ScoreKind = "maxsim",
    n_threads: int | None = None,
) -> pd.DataFrame:
    """All documents, best first; those of one score in the order given.

    Args:
        documents: a list, or MultiVectors by name.

    Returns:
        A row a document: rank (from 1), document (its name or place), score, n_tokens, text.
    """
    if not isinstance(documents, Mapping):
        documents = dict(enumerate(listed("documents", documents, "MultiVectors")))
    named = documents
    names, texts = list(named), list(named.values())
    for name, text in named.items():
        _must_be_tokens(text, f"the document {name!r}")
    _must_be_tokens(query, "the query")
    scores = maxsim.scores(query, texts, kind=kind, n_threads=n_threads)
    order = np.argsort(-scores, kind="stable")
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(names) + 1),
            "document": [names[place] for place in order],
            "score": scores[order],
            "n_tokens": [len(texts[place]) for place in order],
            "text": [texts[place].text for place in order],
        }
    )


def top_k(
    query: MultiVector,
    documents: Sequence[MultiVector] | Mapping[Any, MultiVector],
    k: int = 10,
    *,
    kind: ScoreKind = "maxsim",
    n_threads: int | None = None,
) -> pd.DataFrame:
    """The first `k` rows of `rank`."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k={brief(k)}: it must be a whole number of at least 1.")
    return rank(query, documents, kind=kind, n_threads=n_threads).head(int(k))


def matches(
    query: MultiVector, document: MultiVector, *, kind: ScoreKind = "maxsim"
) -> pd.DataFrame:
    """What each query token met in a document, and what that adds to the score.

    Returns:
        A row a query token, in the query's order: token, match (the document's token, "" where it
        has none), similarity, contribution, query_position, document_position (-1 for none).
        `.attrs["score"]` is the score.
    """
    _must_be_tokens(query, "the query")
    _must_be_tokens(document, "the document")
    positions, values = maxsim.best_matches(query, document)
    parts = maxsim.contributions(query, document, kind=kind)
    table = pd.DataFrame(
        {
            "token": list(query.token_texts),
            "match": _texts_at(document, positions.tolist()),
            "similarity": values,
            "contribution": parts,
            "query_position": np.arange(len(query)),
            "document_position": positions,
        }
    )
    table.attrs["score"] = maxsim.total(parts)
    return table


def explain(
    query: MultiVector, a: MultiVector, b: MultiVector, *, kind: ScoreKind = "maxsim"
) -> pd.DataFrame:
    """Why one document is ahead of another: what each query token adds to either.

    Returns:
        A row a query token, the largest difference first: token, a, b (what it adds), difference
        (a - b), match_a, match_b, query_position. `.attrs["score_a"]` and `.attrs["score_b"]` are
        the scores.
    """
    one, two = (matches(query, document, kind=kind) for document in (a, b))
    table = pd.DataFrame(
        {
            "token": one["token"],
            "a": one["contribution"],
            "b": two["contribution"],
            "difference": one["contribution"] - two["contribution"],
            "match_a": one["match"],
            "match_b": two["match"],
            "query_position": one["query_position"],
        }
    )
    table = table.iloc[np.argsort(-table["difference"].abs().to_numpy(), kind="stable")]
    table = table.reset_index(drop=True)
    table.attrs.update(score_a=one.attrs["score"], score_b=two.attrs["score"])
    return table


def _texts_at(document: MultiVector, positions: Sequence[int]) -> list[str]:
    texts = document.token_texts
    return [texts[place] if place >= 0 else "" for place in positions]


def _must_be_tokens(tokens: Any, name: str) -> MultiVector:
    if not isinstance(tokens, MultiVector):
        raise TypeError(
            f"{name} is {type(tokens).__name__}; give a MultiVector. encoder.encode_query and "
            "encoder.encode_documents make them of texts."
        )
    return tokens

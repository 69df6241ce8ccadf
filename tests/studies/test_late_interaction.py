"""Rankings and explanations, on vectors small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mullama_lab.engine.multivector import MultiVector, maxsim
from mullama_lab.studies import late_interaction


def words(text, vectors, kind="document"):
    """A text with one token a word."""
    spans, at = [], 0
    for word in text.split():
        start = text.index(word, at)
        at = start + len(word)
        spans.append((start, at))
    pieces = tuple(word.encode() for word in text.split())
    vectors = np.array(vectors, np.float32).reshape(len(pieces), 2)
    return MultiVector(vectors, np.arange(len(pieces)), pieces, np.array(spans), text, kind)


QUERY = words("red car", [[1, 0], [0, 1]], "query")
BOTH = words("crimson auto", [[0.75, 0.25], [0.0, 0.5]])
ONE = words("a scarlet", [[0, 0], [1, -0.5]])
NOTHING = words("", [])


def test_documents_are_ranked_by_name_or_place():
    table = late_interaction.rank(QUERY, {"none": NOTHING, "one": ONE, "both": BOTH})
    assert table["document"].tolist() == ["both", "one", "none"]
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["score"].tolist() == [1.25, 1.0, 0.0]
    assert table["n_tokens"].tolist() == [2, 2, 0]
    assert table["text"].tolist() == ["crimson auto", "a scarlet", ""]
    by_place = late_interaction.rank(QUERY, [NOTHING, ONE, ONE, BOTH], kind="normalized")
    assert by_place["document"].tolist() == [3, 1, 2, 0]
    assert by_place["score"].tolist() == [0.625, 0.5, 0.5, 0.0]


def test_top_k_is_the_head_of_the_ranking():
    documents = [NOTHING, ONE, BOTH]
    best = late_interaction.top_k(QUERY, documents, 2)
    assert best["document"].tolist() == [2, 1]
    assert len(late_interaction.top_k(QUERY, documents, 9)) == 3
    for k in (0, 1.5, True):
        with pytest.raises(ValueError, match="it must be a whole number of at least 1"):
            late_interaction.top_k(QUERY, documents, k)


def test_matches_say_which_tokens_met():
    table = late_interaction.matches(QUERY, BOTH)
    assert table["token"].tolist() == ["red", "car"]
    assert table["match"].tolist() == ["crimson", "auto"]
    assert table["similarity"].tolist() == table["contribution"].tolist() == [0.75, 0.5]
    assert table["document_position"].tolist() == [0, 1]
    assert table.attrs["score"] == 1.25


def test_nothing_matches_in_an_empty_document():
    table = late_interaction.matches(QUERY, NOTHING)
    assert table["match"].tolist() == ["", ""]
    assert table["document_position"].tolist() == [-1, -1]
    assert table.attrs["score"] == 0.0


def test_an_explanation_begins_with_the_most_telling_token():
    table = late_interaction.explain(QUERY, BOTH, ONE)
    assert table["token"].tolist() == ["car", "red"]
    assert table["difference"].tolist() == [0.5, -0.25]
    assert table["match_a"].tolist() == ["auto", "crimson"]
    assert table["match_b"].tolist() == ["a", "scarlet"]
    assert (table.attrs["score_a"], table.attrs["score_b"]) == (1.25, 1.0)


@pytest.mark.parametrize("kind", maxsim.KINDS)
def test_the_columns_add_up_to_the_scores_in_the_order_of_the_query(kind):
    rng = np.random.default_rng(0)
    query, a, b = (
        words(" ".join(f"w{i}" for i in range(n)), rng.standard_normal((n, 2)))
        for n in (13, 30, 21)
    )
    table = late_interaction.explain(query, a, b, kind=kind).sort_values("query_position")
    assert maxsim.total(table["a"]) == table.attrs["score_a"] == maxsim.score(query, a, kind=kind)
    assert maxsim.total(table["b"]) == table.attrs["score_b"] == maxsim.score(query, b, kind=kind)


def test_what_is_no_multivector_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="the query is str; give a MultiVector. encoder.encode_q"):
        late_interaction.rank("red car", [BOTH])
    with pytest.raises(TypeError, match="the document 1 is str"):
        late_interaction.rank(QUERY, [BOTH, "text"])
    with pytest.raises(TypeError, match="the document is str"):
        late_interaction.explain(QUERY, BOTH, "text")

"""Recall, reciprocal rank and the two ways of ranking to compare with, on figures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mullama_lab.engine.multivector import MultiVector
from mullama_lab.studies import retrieval_quality as study

RANKINGS = {"good": [["a", "b", "c"], ["b", "a", "c"]], "bad": [["c", "b"], ["c", "a"]]}
ANSWERS = [{"a"}, {"a", "z"}]


def tokens(*vectors):
    n = len(vectors)
    return MultiVector(
        vectors=np.array(vectors, np.float32).reshape(n, 2),
        ids=np.zeros(n, np.int32),
        pieces=(b"x",) * n,
        spans=np.zeros((n, 2), np.int32),
        text="",
        kind="document",
    )


def test_recall_counts_questions_answered_in_time():
    table = study.quality(RANKINGS, ANSWERS, ks=(1, 2))
    assert table.loc["good"].tolist() == [0.5, 1.0, (1 + 1 / 2) / 2]
    assert table.loc["bad"].tolist() == [0.0, 0.5, (0 + 1 / 2) / 2]


def test_each_question_has_the_rank_of_its_first_answer():
    table = study.by_question(RANKINGS, ["one", "two"], ANSWERS)
    assert table["good"].tolist() == [1, 2]
    assert table["bad"].tolist() == [0, 2]
    assert table.index.tolist() == ["one", "two"]


def test_questions_and_rankings_must_fit():
    with pytest.raises(ValueError, match="1 rankings for 2 questions"):
        study.first_ranks([["a"]], ANSWERS)
    with pytest.raises(ValueError, match="question 1 has no answer"):
        study.first_ranks([["a"], ["a"]], [{"a"}, set()])
    with pytest.raises(ValueError, match="at least one"):
        study.first_ranks([], [])


def test_only_documents_that_changed_places_are_listed():
    table = study.moved([["a", "b", "c"]], [["a", "c", "d"]], top=3)
    rows = sorted(table.itertuples(index=False, name=None))
    assert rows == [(0, "b", 2, 0), (0, "c", 3, 2), (0, "d", 0, 3)]
    assert study.moved([["a"]], [["a"]]).empty
    with pytest.raises(ValueError, match="same queries"):
        study.moved([["a"]], [])


def test_bm25_finds_the_document_with_the_rare_word():
    documents = {
        "cats": "the cat sat on the mat with another cat",
        "dogs": "the dog chased the ball",
        "both": "a dog and a cat and an elephant",
    }
    found = study.bm25(documents, ["elephant", "dog ball", "the of"])
    assert [ranking[0] for ranking in found[:2]] == ["both", "dogs"]
    assert all(sorted(ranking) == sorted(documents) for ranking in found)


def test_mean_pooling_compares_the_directions_of_means():
    documents = {
        "east": tokens([2, 0], [4, 0]),
        "north": tokens([0, 1]),
        "both": tokens([1, 0], [0, 1]),
        "none": tokens(),
    }
    found = study.mean_pooled([tokens([1, 0.1]), tokens([0, 1])], documents)
    assert found[0] == ["east", "both", "north", "none"]
    assert found[1][:2] == ["north", "both"]


def test_no_documents_are_refused():
    for rank in (study.bm25, lambda d, q: study.mean_pooled([], d)):
        with pytest.raises(ValueError, match="give at least one"):
            rank({}, ["x"])

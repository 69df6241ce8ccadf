"""The rows after given texts: each is visited once, and is what the session gives for the text."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


def test_a_row_is_visited_for_each_place_from_the_first_asked_for(session):
    tokens = [1, *range(10, 30)]
    rows = {}
    session.visit_rows(tokens, 15, lambda place, row: rows.update({place: row.copy()}))
    assert list(rows) == list(range(15, 21))
    for place, row in rows.items():
        np.testing.assert_allclose(row, session.logits(tokens[: place + 1]), atol=0.05)


def test_what_a_prompt_ends_with_changes_where_it_is_cut_and_not_which_rows_come(session):
    tokens = [1, *range(10, 80)]
    rows = {}
    for n_prompt in (None, 0, 5, 70, 71, 400):
        work = session.start_rows(
            [tokens, tokens[:30]],
            lambda i, row, n=n_prompt: rows.update({(n, i): row.copy()}),
            n_prompt=n_prompt,
        )
        work.result(20)
    assert len(rows) == 12
    for (_, i), row in rows.items():
        np.testing.assert_allclose(row, rows[None, i], atol=0.05)


def test_what_has_no_row_is_refused(session):
    with pytest.raises(ValueError, match="has no tokens"):
        session.visit_rows([], 0, lambda *_: None)
    with pytest.raises(ValueError, match="first"):
        session.visit_rows([1, 2], 2, lambda *_: None)
    with pytest.raises(TypeError, match="a function of a place and a row"):
        session.visit_rows([1, 2], 0, None)
    with pytest.raises(ValueError, match="n_prompt"):
        session.start_rows([[1, 2]], lambda *_: None, n_prompt=-1)

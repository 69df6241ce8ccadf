"""Rows computed in a session of their own: closed once, closed for good."""

from __future__ import annotations

import pytest

from mullama_lab.engine.steering.steering import Steering
from mullama_lab.errors import ClosedError
from mullama_lab.widgets import _rows_aside
from mullama_lab.widgets._rows_aside import RowsAside


def test_what_is_asked_after_the_close_opens_no_session(tiny_model):
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        rows = RowsAside(session)
        rows.close()
        with pytest.raises(ClosedError):
            rows.row([1, 5], Steering())
        assert rows._own is None


def test_a_session_that_is_opened_while_it_is_closed_is_closed_too(tiny_model, monkeypatch):
    opened = []

    def slowly(like, n_tokens):
        rows.close()
        opened.append(like.model.session(n_ctx=64, n_threads=1))
        return opened[0]

    monkeypatch.setattr(_rows_aside, "session_aside", slowly)
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        rows = RowsAside(session)
        with pytest.raises(ClosedError):
            rows.row([1, 5], Steering())
    assert opened[0].closed

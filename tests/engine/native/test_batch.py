"""Rows of logits are llama.cpp's own memory, and belong to one context."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.native import context as native
from mullama_lab.engine.native.batch import Batch, LogitRows
from mullama_lab.errors import DecodeError

SETTINGS = {"n_ctx": 64, "n_batch": 32, "n_ubatch": 32, "n_threads": 1, "n_seq_max": 1}


@pytest.fixture
def opened(native_model):
    """A function that opens a context of a model, with its batch and rows."""

    @contextmanager
    def opened(model):
        with native_model(model) as handle:
            context = native.new_context(handle, stop=native.StopFlag(), **SETTINGS)
            try:
                yield context, Batch(32), LogitRows(context, model.n_vocab)
            finally:
                native.free_context(context)

    return opened


def decode(context, batch, tokens, wanted):
    native.clear_memory(context)
    n = len(tokens)
    batch.token[:n], batch.pos[:n], batch.seq[:n] = tokens, np.arange(n), 0
    batch.wanted[:n] = wanted
    assert batch.decode(context, n)


def test_the_last_row_of_a_batch_is_that_of_its_last_token(tiny_model, opened):
    with opened(tiny_model) as (context, batch, rows):
        decode(context, batch, [1, 5, 9], [True, True, True])
        all_rows = [rows[i].copy() for i in range(3)]
        assert all(row.shape == (tiny.N_VOCAB,) for row in all_rows)
        assert np.array_equal(rows[-1], all_rows[2])
        assert not np.array_equal(all_rows[0], all_rows[1])


def test_a_row_shows_the_newest_batch_and_is_made_once(tiny_model, opened):
    with opened(tiny_model) as (context, batch, rows):
        decode(context, batch, [1, 5], [False, True])
        row = rows[-1]
        before = row.copy()
        decode(context, batch, [1, 6], [False, True])
        assert rows[-1] is row
        assert not np.array_equal(row, before)


def test_a_place_without_logits_is_an_error(tiny_model, opened):
    with opened(tiny_model) as (context, batch, rows):
        decode(context, batch, [1, 5], [False, True])
        with pytest.raises(DecodeError, match="no logits at position 0 of the last batch"):
            rows[0]


def test_rows_of_two_contexts_are_apart_and_go_with_them(tiny_model, opened):
    with opened(tiny_model) as (a, batch, rows), opened(tiny_model) as (b, _, others):
        decode(a, batch, [1, 5], [False, True])
        first = rows[-1].copy()
        decode(b, batch, [1, 6], [False, True])
        assert np.array_equal(rows[-1], first) and not np.array_equal(others[-1], first)
        view = weakref.ref(rows[-1])
        del rows
        gc.collect()
        assert view() is None

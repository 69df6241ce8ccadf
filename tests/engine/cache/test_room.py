"""Which sequences of a cache new work may overwrite, and what fits beside the others."""

from __future__ import annotations

import pytest

from mullama_lab.engine.cache.room import (
    free_id,
    n_free_beside,
    replaceable,
    untouchable,
    without_room,
)
from mullama_lab.engine.cache.sequences import Sequences
from mullama_lab.engine.text import Text


@pytest.fixture
def book():
    book = Sequences(100, 4, shared=True)
    book.extend(0, [1, 2, 3, 4], generated=False)
    return book


def fork(book, sequence):
    book.use(sequence)
    book.copy(0, sequence, 1)


def test_what_a_caller_keeps_or_works_in_is_not_replaceable_and_0_comes_last(book):
    for sequence in (1, 2, 3):
        fork(book, sequence)
    book.use(1)
    assert replaceable(book) == [2, 3, 1, 0]
    book[2].kept = True
    book[3].at_work = True
    assert replaceable(book) == [1, 0]
    assert sorted(untouchable(book)) == [2, 3]
    assert untouchable(book, besides=2) == [3]


def test_a_free_id_is_one_that_holds_nothing_and_0_is_the_last(book):
    assert free_id(book) == 1
    for sequence in (1, 2, 3):
        fork(book, sequence)
    assert free_id(book) is None
    book.cut(0, 0)
    assert free_id(book) == 0


def test_only_what_stays_takes_room_from_a_new_text_and_only_where_it_differs(book):
    text = Text([1, 2, 9])
    assert n_free_beside(book, text) == 97
    book[0].kept = True
    assert n_free_beside(book, text) == 95


def test_who_comes_first_has_the_cells_that_are_left(book):
    book.extend(0, [5] * 90, generated=False)
    book.use(1)
    book.use(2)
    assert without_room(book, {0: 2, 1: 5, 2: 4}) == [1]
    assert without_room(book, {0: 2, 1: 4}) == []

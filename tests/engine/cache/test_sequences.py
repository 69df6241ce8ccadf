"""The book of a cache: who holds which tokens, and how many cells they take together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mullama_lab.engine.cache.sequences import Sequences
from mullama_lab.engine.text import Text, n_common


@pytest.fixture
def book():
    book = Sequences(100, 4, shared=True)
    book.extend(0, [1, 2, 3, 4], generated=False)
    return book


def fork(book, source, sequence, n):
    book.use(sequence)
    book.copy(source, sequence, n)


def test_a_fork_takes_no_cells_until_it_goes_its_own_way(book):
    fork(book, 0, 1, 3)
    assert (book[1].text.tokens, book.n_cells) == ([1, 2, 3], 4)
    book.extend(1, [9], generated=False)
    assert (book[1].text.tokens, book.n_cells) == ([1, 2, 3, 9], 5)
    book.extend(0, [5, 6], generated=False)
    assert (book.n_cells, book.room(0), book.room(1)) == (7, 93, 93)
    book.remove(0)
    assert (book[0].text.tokens, book.n_cells) == ([], 4)


def test_cells_that_a_fork_still_holds_are_not_free_when_its_parent_is_cut(book):
    fork(book, 0, 1, 4)
    book.cut(0, 1)
    assert book.n_cells == 4
    book.extend(0, [7, 8], generated=False)
    assert (book[0].text.tokens, book.n_cells) == ([1, 7, 8], 6)
    book.remove(1)
    assert book.n_cells == 3
    book.cut(0, 2)
    book.extend(0, [9], generated=False)
    assert (book[0].text.tokens, book.n_cells) == ([1, 7, 9], 3)


def test_a_fork_of_a_fork_shares_with_both(book):
    fork(book, 0, 1, 2)
    book.extend(1, [5, 6], generated=False)
    fork(book, 1, 2, 3)
    assert (book[2].text.tokens, book.n_cells) == ([1, 2, 5], 6)
    assert book.n_cells_of([1, 2]) == 4
    assert book.n_cells_of([0], beginning=(1, 3)) == 5
    book.remove(1)
    assert book.n_cells == 5


def test_without_sharing_each_sequence_has_a_room_of_its_own():
    book = Sequences(10, 2, shared=False)
    book.extend(0, [1, 2, 3], generated=False)
    book.use(1)
    assert (book.room(0), book.room(1)) == (7, 10)


def test_the_longest_beginning_is_found_past_a_piece_of_the_comparison():
    long = list(range(1000))
    assert n_common(long, long) == 1000
    assert n_common(long, [*long[:700], -1, *long[701:]]) == 700
    assert n_common(long, long[:256]) == 256
    assert n_common([], long) == 0
    book = Sequences(5000, 3, shared=True)
    book.extend(0, long[:10], generated=False)
    book.use(1)
    book.extend(1, long[:400], generated=False)
    assert book.longest(Text(long), [0, 1]) == (1, 400)
    assert book.longest(Text([-1]), [0, 1]) == (0, 0)


class Slow:
    """A cache as llama.cpp keeps it: a set of cells for each sequence, and no shortcut."""

    def __init__(self):
        self.cells = {0: []}
        self.next = 0

    def extend(self, sequence, n):
        self.cells[sequence] += range(self.next, self.next + n)
        self.next += n

    @property
    def n_cells(self):
        return len({cell for cells in self.cells.values() for cell in cells})


@given(st.lists(st.tuples(st.sampled_from("ecfr"), *[st.integers(0, 5)] * 3), max_size=40))
def test_cells_are_counted_as_a_cache_of_sets_counts_them(steps):
    book, slow = Sequences(10**6, 6, shared=True), Slow()
    for what, a, b, n in steps:
        if a not in slow.cells:
            continue
        size = len(slow.cells[a])
        if what == "e":
            book.extend(a, [0] * n, generated=False)
            slow.extend(a, n)
        elif what == "c":
            book.cut(a, min(n, size))
            del slow.cells[a][n:]
        elif what == "f" and b not in slow.cells:
            fork(book, a, b, min(n, size))
            slow.cells[b] = slow.cells[a][:n]
        elif what == "r" and a:
            book.remove(a)
            del slow.cells[a]
        assert book.n_cells == slow.n_cells
        assert {s: len(held.text) for s, held in book.held.items()} == {
            s: len(cells) for s, cells in slow.cells.items()
        }

"""A tree as a text and as a table: what a person reads of it."""

from __future__ import annotations

import itertools
import math

import pytest

from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.text import chance


def test_its_table_has_a_row_for_each_node(tree):
    table = tree.to_pandas()
    assert list(table.index) == [node.key for node in tree.nodes]
    for node in tree.leaves:
        assert table.p[node.key] == pytest.approx(math.exp(node.logprob))
    assert table.p["root"] == 1 and table.start["1.0"] == 0


def test_its_text_is_set_in_where_a_branch_turns_off(by_hand):
    tree = Tree([by_hand("abcde"), by_hand("abxy"), by_hand("abxz")])
    tree.rename(3, "last")
    assert repr(tree).splitlines() == [
        "Tree(3 branches from '\\x01\\x02')",
        "○ 'ab'",
        "├─○ 'x'",
        "│ ├─● 'z'  #3 'last': 4 tokens, p 6.250%, after the chain 25.000%, length",
        "│ ● 'y'  #2: 4 tokens, p 6.250%, after the chain 25.000%, length",
        "● 'cde'  #1: 5 tokens, p 3.125%, after the chain 17.678%, length",
    ]


def test_its_text_stays_short_and_is_the_same_each_time(traces, by_hand):
    names = ["".join(letters) for letters in itertools.product("abc", repeat=5)]
    tree = Tree(map(by_hand, names))
    assert repr(tree) == repr(Tree(map(by_hand, names)))
    assert len(repr(tree).splitlines()) == 62 and repr(tree).splitlines()[-1].startswith("… ")
    assert len(repr(Tree([by_hand("\u202e\n" * 9000)]))) < 300


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1, "100.000%"),
        (0.5, "50.000%"),
        (1e-4, "0.010%"),
        (9.996e-6, "1.0e-05"),
        (3e-40, "3.0e-40"),
    ],
)
def test_a_chance_is_written_to_two_digits(p, text):
    assert chance(math.log(p)) == text


def test_a_chance_below_what_a_float_holds_is_still_a_number():
    assert chance(-5000 * math.log(10)) == "1.0e-5000"

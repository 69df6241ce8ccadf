"""A tree as a dict and pickled: it comes back equal, and what no tree wrote is refused."""

from __future__ import annotations

import json
import math
import pickle

import pytest

from mullama_lab.engine.trace import shared_steps
from mullama_lab.engine.tree import Tree


def test_a_tree_survives_json(tree, by_hand):
    tree.rename(1, "first")
    tree.prune(2)
    again = Tree.from_dict(json.loads(json.dumps(tree.to_dict())))
    assert again == tree
    assert [node.text for node in again.nodes] == [node.text for node in tree.nodes]
    assert not again.to_undo
    assert again.add(by_hand("q", prompt=again.prompt_tokens)).number == len(tree) + 2


def test_steps_that_branches_share_are_written_once(by_hand):
    trunk = "a" * 300
    alone = len(json.dumps(Tree([by_hand(trunk)]).to_dict()))
    tree = Tree([by_hand(trunk), *(by_hand(trunk[:i] + "b") for i in range(250, 300))])
    assert len(json.dumps(tree.to_dict())) < 2 * alone


def test_steps_alike_but_for_a_figure_are_kept_apart(by_hand):
    tree = Tree([by_hand("aab", chances=[0.5, 0.5, 0.5]), by_hand("aac", chances=[0.5, 0.4, 0.5])])
    assert tree.to_dict()["branches"][1]["shared"] == 1
    assert Tree.from_dict(tree.to_dict()) == tree


def test_a_figure_that_is_not_known_is_shared_too(by_hand):
    chances = [math.nan, math.nan, 0.5]
    nan = [by_hand("aab", chances=chances), by_hand("aac", chances=chances)]
    assert Tree(nan).to_dict()["branches"][1]["shared"] == 2


ALTERATIONS = {
    "no format": (lambda d: d.pop("format"), "it has no 'format'"),
    "a format of the future": (lambda d: d.update(format=99), "its format is 99, not 1"),
    "no branches": (lambda d: d.pop("branches"), "it has no 'branches'"),
    "branches of another kind": (lambda d: d.update(branches=7), "'int' object is not iterable"),
    "a branch that is a text": (
        lambda d: d["branches"].append("x"),
        "string indices must be integers",
    ),
    "a number twice": (
        lambda d: d["branches"][1].update(number=1),
        "not rising, or go past its count 2",
    ),
    "a number past the count": (lambda d: d.update(count=1), "not rising, or go past its count 1"),
    "a path twice": (
        lambda d: d["branches"][1].update({**d["branches"][0], "number": 2}),
        "two of its branches have the same tokens",
    ),
    "a base that does not exist": (
        lambda d: d["branches"][1].update(like=5),
        "like=5: it must be from 0 to 0",
    ),
    "a base of its own": (
        lambda d: d["branches"][1].update(like=1),
        "like=1: it must be from 0 to 0",
    ),
    "a base before the first": (
        lambda d: d["branches"][1].update(like=-1),
        "like=-1: it must be from 0 to 0",
    ),
    "more steps than the base has": (
        lambda d: d["branches"][1].update(shared=10**6),
        "shares 1000000 steps with one that has fewer",
    ),
    "steps that are cut": (
        lambda d: d["branches"][0]["trace"]["pieces"].pop(),
        "its columns differ in length",
    ),
    "a hostile name": (lambda d: d["branches"][0].update(name="\u202e"), "breaks or turns a line"),
    "an endless name": (
        lambda d: d["branches"][0].update(name="x" * 10**6),
        "has 1000000 characters; the most is 80",
    ),
    "a name that is a number": (
        lambda d: d["branches"][0].update(name=3),
        "a name is a text, not int",
    ),
    "a trace that runs": (
        lambda d: d["branches"][0]["trace"].update(finish_reason=""),
        "does not say how it ended",
    ),
    "an end that is a list": (
        lambda d: d["branches"][0]["trace"].update(finish_reason=["x"]),
        "['x'] is no text",
    ),
    "bytes that are no bytes": (
        lambda d: d["vocabulary"].update({"1": "zz"}),
        "non-hexadecimal number",
    ),
    "tokens past 32 bits": (
        lambda d: d.update(prompt_tokens=[2**40]),
        "a prompt token=1099511627776",
    ),
    "tokens that are text": (lambda d: d.update(prompt_tokens=["x"]), "must be a whole number"),
    "a text cut at a text": (
        lambda d: d["branches"][0]["trace"].update(text_bytes="x"),
        "text_bytes='x'",
    ),
    "a column left out": (lambda d: d["branches"][0]["trace"]["columns"].pop("rank"), "'rank'"),
}


@pytest.mark.parametrize(("alter", "said"), ALTERATIONS.values(), ids=ALTERATIONS)
def test_an_altered_dict_is_refused_by_what_was_altered(alter, said, by_hand):
    data = json.loads(json.dumps(Tree([by_hand("abc"), by_hand("abd")]).to_dict()))
    assert len(Tree.from_dict(data)) == 2
    alter(data)
    with pytest.raises(ValueError, match="not a dict that Tree.to_dict made: ") as caught:
        Tree.from_dict(data)
    assert said in str(caught.value)


@pytest.mark.parametrize("data", [None, 7, [], {}, "tree", {"format": 1}])
def test_what_is_no_dict_of_a_tree_is_refused(data):
    with pytest.raises(ValueError, match="not a dict that Tree.to_dict made: ."):
        Tree.from_dict(data)


def test_a_tree_can_be_pickled_and_goes_on(tree):
    tree.prune(1)
    again = pickle.loads(pickle.dumps(tree))
    assert again == tree and again.undo() == "branch 1 pruned"


def test_a_wide_tree_is_written_without_comparing_all_records_with_all(by_hand, monkeypatch):
    compare, compared = shared_steps.n_alike, []

    def counted(a, b):
        compared.append(a)
        return compare(a, b)

    monkeypatch.setattr(shared_steps, "n_alike", counted)
    tree = Tree(by_hand(f"{k:03d}") for k in range(120))
    assert Tree.from_dict(tree.to_dict()) == tree
    assert len(compared) <= 3 * len(tree)  # of pairs there are 7140

"""A tree of branches: its structure follows from the paths, its changes can be undone."""

from __future__ import annotations

import copy
import itertools
import math
import threading
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest

from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.record import StepRecord
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.tree.changes import MOST_UNDO
from mullama_lab.engine.tree.nodes import LONGEST_NAME, nodes_of
from mullama_lab.engine.tree.text import chance


def texts(tree):
    return [node.text for node in tree.nodes]


# Structure


def test_one_path_is_the_prompt_and_one_segment(by_hand):
    tree = Tree([by_hand("abc")])
    assert [(n.key, n.parent, n.children, n.text) for n in tree.nodes] == [
        ("root", None, ("1.0",), ""),
        ("1.0", "root", (), "abc"),
    ]


def test_paths_part_where_their_tokens_do(by_hand):
    tree = Tree([by_hand("abcde"), by_hand("abxy"), by_hand("abxz")])
    assert [(n.key, n.parent, n.text, n.branches, n.ends) for n in tree.nodes[1:]] == [
        ("1.0", "root", "ab", (1, 2, 3), ()),
        ("2.2", "1.0", "x", (2, 3), ()),
        ("3.3", "2.2", "z", (3,), (3,)),
        ("2.3", "2.2", "y", (2,), (2,)),
        ("1.2", "1.0", "cde", (1,), (1,)),
    ]


def test_a_path_that_begins_another_ends_inside_it(by_hand):
    tree = Tree([by_hand("ab"), by_hand("abcd")])
    assert [(n.text, n.ends, n.children) for n in tree.nodes[1:]] == [
        ("ab", (1,), ("2.2",)),
        ("cd", (2,), ()),
    ]
    assert [leaf.text for leaf in tree.leaves] == ["cd"]


def test_a_path_of_no_tokens_ends_at_the_prompt(by_hand):
    tree = Tree([by_hand(""), by_hand("a")])
    assert tree.root.ends == (1,) and texts(tree) == ["", "a"]


def test_branches_off_one_trunk_are_set_in_by_one(by_hand):
    trunk = "a" * 200
    tree = Tree([by_hand(trunk), *(by_hand(trunk[:i] + "b") for i in range(1, 200))])
    assert max(node.level for node in tree.nodes) == 200
    assert max(node.indent for node in tree.nodes) == 1


def test_segments_laid_end_to_end_are_the_paths(tree, traces):
    for branch in tree:
        segments = [node for node in tree.nodes if branch.number in node.branches]
        assert np.concatenate([n.tokens for n in segments]).tolist() == branch.trace.tokens.tolist()
        assert b"".join(p for n in segments for p in n.pieces) == b"".join(branch.trace.pieces)
    assert len({tuple(t.tokens.tolist()) for t in traces}) == len(tree)


def test_the_order_of_adding_changes_numbers_not_segments(traces):
    one = {(n.start, n.stop, *n.tokens.tolist()) for n in Tree(traces).nodes}
    other = {(n.start, n.stop, *n.tokens.tolist()) for n in Tree(traces[::-1]).nodes}
    assert one == other


def test_nodes_agree_with_all_pairs_compared(tree):
    """The slow way: a segment ends where two paths part, or where one ends."""
    paths = [tuple(b.trace.tokens.tolist()) for b in tree]
    ends = set(paths)
    for a, b in itertools.combinations(paths, 2):
        n = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        ends |= {a[:n]}
    found = {tuple(n.trace.tokens[: n.stop].tolist()) for n in tree.nodes}
    assert found == ends | {()}


def test_no_nodes_are_forgotten_in_a_wide_tree(by_hand):
    letters = [chr(c) for c in range(0x21, 0x7F)]
    nodes = nodes_of(Tree(map(by_hand, letters)).branches)
    assert [n.text for n in nodes[1:]] == [*letters[1:], letters[0]]


def test_given_paths_stand_with_the_likeliest_first(by_hand):
    chances = {"a": 0.1, "b": 0.4, "c": 0.2, "d": math.nan}
    tree = Tree(by_hand(letter, chances=[p], given=True) for letter, p in chances.items())
    assert [(n.text, n.turns) for n in tree.nodes[1:]] == [
        ("b", True),
        ("c", True),
        ("a", True),
        ("d", False),
    ]
    assert tree.root.children == ("2.0", "3.0", "1.0", "4.0")


def test_a_drawn_path_keeps_its_column_and_stands_below_what_turns_off_it(by_hand):
    """Whatever the chances are, and also where the others were there before."""
    given = [by_hand(x, chances=[p], given=True) for x, p in (("a", 0.1), ("b", 0.3))]
    drawn = [by_hand(x, chances=[p]) for x, p in (("c", 0.2), ("d", 0.4))]
    nodes = Tree([*given, *drawn]).nodes[1:]
    assert [(n.text, n.indent) for n in nodes] == [("d", 1), ("b", 1), ("a", 1), ("c", 0)]


# Probability


def test_the_probability_of_a_leaf_is_that_of_its_trace(tree):
    for leaf in tree.leaves:
        trace = tree.branch(leaf.ends[0]).trace
        assert leaf.logprob == trace.logprob.sum(dtype=np.float64)
        assert leaf.logprob_after == trace.logprob_after.sum(dtype=np.float64)


def test_a_node_is_as_likely_as_its_parent_times_its_steps(tree):
    """But for rounding: the parent's steps may be those of another trace."""
    for node in tree.nodes[1:]:
        steps = node.trace.logprob[node.start : node.stop].sum(dtype=np.float64)
        assert node.logprob == pytest.approx(tree.node(node.parent).logprob + steps, abs=1e-4)


def test_the_mass_of_all_paths_is_one(by_hand):
    halves = ["".join(letters) for letters in itertools.product("ab", repeat=4)]
    assert Tree(map(by_hand, halves)).mass == pytest.approx(1.0)
    assert Tree(map(by_hand, halves[:4])).mass == pytest.approx(0.25)
    assert Tree([by_hand("ab"), by_hand("abab")]).mass == pytest.approx(1 / 16)  # no path twice


def test_what_a_chain_had_removed_has_no_chance_after_it(by_hand):
    data = by_hand("ab").to_dict()
    data["columns"]["logprob_after"][1] = -math.inf
    trace = Trace.from_dict(data)
    branch = Tree([trace]).branches[0]
    assert branch.logprob == pytest.approx(math.log(0.25)) and branch.logprob_after == -math.inf
    assert chance(branch.logprob_after) == "0" and chance(math.nan) == "n/a"


def test_the_prompt_cannot_be_written_to(tree):
    for one in (tree, Tree.from_dict(tree.to_dict())):
        with pytest.raises(ValueError, match="read-only"):
            one.prompt_tokens[0] = 5


# Changing it


def test_undo_then_redo_is_the_identity(tree, by_hand):
    tree.prune(3)
    tree.rename(1, "first")
    tree.add(by_hand("zz", prompt=tree.prompt_tokens))
    after = copy.deepcopy(tree)
    assert [tree.undo(), tree.undo(), tree.undo()] == [
        f"branch {len(tree) + 1} added", "branch 1 renamed", "branch 3 pruned",
    ]  # fmt: skip
    while tree.to_redo:
        tree.redo()
    assert tree == after and tree.to_undo == after.to_undo


def test_undo_brings_back_what_was_before(tree):
    before = copy.deepcopy(tree)
    changes = [
        lambda: tree.prune(2),
        lambda: tree.prune(tree.nodes[-1].key),
        lambda: tree.rename(1, "x"),
        lambda: tree.extend(1, longer(tree.branch(1).trace)),
    ]
    for change in changes:
        change()
        tree.undo()
        assert tree == before


def longer(trace):
    path = Trace.from_dict(trace.to_dict())
    none = np.array([], np.int32), np.array([], np.float32)
    path.append(StepRecord(36, b"!", b"!", -1.0, -1.0, 0, 0.0, 0.0, *none, *none))
    return path


def test_a_change_after_undo_forgets_what_could_be_redone(tree):
    tree.prune(1)
    tree.undo()
    tree.rename(2, "b")
    assert not tree.to_redo
    with pytest.raises(ValueError, match="nothing to redo"):
        tree.redo()


def test_undo_reaches_back_a_bounded_way(by_hand):
    tree = Tree([by_hand("ab")])
    for i in range(MOST_UNDO + 20):
        tree.rename(1, f"name {i}")
    for _ in range(MOST_UNDO):
        tree.undo()
    assert tree.branch(1).name == "name 19" and not tree.to_undo
    with pytest.raises(ValueError, match="nothing to undo"):
        tree.undo()


def test_a_path_is_there_once(by_hand):
    tree = Tree([by_hand("ab")])
    assert tree.add(by_hand("ab"), name="again") is tree.branch(1)
    assert len(tree) == 1 and not tree.to_undo and tree.branch(1).name == ""


def test_many_paths_are_added_as_one_change_and_those_that_are_there_stay_as_they_are(by_hand):
    tree = Tree([by_hand("ab")])
    tree.rename(1, "kept")
    new = tree.add_many([by_hand(text) for text in ("ac", "ab", "ad", "ac")])
    assert [branch.number for branch in new] == [2, 3]
    assert [branch.name for branch in tree] == ["kept", "", ""]
    assert tree.undo() == "2 branches added" and len(tree) == 1
    assert tree.add_many([by_hand("ab")]) == [] and tree.to_redo == "2 branches added"
    with pytest.raises(ValueError, match="another prompt"):
        tree.add_many([by_hand("ae"), by_hand("af", prompt=(5,))])
    with pytest.raises(ValueError, match="another prompt"):
        Tree().add_many([by_hand("ae"), by_hand("af", prompt=(5,))])
    assert len(tree) == 1
    tree.add_many([by_hand("ax")], "an exploration")
    assert tree.undo() == "an exploration added"


def test_pruning_a_node_takes_every_branch_through_it(by_hand):
    tree = Tree([by_hand("abc"), by_hand("abd"), by_hand("x")])
    assert [branch.number for branch in tree.prune("1.0")] == [1, 2]
    assert texts(tree) == ["", "x"]
    assert tree.prune("root") and len(tree) == 0 and texts(tree) == [""]
    assert tree.prune("root") == () and tree.undo() == "branch 3 pruned"


def test_numbers_are_never_given_twice(by_hand):
    tree = Tree([by_hand("a"), by_hand("b")])
    tree.prune(2)
    assert tree.add(by_hand("c")).number == 3


def test_a_key_outlives_what_is_added_elsewhere(by_hand):
    tree = Tree([by_hand("abcd")])
    tree.add(by_hand("abxx"))
    tree.add(by_hand("abxy"))
    assert tree.node("3.3").text == "y"
    tree.add(by_hand("aq"))
    assert tree.node("3.3").text == "y" and tree.path("3.3").text == "abxy"


def test_a_branch_goes_on(by_hand):
    tree = Tree([by_hand("ab"), by_hand("ac")])
    tree.extend(1, by_hand("abab"))
    assert tree.branch(1).trace.text == "abab" and len(tree) == 2
    with pytest.raises(ValueError, match="does not go on from branch 1"):
        tree.extend(1, by_hand("acab"))
    with pytest.raises(ValueError, match="does not go on from branch 1"):
        tree.extend(1, by_hand("abab"))
    tree.add(by_hand("acc"))
    with pytest.raises(ValueError, match="that path is branch 3 already"):
        tree.extend(2, by_hand("acc"))


def test_who_watches_is_told_of_each_change_until_they_stop(by_hand):
    tree, told = Tree([by_hand("ab")]), []
    stop = tree.on_change(lambda: told.append(len(tree)))
    tree.add(by_hand("b"))
    tree.add(by_hand("b"))  # there already: no change
    tree.rename(1, "x")
    tree.rename(1, "x")
    tree.undo()
    stop()
    tree.undo()
    assert told == [2, 2, 2]


def test_of_two_threads_that_bring_different_prompts_one_is_refused(by_hand, monkeypatch):
    tree, refused, find = Tree(), [], Tree.find
    both = threading.Barrier(2)

    def met(tree, trace):
        """Comes after the prompt was checked: the other thread gets time to come as far."""
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return find(tree, trace)

    monkeypatch.setattr(Tree, "find", met)

    def add(prompt):
        try:
            tree.add(by_hand("ab", prompt=prompt))
        except ValueError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=add, args=(prompt,)) for prompt in ((1, 2), (1, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tree) == 1 and len(refused) == 1 and "another prompt" in refused[0]


def test_threads_that_change_it_at_once_lose_nothing(by_hand):
    tree = Tree([by_hand("ab")])
    names = [chr(c) for c in range(0x21, 0x71)]

    def add(part):
        for name in part:
            tree.add(by_hand(name))

    threads = [threading.Thread(target=add, args=(names[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(b.trace.text for b in tree) == sorted([*names, "ab"])
    assert sorted(b.number for b in tree) == list(range(1, len(names) + 2))


# What it refuses


def test_an_empty_tree_says_so():
    tree = Tree()
    assert repr(tree) == "Tree(empty)" and len(tree) == 0 and tree.leaves == ()
    assert tree.mass == 0 and tree.prompt == "" and len(tree.nodes) == 1
    assert len(tree.to_pandas()) == 1 and Tree.from_dict(tree.to_dict()) == tree
    with pytest.raises(ValueError, match="the tree is empty: add a trace first"):
        tree.path("root")


def test_a_trace_with_another_prompt_is_refused(tree, by_hand):
    with pytest.raises(ValueError, match="another prompt.*alike for 1. Start another Tree"):
        Tree([by_hand("a")]).add(by_hand("a", prompt=(1, 3, 4)))
    with pytest.raises(ValueError, match="another prompt"):
        tree.add(by_hand("a"))


def test_what_is_no_finished_trace_is_refused(by_hand):
    with pytest.raises(ValueError, match="still running. Add it when"):
        Tree().add(by_hand("a", finish=""))
    with pytest.raises(TypeError, match="a tree takes Traces, not str"):
        Tree().add("a")


def test_what_is_not_there_is_named_with_what_is(tree):
    with pytest.raises(ValueError, match="no node '9.9'. There are root, 2.0, .*, …"):
        tree.node("9.9")
    with pytest.raises(ValueError, match="no node 7"):
        tree.node(7)
    with pytest.raises(ValueError, match="no branch 99. There are 1, 2"):
        tree.prune(99)
    with pytest.raises(TypeError, match="must be a whole number"):
        tree.rename(1.5, "x")
    with pytest.raises(ValueError, match="no node 'xxx.*…"):
        tree.prune("x" * 10_000)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 10_000, "10000 characters; the most is 80. Give a shorter one"),
        ("two\nlines", "U\\+000A, which breaks or turns"),
        ("\u202eabc", "U\\+202E"),
        ("a\u2066b", "U\\+2066"),
        ("\x00", "U\\+0000"),
        ("\u2028", None),  # blank at both ends is cut off
        ("a\u2028b", "U\\+2028"),
        ("\ud800", "U\\+D800"),
    ],
)
def test_a_name_that_breaks_or_turns_a_line_is_refused(name, message, by_hand):
    tree = Tree([by_hand("ab")])
    if message is None:
        assert tree.rename(1, name).name == ""
        return
    for call in (lambda: tree.rename(1, name), lambda: tree.add(by_hand("c"), name=name)):
        with pytest.raises(ValueError, match=message):
            call()
    assert len(tree) == 1 and tree.branch(1).name == "" and not tree.to_undo


def test_a_name_may_be_of_any_script(by_hand):
    tree = Tree([by_hand("ab")])
    for name in ("naïve 🧭", "שלום", "日本語", "می‌خواهم", "x" * LONGEST_NAME):
        assert tree.rename(1, name).name == name
    with pytest.raises(TypeError, match="a name is a text, not int"):
        tree.rename(1, 5)


@pytest.mark.parametrize("at_once", [True, False])
def test_to_add_a_branch_reads_no_more_the_more_there_are(by_hand, monkeypatch, at_once):
    """What is read of the tokens grows with the branches, not with their square."""
    column, n_read = Trace.column, Counter()

    def counted(trace, name):
        n_read[name] += 1
        return column(trace, name)

    monkeypatch.setattr(Trace, "column", counted)

    def n_reads(n):
        traces = [by_hand(f"{k:03d}") for k in range(n)]
        n_read.clear()
        tree = Tree(traces if at_once else traces[:1])
        for trace in traces[len(tree) :]:
            tree.add(trace)
        assert len(tree) == n
        return n_read["token"]

    assert n_reads(80) <= 5 * n_reads(20)

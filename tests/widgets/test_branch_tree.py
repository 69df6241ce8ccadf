"""The branch tree on a tiny model: rows, requests, names, undo, runs that are followed."""

from __future__ import annotations

import gc
import json
import math
import re
import weakref
from typing import Any

import numpy as np
import pytest
from page import reply_to, text_of

from mullama_lab.engine.stages import Mask, Temperature
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.record import StepRecord
from mullama_lab.engine.tree import Tree
from mullama_lab.widgets import BranchTree, _tree_rows

AB = Mask(allow=[b + 3 for b in b"ab"]) | Temperature(2.0)


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=2) as session:
        yield session


@pytest.fixture(scope="module")
def traces(session):
    return [session.generate("x", AB, max_tokens=6, seed=seed, top=8) for seed in range(10)]


@pytest.fixture
def tree(traces):
    return Tree(traces)


@pytest.fixture
def view(tree):
    view = BranchTree(tree)
    yield view
    view.close()


def ask(view: BranchTree, op: str, **args: Any) -> dict[str, Any]:
    return reply_to(view, op, args)


def refused(view: BranchTree, op: str, **args: Any) -> str:
    reply = ask(view, op, **args)
    assert not reply["ok"]
    return reply["error"]


# Rows


def test_there_is_a_row_for_each_node_in_reading_order(view, tree):
    rows = ask(view, "rows")["rows"]
    assert [row["key"] for row in rows] == [node.key for node in tree.nodes]
    for row, node in zip(rows, tree.nodes):
        assert row["logprob"] == node.logprob and row["stop"] == node.stop
        assert bytes.fromhex(row["first"] + row["rest"]) == b"".join(node.pieces)
        assert row["branch"] == (node.ends[0] if node.ends else 0)


def test_of_a_long_segment_both_ends_are_sent_where_paths_part_and_the_beginning_else(session):
    trace = session.generate("x", AB, max_tokens=150, seed=3, top=8)
    other = next(int(t) for t in trace.top_ids[140] if t != trace.tokens[140])
    branch = session.branch(trace, 140, other, AB, max_tokens=4)
    view = BranchTree(Tree([trace, branch]))
    trunk = ask(view, "rows")["rows"][1]
    text = trace.text[:140]
    first, rest, tail = (bytes.fromhex(trunk[name]).decode() for name in ("first", "rest", "tail"))
    assert trunk["cut"] and text.startswith(first + rest) and text.endswith(tail)
    assert (len(rest), len(tail)) == (64, 32)
    alone = ask(BranchTree(Tree([trace])), "rows")["rows"][1]
    assert alone["cut"] and not alone["tail"] and len(alone["rest"]) == 2 * 96


def test_a_segment_is_read_in_full_after_what_its_path_has_before_it(session, traces):
    trace = session.generate("x", AB, max_tokens=150, seed=3, top=8)
    other = next(int(t) for t in trace.top_ids[140] if t != trace.tokens[140])
    branch = session.branch(trace, 140, other, AB, max_tokens=4)
    view = BranchTree(Tree([trace, branch]))
    prompt, trunk, turned = (row["key"] for row in ask(view, "rows")["rows"][:3])
    assert bytes.fromhex(ask(view, "text", key=trunk)["text"]).decode() == trace.text[:140]
    reply = ask(view, "text", key=turned)
    assert bytes.fromhex(reply["before"]).decode().endswith("x" + trace.text[:140])
    assert bytes.fromhex(reply["text"]).decode() == branch.text[140:] and not reply["cut"]
    assert bytes.fromhex(ask(view, "text", key=prompt)["text"]).decode().endswith("x")


def test_another_tree_is_told_from_a_changed_one(view, tree, traces):
    shown = ask(view, "rows")["tree"]
    tree.rename(1, "x")
    assert ask(view, "rows")["tree"] == shown
    view.tree = Tree(traces[:2])
    assert ask(view, "rows")["tree"] != shown


def test_the_first_tokens_of_siblings_add_up_to_what_they_have_together(view):
    rows = ask(view, "rows")["rows"]
    for parent in rows:
        chances = [row["p"] for row in rows if row["parent"] == parent["key"]]
        assert all(0 < p < 1 for p in chances) and sum(chances) <= 1


def test_siblings_are_numbered_as_they_are_read(view):
    rows = ask(view, "rows")["rows"]
    for parent in rows:
        family = [row for row in rows if row["parent"] == parent["key"]]
        assert [row["place"] for row in family] == list(range(1, len(family) + 1))
        assert all(row["family"] == len(family) == parent["children"] for row in family)


def test_rows_are_json_even_where_chances_are_unknown_or_none():
    tree = Tree([])
    trace = Trace(prompt_tokens=[1], top=1)
    trace.finish_reason = "length"
    tree.add(trace)
    text = json.dumps(_tree_rows.rows(tree, lambda branch: branch.label), allow_nan=False)
    assert json.loads(text)["rows"][0]["key"] == "root"
    for value, sent in ((math.nan, None), (-math.inf, "-inf"), (-1.5, -1.5)):
        assert _tree_rows._number(value) == sent


def test_a_chance_the_chain_had_removed_reaches_the_browser(traces):
    data = traces[0].to_dict()
    data["columns"]["logprob_after"][2] = -math.inf
    forced = Trace.from_dict(data)
    rows = ask(BranchTree(Tree([forced])), "rows")["rows"]
    assert rows[-1]["logprob_after"] == "-inf"
    json.dumps(rows, allow_nan=False)


def test_an_empty_tree_is_a_view_too():
    view = BranchTree()
    assert ask(view, "rows")["rows"][0]["parent"] is None
    assert text_of(view) == "Tree(empty)" and view.n == 0
    assert "empty: add a trace first" in refused(view, "select", key="root")
    assert "No branches yet" in view._still_forms()["text/html"]
    assert ask(view, "prune", key="root")["pruned"] == []


# Changing it


def test_a_change_from_anywhere_is_seen(view, tree):
    revision = view.revision
    tree.rename(1, "first")
    assert view.revision == revision + 1 and view.to_undo == "branch 1 renamed"
    tree.prune(2)
    assert view.n == len(tree)
    assert ask(view, "undo")["change"] == "branch 2 pruned" and view.to_redo == "branch 2 pruned"


def test_what_the_browser_asks_for_is_done(view, tree):
    n = len(tree)
    assert ask(view, "rename", number=1, name="  north ")["ok"]
    assert tree.branch(1).name == "north"
    key = tree.leaves[0].key
    assert ask(view, "prune", key=key)["pruned"] and len(tree) == n - 1
    assert ask(view, "undo")["ok"] and ask(view, "redo")["ok"] and len(tree) == n - 1


def test_a_selected_path_is_told_and_forgotten_when_it_is_gone(view, tree):
    told = []
    stop = view.on_select(lambda node, trace: told.append((node.key, trace.tokens.tolist())))
    leaf = tree.leaves[0]
    assert ask(view, "select", key=leaf.key)["ok"]
    assert view.selected == leaf.key
    assert told == [(leaf.key, tree.branch(leaf.ends[0]).trace.tokens.tolist())]
    inner = next(node for node in tree.nodes if not node.ends and len(node))
    assert len(view.select(inner.key)) == inner.stop
    stop()
    view.select(leaf.key)
    assert len(told) == 2
    tree.prune(leaf.ends[0])
    assert view.selected == ""


def test_two_to_four_branches_are_compared_by_token(view, tree):
    reply = ask(view, "compare", numbers=[1, 2])
    a, b = (tree.branch(n).trace.tokens for n in (1, 2))
    first = next(i for i, (x, y) in enumerate(zip(a, b)) if x != y)
    assert reply["first"] == first and view.compared == [1, 2]
    assert reply["sides"][1]["kl"]["nats"] < 1e-5  # one history, one row
    tree.prune(2)
    assert view.compared == [1]
    assert "from 2 to 4" in refused(view, "compare", numbers=[1, 1])
    assert ask(view, "compare", numbers=[])["ok"] and view.compared == []


def test_another_tree_takes_its_place_and_the_old_one_is_let_go(view, tree, traces):
    other = Tree(traces[:2])
    view.select("1.0" if "1.0" in {n.key for n in tree.nodes} else tree.leaves[0].key)
    view.tree = other
    assert view.n == len(other) and view.selected == ""
    revision = view.revision
    tree.rename(1, "x")
    assert view.revision == revision
    with pytest.raises(TypeError, match="tree is a str; give a Tree"):
        view.tree = "x"


def test_a_tree_does_not_keep_its_views_alive(tree):
    view = weakref.ref(BranchTree(tree))
    import ipywidgets

    ipywidgets.Widget.close_all()
    gc.collect()
    assert view() is None
    tree.rename(1, "still works")


# What it refuses


@pytest.mark.parametrize(
    ("op", "args", "says"),
    [
        ("select", {"key": "9.9"}, "no node '9.9'"),
        ("select", {"key": 5}, "must be a text of 1 to 64"),
        ("select", {}, "must be a text of 1 to 64"),
        ("text", {"key": "9.9"}, "no node '9.9'"),
        ("prune", {"key": "x" * 10_000}, "must be a text of 1 to 64"),
        ("rename", {"number": 1, "name": "a\nb"}, "U\\+000A"),
        ("rename", {"number": 1, "name": "\u202eabc"}, "U\\+202E"),
        ("rename", {"number": 1, "name": "x" * 10_000}, "10000 characters; the most is 80"),
        ("rename", {"number": 1, "name": 5}, "a name is a text"),
        ("rename", {"number": 99, "name": "x"}, "no branch 99"),
        ("rename", {"number": True, "name": "x"}, "number is True"),
        ("rename", {"number": 1e400, "name": "x"}, "number is inf"),
        ("compare", {"numbers": [1, 99]}, "no branch 99"),
        ("compare", {"numbers": list(range(1, 99))}, "two to four"),
        ("compare", {"numbers": [1, "2"]}, "whole number"),
        ("compare", {}, "two to four"),
        ("undo", {}, "nothing to undo"),
        ("redo", {}, "nothing to redo"),
        ("eval", {"code": "1"}, "no request 'eval'"),
    ],
)
def test_hostile_requests_are_refused_in_words(view, tree, op, args, says):
    before = repr(tree)
    message = refused(view, op, **args)
    assert re.search(says, message), message
    assert repr(tree) == before and len(message) < 400


def test_a_text_of_any_bytes_is_shown_as_what_it_is():
    trace = Trace(prompt_tokens=[1], top=1)
    none = np.array([], np.int32), np.array([], np.float32)
    hostile = ["\u202e".encode(), b"\xff\xfe", b"<script>", "😀".encode()[:2], "😀".encode()[2:]]
    for i, piece in enumerate(hostile):
        trace.append(StepRecord(i, piece, piece, 0.0, 0.0, 0, 0.0, 0.0, *none, *none))
    trace.finish_reason = "length"
    tree = Tree([trace])
    html = BranchTree(tree)._still_forms()["text/html"]
    assert "\u202e" not in html and "<script>" not in html
    assert "[RLO]" in html and "[FF]" in html and "😀" in html


# Runs


def test_a_branch_in_the_making_is_shown_until_it_ends(session, tree):
    view = BranchTree(tree)
    seen: list[dict[str, Any]] = []
    view.observe(lambda change: seen.extend(change["new"]), "growing")
    trace = tree.branch(1).trace
    token = next(int(t) for t in trace.top_ids[2] if t != trace.tokens[2])
    run = session.start_branch(trace, 2, token, max_tokens=30)
    view.follow(run)
    view.settle()
    run.wait()
    assert view.growing == [] and seen
    assert {entry["from"] for entry in seen} <= set(range(len(trace)))
    assert all(len(bytes.fromhex(entry["text"])) <= 40 for entry in seen)


# Forms


def test_it_has_three_forms_and_the_plain_one_is_the_same_each_time(view, tree):
    data, _ = view._repr_mimebundle_()
    assert set(data) >= {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert data["text/plain"] == BranchTree(tree)._repr_mimebundle_()[0]["text/plain"]
    assert data["text/plain"].startswith(f"Tree({len(tree)} branches from ")
    assert "<script" not in data["text/html"] and len(data["text/html"]) < 60_000


def test_what_it_adds_to_a_notebook_stays_small(session):
    many = [session.generate("x", Temperature(2.0), max_tokens=8, seed=i) for i in range(200)]
    view = BranchTree(Tree(many))
    state = {k: v for k, v in view.get_state().items() if k not in ("_esm", "_css", "layout")}
    assert len(json.dumps(state, default=str)) < 2_000
    assert len(view._still_forms()["text/html"]) < 60_000
    assert len(json.dumps(ask(view, "rows"))) < 400_000


def test_its_code_shows_it_again(tree):
    scope = {"tree": tree}
    code = BranchTree(tree, title='it\'s "here"').to_code()
    exec(code.replace("\nBranchTree(", "\nview = BranchTree("), scope)
    assert scope["view"].tree is tree and scope["view"].title == 'it\'s "here"'


@pytest.mark.parametrize("ascending", [False, True])
def test_its_code_sorts_as_a_person_did(view, tree, ascending):
    assert "sort" not in view.to_code()
    for _ in range(1 + ascending):
        ask(view, "sort", by="after")
    scope = {"tree": tree}
    exec(view.to_code(), scope)
    again = scope["view"]
    assert (again.sorted_by, again.ascending) == ("after", ascending)
    assert ask(again, "rows")["rows"] == ask(view, "rows")["rows"]


def test_a_branch_without_a_name_is_called_after_what_it_is_elsewhere(view, tree):
    def called():
        return {row["branch"]: row["called"] for row in ask(view, "rows")["rows"] if row["branch"]}

    assert set(called().values()) == {f"branch {branch.number}" for branch in tree}
    revision, second = view.revision, tree.branch(2)
    tree.rename(1, "mine")
    known = {id(second.trace): "run 7"}
    view.call_with(lambda trace: known.get(id(trace), ""))
    assert view.revision > revision and called()[2] == "run 7" and called()[1] == "branch 1"
    assert [side.label for side in view.compare(1, 2).sides] == ["mine", "run 7"]
    tree.prune(2)
    assert view.to_undo == "run 7 pruned" and ask(view, "undo")["change"] == "run 7 pruned"
    known[id(second.trace)] = "run 8"
    view.call_anew()
    assert called()[2] == "run 8" and view.to_redo == "run 8 pruned"


# Sorting


def keys_of(rows, parent):
    return [row["key"] for row in rows if row["parent"] == parent]


@pytest.mark.parametrize("by", list(_tree_rows.FIGURES))
@pytest.mark.parametrize("ascending", [False, True])
def test_siblings_stand_by_a_figure_and_parents_before_their_children(view, tree, by, ascending):
    figure = _tree_rows.FIGURES[by]
    view.sort(by, ascending=ascending)
    rows = ask(view, "rows")["rows"]
    own = {node.key: node for node in tree.nodes}
    assert {row["key"] for row in rows} == set(own)
    assert any(len(node.children) > 1 for node in own.values())
    path: list[str] = []
    for row in rows:
        del path[row["level"] - 1 :]
        assert row["parent"] == (path[-1] if path else None)  # below what it hangs on
        path.append(row["key"])
        values = [figure(own[key]) for key in keys_of(rows, row["key"])]
        assert values == sorted(values, reverse=not ascending)
        assert sorted(keys_of(rows, row["key"])) == sorted(own[row["key"]].children)


def test_of_sorted_siblings_the_last_goes_on_in_the_column_of_its_parent(view):
    view.sort("path")
    rows = {row["key"]: row for row in ask(view, "rows")["rows"]}
    for row in rows.values():
        children = keys_of(rows.values(), row["key"])
        assert [rows[key]["turns"] for key in children] == [key != children[-1] for key in children]
        assert [rows[key]["place"] for key in children] == list(range(1, len(children) + 1))
        for key in children:
            assert rows[key]["indent"] == row["indent"] + rows[key]["turns"]


def test_unknown_figures_are_last_whichever_way(view, tree):
    some = next(node for node in tree.nodes if len(node.children) > 1)
    unknown = some.children[0]
    keep, _tree_rows.FIGURES["first"] = (
        _tree_rows.FIGURES["first"],
        lambda node: None if node.key == unknown else node.stop,
    )
    try:
        for ascending in (False, True):
            view.sort("first", ascending=ascending)
            assert keys_of(ask(view, "rows")["rows"], some.key)[-1] == unknown
    finally:
        _tree_rows.FIGURES["first"] = keep


def test_a_heading_sorts_down_then_up_then_not_at_all(view, tree):
    said = []
    for by in ("path", "path", "path", "path", "n"):
        revision = view.revision
        assert ask(view, "sort", by=by)["ok"] and view.revision > revision
        said.append((view.sorted_by, view.ascending))
    assert said == [("path", False), ("path", True), ("", False), ("path", False), ("n", False)]
    view.sort()
    assert [row["key"] for row in ask(view, "rows")["rows"]] == [node.key for node in tree.nodes]
    assert "sorted_by" in refused(view, "sort", by="name")

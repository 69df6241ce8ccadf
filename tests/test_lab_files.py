"""Save and Open of a lab on the screen: a file of the working folder, nothing lost by a press."""

from __future__ import annotations

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import SessionError


@pytest.fixture
def lab(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lab = ml.Workbench(tiny_model, "Hello", seed=7, max_tokens=6, panels=["tree", "what-if"])
    lab.run()
    yield lab
    lab.close()


def ask(lab, op, name="", *, is_sure=False):
    return lab._arrangement._answer(op, {"name": name, "is_sure": is_sure} if name else {})[0]


def numbers(lab):
    return [run.number for run in lab.panel.runs]


def test_a_lab_is_saved_by_a_name_and_goes_on_from_it(lab, tmp_path):
    assert ask(lab, "files") == {"names": [], "folder": str(tmp_path), "ok": True}
    saved = ask(lab, "save", " first ")
    assert saved == {"said": "Saved 1 run to first.lab.", "asks": False, "ok": True}
    assert ask(lab, "files")["names"] == ["first.lab"]
    chain, first = lab.chain, lab.trace
    lab.set(prompt="Elsewhere", seed=8)
    lab.chain = ml.TopK(3) | ml.Temperature(0.5)
    lab.panels = ["samplers"]
    lab.run()
    assert ask(lab, "save", "second.lab")["said"] == "Saved 2 runs to second.lab."
    assert ask(lab, "open", "first")["said"] == "Opened first.lab: 1 run."
    lab.wait()
    assert (lab.panel.prompt, lab.panel.seed, lab.chain) == ("Hello", 7, chain)
    assert numbers(lab) == [1] and lab.panels == ["tree", "what-if"]
    assert lab.trace.tokens.tolist() == first.tokens.tolist() and len(lab.tree) == 1
    lab.run()
    lab.wait()
    assert numbers(lab) == [1, 2] and "choices differs" in lab.what_if.line
    assert not ask(lab, "save", "first")["asks"], "it is the file of this lab"


def test_a_file_that_is_there_and_runs_in_no_file_are_replaced_by_a_second_press(lab, tmp_path):
    (tmp_path / "old.lab").write_text("of somebody")
    said = "old.lab is there. Press Save again to replace it."
    assert ask(lab, "save", "old") == {"said": said, "asks": True, "ok": True}
    assert (tmp_path / "old.lab").read_text() == "of somebody"
    assert ask(lab, "save", "old", is_sure=True)["said"] == "Saved 1 run to old.lab."
    lab.run()
    asked = ask(lab, "open", "old")
    assert asked["asks"] and asked["said"].startswith("1 run here would be gone: save first")
    assert numbers(lab) == [1, 2]
    assert not ask(lab, "open", "old", is_sure=True)["asks"]
    assert numbers(lab) == [1]


def test_what_cannot_be_saved_or_opened_is_said_and_changes_nothing(lab, tmp_path):
    ask(lab, "save", "first")
    before = lab.to_code(), numbers(lab), lab.trace
    (tmp_path / "folder.lab").mkdir()
    (tmp_path / "notes.lab").write_text("no lab")
    deeper = tiny.write(tmp_path / "deeper.gguf", n_layer=3)
    with ml.Model.load(deeper) as model:
        other = ml.Workbench(model, "Hello", max_tokens=2)
        other.run()
        other.save("other.lab")
        other.close()
    for op, name, said in [
        ("open", "none", "does not exist"),
        ("open", "notes", "is not a saved session or lab"),
        ("open", "other", "another model"),
        ("open", "folder", "folder.lab"),
        ("save", "folder", "could not be written"),
        ("save", "../up", "names no file of the working folder"),
        ("save", "..", "names no file of the working folder"),
    ]:
        reply = ask(lab, op, name, is_sure=True)
        assert not reply["ok"] and said in reply["error"], (op, name, reply)
        assert (lab.to_code(), numbers(lab)) == before[:2] and lab.trace is before[2]


def test_what_acted_on_the_weights_is_in_force_again_or_all_is_as_it_was(
    lab, adapter, tiny_path, tmp_path
):
    lab.adapters = {adapter: 0.5}
    lab.save("steered.lab")
    lab.adapters = {}
    lab.open_file("steered.lab")
    assert [one["name"] for one in lab.adapter_cards.cards] == ["adapter"]
    assert list(lab.session.adapters.values()) == [0.5]
    # of no other test: a model knows the adapters that it has read by what is in them
    pairs = {"blk.0.attn_q.weight": (np.full((2, 32), 0.3, "f4"), np.ones((64, 2), "f4"))}
    gone = tiny.write_adapter(tmp_path / "gone.gguf", pairs)
    with ml.Model.load(tiny_path) as model:
        other = ml.Workbench(model, "Hello")
        other.adapters = {ml.LoraAdapter.load(gone): 0.7}
        other.save("gone.lab")
        other.close()
    gone.unlink()
    lab.adapters = {}
    lab.control = happy = ml.ControlVector({1: [0.5] * 32}, name="happy")
    lab.wait()
    reply = ask(lab, "open", "gone", is_sure=True)
    assert "not to be had" in reply["error"]
    assert (dict(lab.session.adapters), lab.session.control) == ({}, happy)


def test_a_lab_is_not_opened_over_a_run(lab):
    lab.save("first.lab")
    for view in (lab.panel, lab.bar):
        before, view.state = view.state, "running"
        with pytest.raises(SessionError, match="is under way. Stop it"):
            lab.open_file("first.lab")
        view.state = before
    lab.open_file("first.lab")


def test_the_tree_of_the_lab_before_is_gone_also_where_the_prompt_of_the_file_has_none(lab):
    lab.wait()
    before, parent = lab.tree, lab.trace
    other = next(int(token) for token in parent.top_ids[2] if token != parent.tokens[2])
    branch = lab.branch(2, other)
    empty = ml.Workbench(lab.session, "Other", max_tokens=6)
    empty.save("typed.lab")
    empty.close()
    lab.open_file("typed.lab")
    assert lab.tree is not before and len(lab.tree) == 0
    assert lab._tree._parent_of(branch, 2) is None, "of the lab before"
    trace = lab.run()
    lab.wait()
    assert lab.tree.find(trace) is not None and len(lab.tree) == 1
    assert len(before) == 2


def test_a_run_of_another_prompt_than_the_typed_one_shows_with_its_tree(lab):
    lab.wait()
    lab.set(prompt="Other")
    lab.save("typed.lab")
    lab.open_file("typed.lab")
    assert lab.panel.prompt == "Other" and lab.tree.find(lab.trace) is not None
    trace = lab.run()
    lab.wait()
    assert [tree.prompt for tree in lab._tree.trees.all] == ["<s>Hello", "<s>Other"]
    assert lab.tree.find(trace) is not None


def test_a_path_that_ended_before_a_file_was_opened_joins_no_tree_of_it(lab):
    lab.wait()
    lab.save("first.lab")
    lab.set(seed=8)
    late = lab.start()
    trace = late.wait()
    lab.wait()
    lab._tree.running[late] = None  # its end is still on its way
    lab.open_file("first.lab")
    lab._tree._arrived(late)
    assert lab.tree.find(trace) is None and len(lab.tree) == 1


def test_a_tree_that_was_put_on_screen_takes_no_path_of_another_prompt(lab):
    lab.wait()
    given = ml.Tree([lab.trace])
    lab.branches.tree = given
    lab.set(prompt="Other")
    trace = lab.run()
    lab.wait()
    assert lab.tree is not given and lab.tree.find(trace) is not None

"""Save and Open of a lab on the screen: a file of the working folder, nothing lost by a press."""

from __future__ import annotations

import errno
import gc
import os
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from page import reply_to

import mullama_lab as ml
from mullama_lab.engine import sealed_file, tiny
from mullama_lab.errors import SessionError


@pytest.fixture
def lab(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lab = ml.Workbench(tiny_model, "Hello", seed=7, max_tokens=6, panels=["tree", "what-if"])
    lab.run()
    yield lab
    lab.close()


def ask(lab, op, name="", *, is_sure=False):
    return reply_to(lab._arrangement, op, {"name": name, "is_sure": is_sure} if name else {})


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


def test_a_name_with_a_point_in_it_is_listed_and_opened(lab, tmp_path):
    assert ask(lab, "save", "temp 0.7")["said"] == "Saved 1 run to temp 0.7.lab."
    assert ask(lab, "files")["names"] == ["temp 0.7.lab"]
    for name in ("temp 0.7", "temp 0.7.lab"):
        assert ask(lab, "open", name)["said"] == "Opened temp 0.7.lab: 1 run."


def test_a_file_is_replaced_at_once_only_as_long_as_it_is_as_the_lab_left_it(lab, tmp_path):
    first = tmp_path / "first.lab"
    assert not ask(lab, "save", "first")["asks"] and not ask(lab, "save", "first")["asks"]
    other = ml.Workbench(lab.session, "Other")
    assert ask(other, "save", "first")["said"].startswith("first.lab is there.")
    other.save("first.lab")
    theirs = first.read_bytes()
    asked = ask(lab, "save", "first")
    assert asked["asks"] and asked["said"] == (
        "first.lab was written to since it was saved or opened here. "
        "Press Save again to replace it."
    )
    assert first.read_bytes() == theirs
    assert not ask(lab, "save", "first", is_sure=True)["asks"]
    lab.save("second.lab")
    assert ask(lab, "save", "first")["asks"], "it is in the second one now"
    lab.open_file("first.lab")
    assert not ask(lab, "save", "first")["asks"]
    first.unlink()
    assert not ask(lab, "save", "first")["asks"]
    other.close()


def test_the_file_of_a_lab_is_that_of_its_model(lab, tmp_path):
    ask(lab, "save", "first")
    first = (tmp_path / "first.lab").read_bytes()
    with ml.Model.load(tiny.write(tmp_path / "deeper.gguf", n_layer=3)) as deeper:
        before = lab.session.model
        lab.load(deeper)
        assert ask(lab, "save", "first")["asks"]
        assert (tmp_path / "first.lab").read_bytes() == first
        lab.load(before)
        assert not ask(lab, "save", "first")["asks"]


def test_what_is_in_a_file_may_go_whoever_saved_or_opened_it(lab, tiny_model):
    lab.save("first.lab")
    assert ask(lab, "open", "first")["said"] == "Opened first.lab: 1 run."
    lab.open_file("first.lab")
    assert not ask(lab, "open", "first")["asks"]
    other = ml.Workbench.reopen("first.lab", tiny_model)
    assert not ask(other, "open", "first")["asks"] and not ask(other, "save", "first")["asks"]
    other.close()


def test_a_trace_that_is_listed_no_more_is_kept_by_nobody(lab):
    trace = ml.Trace.from_dict(lab.trace.to_dict())
    lab.panel.add(trace, show=False)
    ask(lab, "save", "first")
    gone = weakref.ref(trace)
    del trace
    lab.panel.clear()
    gc.collect()
    assert gone() is None


def test_work_on_the_tree_is_gone_only_by_a_second_press(lab):
    lab.wait()
    lab.save("first.lab")
    step, trace = 2, lab.trace
    other = next(int(token) for token in trace.top_ids[step] if token != trace.tokens[step])

    def goes(said):
        asked = ask(lab, "open", "first")
        assert asked["asks"] and asked["said"].startswith(f"{said} here would be gone: "), asked
        lab.wait()
        assert not ask(lab, "open", "first", is_sure=True)["asks"]
        lab.wait()
        assert not ask(lab, "open", "first")["asks"], "all of it is in the file"

    found = lab.explore(2, 2)
    lab.wait()
    n = len(lab.tree) - 1
    assert found and n > 1
    goes(f"{n} paths")
    lab.tree.rename(1, "mine")
    goes("changes of the tree")
    lab.tree.prune(1)
    goes("changes of the tree")
    lab.branch(step, other)
    lab.explore(2, 2)
    lab.wait()
    lab.tree.rename(1, "mine")
    goes(f"1 run, {len(lab.tree) - 2} paths and changes of the tree")
    lab.tree.rename(1, "mine")
    lab.tree.undo()
    assert not ask(lab, "open", "first")["asks"], "it is as it was"


def test_what_is_under_way_is_not_waited_for_and_said_to_be_in_no_file(lab):
    began, gate = threading.Event(), threading.Event()

    def wait(logits, history):
        began.set()
        gate.wait(60)
        return logits

    run = lab.session.start("Hello", ml.Custom(wait), max_tokens=3)
    assert began.wait(60)
    said = ask(lab, "save", "first")["said"]
    assert said == "Saved 1 run to first.lab. What is under way is not in it."
    reply = ask(lab, "open", "first")
    assert not reply["ok"] and "is under way. Stop it" in reply["error"]
    assert not run.done
    gate.set()
    run.wait()
    lab.wait()
    assert numbers(lab) == [1, 2]
    assert ask(lab, "open", "first")["said"].startswith("1 run here would be gone")


def disk_is_full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_not_permitted(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(
    ("where", "name", "fails", "why"),
    [
        (sealed_file, "save_file", disk_is_full, "No space left on device"),
        (sealed_file, "_seal", disk_is_full, "No space left on device"),
        (os, "fsync", disk_is_full, "No space left on device"),
        (os, "replace", disk_is_full, "No space left on device"),
        (Path, "mkdir", is_not_permitted, "Permission denied"),
    ],
)
def test_what_the_disk_does_not_take_is_said_and_the_older_file_is_whole(
    lab, tmp_path, monkeypatch, where, name, fails, why
):
    ask(lab, "save", "first")
    before = (tmp_path / "first.lab").read_bytes()
    lab.run()
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fails)
        for file, left in (
            ("first", "The file that was there is as it was"),
            ("new", "Nothing is left"),
        ):
            reply = ask(lab, "save", file)
            assert not reply["ok"] and f"could not be written: {why}. {left}" in reply["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["first.lab"]
    assert (tmp_path / "first.lab").read_bytes() == before and numbers(lab) == [1, 2]
    assert ask(lab, "open", "first")["said"].startswith("1 run here would be gone")
    assert ask(lab, "save", "first")["said"] == "Saved 2 runs to first.lab."


def test_a_file_that_was_cut_or_is_of_another_kind_is_refused_and_nothing_is_lost(lab, tmp_path):
    ask(lab, "save", "first")
    whole = (tmp_path / "first.lab").read_bytes()
    lab.run()
    files = {"cut": whole[:-5], "begun": whole[:4], "empty": b"", "zip": b"PK\x03\x04" + whole}
    for name, data in files.items():
        (tmp_path / f"{name}.lab").write_bytes(data)
        reply = ask(lab, "open", name, is_sure=True)
        assert not reply["ok"] and name in reply["error"], reply
        assert "Error" not in reply["error"] and numbers(lab) == [1, 2]


def test_a_working_folder_that_was_deleted_is_said_to_be_so(lab, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for reply in (ask(lab, "files"), ask(lab, "save", "first"), ask(lab, "open", "first")):
        assert not reply["ok"] and reply["error"].startswith("the working folder was deleted.")


def test_a_name_that_begins_with_a_tilde_is_a_name(lab, tmp_path):
    assert ask(lab, "save", "~")["said"] == "Saved 1 run to ~.lab."
    assert ask(lab, "files")["names"] == ["~.lab"]


def test_labs_that_save_at_once_to_one_name_leave_the_whole_file_of_one_of_them(lab, tiny_model):
    labs = [lab, *(ml.Workbench(tiny_model, "Hello" * n) for n in (1, 2, 3))]
    ready = threading.Barrier(len(labs))

    def save(one):
        ready.wait(60)
        one.save("first.lab")

    threads = [threading.Thread(target=save, args=(one,)) for one in labs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = [one for one in labs if not ask(one, "save", "first", is_sure=False)["asks"]]
    assert len(own) == 1, "the others know that it is not theirs"
    other = ml.Workbench.reopen("first.lab", tiny_model)
    assert len(other.panel.runs) == len(own[0].panel.runs)
    for one in (other, *labs[1:]):
        one.close()

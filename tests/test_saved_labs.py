"""A lab that is saved goes on in another kernel: runs, trees, settings and chain."""

from __future__ import annotations

import json

import numpy as np
import pytest
from page import ask, reply_to

import mullama_lab as ml
from mullama_lab.engine import sealed_file, tiny
from mullama_lab.errors import SessionFileError, SessionMismatch

CHAIN = ml.Mask(ban=[2]) | ml.TopK(20) | ml.Temperature(0.9)


@pytest.fixture
def lab(tiny_model):
    lab = ml.Workbench(
        tiny_model, "Hello", chain=CHAIN, seed=7, max_tokens=12, panels=["tree", "what-if"],
        stop_strings=["no such text"],
    )  # fmt: skip
    first = lab.run()
    lab.branch(3, next(int(t) for t in first.top_ids[3] if t != first.tokens[3]))
    lab.tree.rename(2, "mine")
    lab.explore(4, 2)
    lab.set(prompt="Elsewhere")
    lab.set("Temperature", t=0.5)
    lab.run()
    lab.set(prompt="Hello", seed=8, max_tokens=5)
    lab.wait()
    yield lab
    lab.close()


def again(lab, tmp_path, model, kind=ml.Workbench):
    made = kind.reopen(lab.save(tmp_path / "work.lab"), model)
    made.wait()
    return made


def test_the_card_of_a_token_tells_as_much_as_before_though_no_row_was_saved(lab, tmp_path):
    trace, model = lab.trace, lab.session.model
    step, chosen = 4, int(lab.trace.tokens[4])
    about = {"step": step, "token": chosen}
    was = ask(lab.strip, "explain", about)
    other = again(lab, tmp_path, model)
    assert other.trace == trace and other.trace.kept(step) is None
    assert ask(other.strip, "explain", about) == was
    other.panel.state = "running"  # its session has something else to decode
    with pytest.raises(ValueError, match="whole row"):
        ask(other.strip, "explain", about)
    other.close()


def test_a_lab_has_in_force_what_it_had(tiny_model, tmp_path):
    pairs = {"blk.0.attn_q.weight": (np.ones((2, 32), "f4"), np.ones((64, 2), "f4"))}
    file = tiny.write_adapter(tmp_path / "style.gguf", pairs)
    lab = ml.Workbench(tiny_model, "Hello", chain=CHAIN, seed=7, max_tokens=4)
    lab.session.adapters = {ml.LoraAdapter.load(file): 0.5}
    lab.session.control = ml.ControlVector({1: np.arange(32)})
    trace = lab.run()
    setting = ml.Setting(CHAIN, lab.session.adapters, lab.session.control)
    assert trace.settings == [(0, setting)]
    lab.branch(2, int(trace.top_ids[2][1]))
    path = lab.save(tmp_path / "work.lab")
    arrays, _ = sealed_file.read(path)
    assert arrays["work"].tobytes().count(b'"layers"') == 1
    other = ml.Workbench.reopen(path, tiny_model)
    other.wait()
    assert other.session.steering == lab.session.steering
    assert [run.trace for run in other.panel.runs] == [run.trace for run in lab.panel.runs]
    assert other.panel.runs[0].trace.settings == [(0, setting)]
    other.close()
    file.rename(tmp_path / "moved.gguf")
    with tiny_model.session() as session:  # whose own it is
        shared = ml.Workbench.reopen(path, session)
        assert not shared.session.steering.epoch
        shared.close()
    said = pytest.raises(SessionFileError, match=r"style.gguf.*model.session\(\)")
    with ml.Model.load(tiny_model.path) as model, said:
        ml.Workbench.reopen(path, model)
    lab.close()


def test_a_lab_goes_on_where_it_was_saved(lab, tmp_path, tiny_model):
    other = again(lab, tmp_path, tiny_model)
    assert [run.trace for run in other.panel.runs] == [run.trace for run in lab.panel.runs]
    assert other.panel.history == lab.panel.history
    assert other.tree == lab.tree and other.tree is not lab.tree
    assert reply_to(other.branches, "rows")["rows"] == reply_to(lab.branches, "rows")["rows"]
    assert other.to_code() == lab.to_code() and other.chain == lab.chain
    assert other.panels == ["tree", "what-if"] and other.panel.stop_strings == ["no such text"]
    assert other.panel.shown == lab.panel.shown == 3 and other.trace == lab.trace
    other.panel.select(1)
    selected = again(other, tmp_path, tiny_model)
    assert 1 in selected.tree.node(selected.branches.selected).ends
    selected.close()
    other.panel.restore(1)
    assert (other.panel.seed, other.panel.max_tokens, other.chain) == (7, 12, CHAIN)
    other.close()


def test_what_is_run_then_is_the_next_run_and_joins_the_tree_of_its_prompt(
    lab, tmp_path, tiny_model
):
    other = again(lab, tmp_path, tiny_model)
    n = len(other.tree)
    trace = other.run()
    assert other.panel.runs[-1].number == 4 and len(other.tree) == n + 1
    assert other.tree.find(trace) is not None
    other.select(next(node.key for node in other.tree.nodes if 1 in node.ends))
    assert other.panel.shown == 1
    other.set(prompt="Elsewhere")
    other.wait()
    assert len(other.tree) == 1
    assert other.panel.compare(3, 4).sides[1].differs[0] == "another prompt"
    other.close()


def test_a_run_from_a_file_says_what_to_press_before_it_can_be_asked_what_if(
    lab, tmp_path, tiny_model
):
    lab.panel.select(1)
    other = again(lab, tmp_path, tiny_model)
    assert "Restore its settings (↺ in Runs) and press Run" in other.what_if.line
    assert other.what_if.bars == {} and other.what_if.effects == []
    other.panel.restore(1)
    assert (other.run().tokens == lab.panel.runs[0].trace.tokens).all()
    other.wait()
    assert "none of 12 choices differs" in other.what_if.line and other.what_if.bars
    other.close()


def test_where_no_run_was_shown_the_newest_is(lab, tmp_path, tiny_model):
    lab.select("root")
    assert lab.panel.shown == 0
    other = again(lab, tmp_path, tiny_model)
    assert other.panel.shown == 3 and other.trace == lab.panel.runs[-1].trace
    other.close()


def test_another_kind_of_lab_and_a_shared_session_take_it_up_too(lab, tmp_path, tiny_model):
    with tiny_model.session(n_ctx=512) as session:
        other = again(lab, tmp_path, session, ml.labs.BranchLab)
        assert isinstance(other, ml.labs.BranchLab) and other.session is session
        assert len(other.panel.runs) == 3
        other.close()


def test_a_chat_and_a_lab_without_runs_are_kept(tmp_path, tiny_model):
    turns = [{"role": "user", "content": "Hi"}]
    lab = ml.Workbench(tiny_model, turns)
    other = again(lab, tmp_path, tiny_model)
    assert other.panel.chat and other.panel.messages == turns
    assert other.panel.runs == [] and other.trace is None
    lab.close()
    other.close()


def test_numbers_stay_also_where_the_first_runs_are_listed_no_more(lab, tmp_path, tiny_model):
    for _ in range(30):
        lab.panel.add(lab.panel.runs[0].trace, show=False)
    other = again(lab, tmp_path, tiny_model)
    numbers = [run.number for run in other.panel.runs]
    assert numbers == [run.number for run in lab.panel.runs] and numbers[0] == 4
    other.close()


def test_a_chain_with_code_is_refused_and_the_older_file_stays(lab, tmp_path, tiny_model):
    path = lab.save(tmp_path / "work.lab")
    before = path.read_bytes()
    lab.chain = ml.Custom(lambda logits, history: logits)
    with pytest.raises(ValueError, match="Custom"):
        lab.save(path)
    assert path.read_bytes() == before


def test_a_file_that_is_none_or_of_another_model_is_refused(lab, tmp_path, tiny_model):
    path = lab.save(tmp_path / "work.lab")
    with pytest.raises(SessionFileError, match="does not exist"):
        ml.Workbench.reopen(tmp_path / "none", tiny_model)
    cut = tmp_path / "cut.lab"
    cut.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SessionFileError, match="cut off or altered"):
        ml.Workbench.reopen(cut, tiny_model)
    session = lab.session.save(tmp_path / "session").path
    with pytest.raises(SessionFileError, match="holds no lab"):
        ml.Workbench.reopen(session, tiny_model)
    with pytest.raises(SessionFileError, match="holds no session"):
        ml.Session.load(path, tiny_model)
    with pytest.raises(TypeError, match="give the Model"):
        ml.Workbench.reopen(path, "tiny")
    other = ml.Model.load(tiny.write(tmp_path / "other.gguf", vocabulary="bpe"))
    with pytest.raises(SessionMismatch, match="another model"):
        ml.Workbench.reopen(path, other)
    other.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda work: work["settings"].update(seed=-1),
        lambda work: work["settings"].update(messages=[{"role": "nobody", "content": ""}]),
        lambda work: work["settings"].update(stop_strings="END"),
        lambda work: work.update(panels=["nowhere"]),
        lambda work: work.update(trees=None),
        lambda work: work["runs"][0].update(branch=[9, 1]),
        lambda work: work["runs"][1].update(number=1),
        lambda work: work["runs"][0]["asked"].update(ends=[]),
        lambda work: work["runs"][0]["asked"].update(prompt=5),
        lambda work: work.pop("chain"),
        lambda work: work.update(shown="1"),
    ],
)
def test_what_a_stranger_wrote_is_refused_and_nothing_is_left_open(
    lab, tmp_path, tiny_model, change
):
    path = lab.save(tmp_path / "work.lab")
    arrays, about = sealed_file.read(path)
    work = json.loads(arrays["work"].tobytes())
    change(work)
    text = np.frombuffer(json.dumps(work).encode(), np.uint8)
    sealed_file.write(path, {"work": text}, about)
    with pytest.raises(SessionFileError, match="not what a lab saves"):
        ml.Workbench.reopen(path, tiny_model)

"""BranchLab driven from Python, as the browser drives it."""

from __future__ import annotations

import math
import os
import signal
import threading
import time

import numpy as np
import pytest
from page import reply_to

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import ClosedError, ContextFull
from mullama_lab.labs._room import Room
from mullama_lab.studies.explore import Exploration

ENDLESS = ml.Mask(ban=[tiny.EOS]) | ml.Temperature(1.0)


@pytest.fixture
def lab(tiny_model):
    lab = ml.labs.BranchLab(tiny_model, "Hello", chain=ENDLESS, seed=7, max_tokens=12)
    yield lab
    lab.close()


def other_than(trace, step):
    """A token that the trace does not have at a step."""
    return int(trace.top_ids[step][trace.top_ids[step] != trace.tokens[step]][0])


def slowly(logits, history):
    time.sleep(0.005)
    return logits


def started(run, n=3):
    while len(run.trace) < n:
        time.sleep(0.002)
    return run


def texts(lab):
    return [branch.trace.tokens.tolist() for branch in lab.tree]


def test_a_run_and_its_branches_are_paths_of_one_tree(lab):
    first = lab.run()
    token = other_than(first, 4)
    second = lab.branch(4, token)
    assert [branch.trace for branch in lab.tree] == [first, second]
    assert second.tokens[:5].tolist() == [*first.tokens[:4], token]
    assert lab.trace is second and lab.branches.n == 2
    assert lab.tree.node(lab.branches.selected).ends == (2,)
    assert len(second) == 5 + 12 and second.seed == first.seed


def test_a_branch_costs_one_token_of_what_came_before(lab):
    first = lab.run()
    before = lab.session.ledger
    lab.set(max_tokens=0)
    lab.branch(6, other_than(first, 6))
    assert (lab.session.ledger - before).decoded == 1


def test_choosing_an_alternative_in_the_strip_branches_and_errors_are_the_answer(lab):
    assert "no trace" in reply_to(lab.strip, "choose", {"step": 0, "token": 5})["error"]
    first = lab.run()
    assert reply_to(lab.strip, "choose", {"step": 2, "token": other_than(first, 2)})["ok"]
    lab.wait()
    assert len(lab.tree) == 2 and lab.trace is lab.tree.branch(2).trace
    lab.panels = ["tree", "samplers"]
    assert reply_to(lab.strip, "choose", {"step": 3, "token": int(lab.trace.tokens[3])})["ok"]
    lab.wait()
    assert lab.preview.step == 3 and len(lab.tree) == 2  # its own token: only looked at


def test_a_branch_says_where_it_goes_off_and_the_strip_leads_back(lab):
    first = lab.run()
    assert lab.strip.branched == {} and lab.strip.choosing == "branch here"
    token = other_than(first, 4)
    second = lab.branch(4, token)
    said = {"step": 4, "hex": second.pieces[4].hex(), "was": first.pieces[4].hex()}
    assert lab.strip.branched == said
    details = [reply_to(lab.strip, "details", {"step": step})["forced"] for step in (3, 4, 5)]
    assert details == [False, True, False]
    why = reply_to(lab.strip, "explain", {"step": 4, "token": token})["text"]
    assert "It was forced, not drawn." in why
    assert reply_to(lab.strip, "back")["ok"] and lab.trace is first and lab.strip.branched == {}
    assert not reply_to(lab.strip, "back")["ok"]
    lab.set(prompt="World")
    lab.run()
    lab.set(prompt="Hello")
    lab.select(next(node.key for node in lab.tree.nodes if 2 in node.ends))
    assert lab.strip.branched == said
    lab.tree.prune([1])
    assert "was pruned" in reply_to(lab.strip, "back")["error"]
    longer = lab.branch(16, int(second.tokens[16]), trace=second)
    assert len(longer) > 17 and lab.strip.branched["was"] == ""


def test_the_last_token_goes_on_from_the_end(lab):
    first = lab.run()
    longer = lab.branch(11, int(first.tokens[11]))
    assert longer.tokens[:12].tolist() == first.tokens.tolist() and len(longer) == 24
    lab.set(chain=ml.LogitBias({tiny.EOS: 100.0}))
    ended = lab.branch(0, other_than(first, 0))
    assert ended.finish_reason == "eog"
    with pytest.raises(ValueError, match="come to its end"):
        lab.branch(len(ended) - 1, tiny.EOS)
    reply_to(lab.bar, "explore")
    assert "Select a segment before it" in lab.bar.message and lab.bar.state == "idle"


def test_two_branches_at_once_follow_each_other_and_the_same_one_twice_is_refused(lab):
    first = lab.run()
    lab.chain = ml.Custom(slowly) | ENDLESS
    one, two = [int(t) for t in first.top_ids[5] if t != first.tokens[5]][:2]
    a = lab.start_branch(5, one, trace=first)
    b = lab.start_branch(5, two, trace=first)
    with pytest.raises(ValueError, match="on its way already"):
        lab.start_branch(5, one, trace=first)
    assert {entry["state"] for entry in lab.branches.growing} <= {"queued", "prompt", "running"}
    lab.wait()
    assert [branch.trace for branch in lab.tree] == [first, a.trace, b.trace]
    lab.start_branch(5, one, trace=first)  # once it has ended it may be made again
    lab.wait()
    assert len(lab.tree) == 3


def test_a_branch_off_a_text_that_still_grows(lab):
    lab.set(max_tokens=60, chain=ml.Custom(slowly) | ENDLESS)
    run = started(lab.start())
    branch = lab.start_branch(1, other_than(run.trace, 1), trace=run.trace)
    lab.wait()
    assert texts(lab) == [run.trace.tokens.tolist(), branch.trace.tokens.tolist()]


def test_stop_ends_what_runs_and_what_waits_and_keeps_what_was_drawn(lab):
    lab.set(max_tokens=5000, chain=ml.Custom(slowly) | ENDLESS)
    run = started(lab.start(), 5)
    waiting = lab.start_branch(2, other_than(run.trace, 2), trace=run.trace)
    lab.stop()
    lab.wait()
    assert run.state == "stopped" and waiting.state == "stopped"
    assert texts(lab) == [run.trace.tokens.tolist()]  # what never began is no path
    lab.set(max_tokens=3, chain=ENDLESS)
    assert len(lab.run()) == 3


def test_what_grows_out_of_a_pruned_branch_still_joins_the_tree(lab):
    first = lab.run()
    lab.set(max_tokens=40, chain=ml.Custom(slowly) | ENDLESS)
    run = started(lab.start_branch(3, other_than(first, 3)), 6)
    lab.tree.prune(1)
    lab.wait()
    assert texts(lab) == [run.trace.tokens.tolist()]
    lab.tree.undo(), lab.tree.undo()
    assert texts(lab) == [first.tokens.tolist()]
    lab.tree.redo(), lab.tree.redo()
    assert [branch.number for branch in lab.tree] == [2]


def test_a_generation_of_a_cell_joins_and_another_prompt_has_its_own_tree(lab):
    lab.run()
    hello = lab.tree
    lab.session.generate("Hello", ENDLESS, max_tokens=4, seed=1)
    lab.wait()
    assert len(hello) == 2
    lab.set(prompt="World")
    lab.run()
    assert lab.tree is not hello and len(lab.tree) == 1 and len(hello) == 2
    lab.set(prompt="Hello")
    assert lab.tree is hello


def test_exploring_adds_the_likeliest_paths_as_one_change(lab):
    found = lab.explore(20, 2)
    assert len(lab.tree) == len(found.leaves) and lab.bar.state == "finished"
    assert lab.bar.found["mass"] == pytest.approx(lab.tree.mass, rel=1e-4)
    assert lab.tree.to_undo == "an exploration added"
    said = [(leaf.n_tokens, leaf.ended) for leaf in found.leaves]
    is_open = [n < 2 and not ended for n, ended in said]
    assert lab.bar.found["open"] == sum(is_open) > 0 and lab.bar.found["longest"] == 2
    best = lab.session.logits("Hello").argmax()
    assert found[0].tokens == [best]
    lab.tree.undo()
    assert len(lab.tree) == 0


def test_exploring_goes_on_from_the_segment_that_is_selected(lab):
    first = lab.run()
    lab.branch(4, other_than(first, 4))
    key = lab.tree.nodes[1].key  # what both begin with
    lab.select(key)
    assert lab.trace.tokens.tolist() == first.tokens[:4].tolist() and lab.bar.origin
    found = lab.explore(10, 3)
    assert all(b.trace.tokens[:4].tolist() == first.tokens[:4].tolist() for b in lab.tree)
    assert len(found.start) == 4
    lab.select("root")
    assert lab.bar.origin == ""


def test_exploring_goes_on_from_a_prompt_that_was_typed_since(lab):
    first = lab.run()
    assert lab.bar.origin
    lab.panel.prompt = "World"
    assert (lab.bar.origin, lab.bar.prompt) == ("", "World") and lab.trace is first
    found = lab.explore(10, 2)
    assert found.start.prompt_tokens.tolist() == lab.prompt_tokens()
    assert lab.tree.prompt_tokens.tolist() == lab.prompt_tokens()
    assert len(lab.tree) == len(found.leaves)
    assert lab.trace.prompt_tokens.tolist() == lab.prompt_tokens()  # the text is of that prompt too
    lab.panel.prompt = "x" * 100
    assert lab.bar.prompt == "…" + "x" * 60


def test_a_segment_selected_after_the_prompt_was_typed_comes_before_it(lab):
    first = lab.run()
    lab.panel.prompt = "World"
    lab.select("root")  # of the tree of the run
    assert (lab.bar.origin, lab.bar.prompt) == ("", "Hello")
    assert lab.explore(4, 2).start.prompt_tokens.tolist() == first.prompt_tokens.tolist()
    lab.select(next(node.key for node in lab.tree.nodes if len(node)))
    assert lab.bar.origin
    lab.set(seed=3)  # not the prompt
    assert lab.bar.origin
    lab.set(prompt="Hello")  # the prompt of the tree, which has a segment selected
    assert lab.bar.origin
    lab.set(prompt="World")
    assert lab.bar.origin == ""


def test_what_was_found_is_said_until_something_else_happens(lab):
    first = lab.run()

    def explored():
        lab.select("root")
        lab.explore(6, 2)
        assert lab.bar.found and lab.bar.state == "finished"

    events = (
        lambda: lab.tree.undo(),
        lambda: lab.select(lab.tree.nodes[1].key),
        lambda: lab.set(prompt="World"),
        lambda: lab.set(prompt="Hello") or lab.branch(3, other_than(first, 3), trace=first),
    )
    for event in events:
        explored()
        event()
        assert lab.bar.found == {} and lab.bar.state == "idle"
    lab.bar.fail("refused")
    lab.select("root")
    assert lab.bar.message == ""


def test_an_exploration_is_stopped_and_only_one_goes_on_at_a_time(lab):
    lab.set(max_tokens=4000, chain=ml.Custom(slowly) | ENDLESS)
    run = started(lab.start())
    lab.start_explore(2000, 8)  # waits for the run
    with pytest.raises(ValueError, match="is going on"):
        lab.start_explore()
    reply_to(lab.bar, "explore")
    assert "is going on" in lab.bar.message
    run.stop()
    while not lab.exploration.n_expanded:
        time.sleep(0.002)
    lab.bar.stop()
    lab.wait()
    assert lab.exploration.state == "stopped" and lab.bar.state == "stopped"
    assert len(lab.tree) == 1 + len(lab.exploration.leaves)


def test_the_bar_says_all_that_was_found_also_while_nothing_new_comes(lab, until, monkeypatch):
    go_on, goes_on = threading.Event(), Exploration._goes_on

    def pausing(exploration):
        if exploration.n_expanded >= 20:
            assert go_on.wait(20)
        return goes_on(exploration)

    monkeypatch.setattr(Exploration, "_goes_on", pausing)
    exploration = lab.start_explore(40, 8)
    until(lambda: exploration.n_expanded >= 20 and lab.bar.found)
    until(lambda: lab.bar.found["expanded"] == exploration.n_expanded, 5)
    assert lab.bar.state == "running"
    go_on.set()
    lab.wait()
    assert lab.bar.found["expanded"] == exploration.n_expanded > 20


def test_an_exploration_that_fails_says_so_and_another_one_begins(lab, monkeypatch):
    def fail(exploration):
        raise RuntimeError("no luck")

    with monkeypatch.context() as patched:
        patched.setattr(Exploration, "_next", fail)
        with pytest.raises(RuntimeError):
            lab.explore(4, 2)
    assert (lab.bar.state, lab.bar.message) == ("failed", "no luck")
    lab.explore(4, 2)
    assert (lab.bar.state, lab.bar.message) == ("finished", "")


def test_an_interrupt_stops_an_exploration_and_keeps_what_was_found(lab):
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        lab.explore(2000, 100)
    timer.join()
    assert lab.exploration.state == "stopped"
    assert len(lab.tree) == len(lab.exploration.leaves)
    assert len(lab.run())


def test_a_tree_that_outgrows_the_context_says_so_and_is_pruned_until_it_fits(tiny_model):
    session = tiny_model.session(n_ctx=256, n_threads=1)
    lab = ml.labs.BranchLab(session, "Hello", chain=ENDLESS, max_tokens=150)
    for seed in range(3):
        lab.set(seed=seed)
        lab.run()
    lab.tree.rename(1, "mine")
    used, room = lab.bar.room
    assert used == 6 + sum(len(node) for node in lab.tree.nodes) > room == 256
    kept = lab.tree.node(lab.branches.selected).ends[0]
    assert reply_to(lab.bar, "trim")["ok"]
    assert sorted(b.number for b in lab.tree) == sorted({1, kept})  # and that is as far as it goes
    reply_to(lab.bar, "trim")
    assert "has a name or is selected" in lab.bar.message
    lab.tree.undo()
    assert len(lab.tree) == 3
    lab.tree.prune([1, 2])
    assert lab.bar.room == [6 + 150, 256]
    assert lab.prune_to_fit() == ()
    lab.close()
    session.close()


def test_room_counts_what_paths_share_once(lab):
    first = lab.run()
    lab.branch(4, other_than(first, 4))
    room = Room(lab.tree)
    assert room.n == 6 + 12 + (17 - 4)
    room.remove(lab.tree.branch(1))
    assert room.n == 6 + 17


def test_a_path_that_fills_the_context_ends_there_and_can_be_branched(tiny_model):
    session = tiny_model.session(n_ctx=256, n_threads=1)
    lab = ml.labs.BranchLab(session, "x" * (session.n_ctx - 4), chain=ENDLESS, max_tokens=50)
    trace = lab.run()
    assert trace.finish_reason == "context" and len(lab.tree) == 1
    branch = lab.branch(0, other_than(trace, 0))
    assert branch.finish_reason == "context"
    with pytest.raises(ContextFull, match="larger n_ctx"):
        lab.explore(5, 1)  # after the end of the branch
    lab.select("root")
    assert len(lab.explore(5, 1)) == 5
    with pytest.raises(ContextFull, match="max_tokens=4 or less"):
        lab.explore(5, 50)
    lab.set(prompt="x" * 5000)
    with pytest.raises(ContextFull):
        lab.run()
    lab.close()
    session.close()


def test_branches_are_compared_and_the_first_difference_is_where_they_part(lab):
    first = lab.run()
    lab.branch(4, other_than(first, 4))
    found = lab.compare(1, 2)
    assert found.first == 4 and found.b.kl.nats == pytest.approx(0, abs=1e-6)
    assert lab.branches.compared == [1, 2]


def test_a_run_has_one_name_in_the_tree_the_list_and_a_comparison(lab):
    first = lab.run()
    lab.explore(6, 2)
    branch = lab.branch(4, other_than(first, 4))
    number, past = lab.tree.find(branch).number, lab.panel.runs[-1]
    assert (number, past.number, past.label) != (2, 2, "branch 2") and number > past.number == 2
    rows = reply_to(lab.branches, "rows")["rows"]
    called = {row["branch"]: row["called"] for row in rows if row["branch"]}
    assert called[1] == "run 1" and called[number] == "run 2"
    assert called[2] == "branch 2"  # found by exploring
    assert [side.label for side in lab.compare(1, 2).sides] == ["run 1", "run 2"]
    assert lab.branches.compared == [1, number]
    assert [s.label for s in lab.branches.compare(1, 2, number).sides] == [
        "run 1",
        "branch 2",
        "run 2",
    ]
    assert lab.branches.to_undo == "run 2 added"
    lab.tree.prune(number)
    assert lab.branches.to_undo == "run 2 pruned"
    assert reply_to(lab.branches, "undo")["change"] == "run 2 pruned"
    assert "run 2, " in lab.branches._repr_mimebundle_()[0]["text/html"]
    lab.tree.rename(number, "mine")
    assert "mine" in [side.label for side in lab.branches.compare(1, number).sides]


def test_a_path_that_two_runs_took_is_called_after_both_also_of_another_prompt_or_listed_no_more(
    lab,
):
    first = lab.run()
    lab.run()
    assert [b.trace is first for b in lab.tree] == [True]
    assert lab.panel.called(first) == "run 1, 2"
    for _ in range(31):
        lab.panel.add(first[:3])
    assert lab.panel.runs[0].number == 4 and lab.panel.called(first) == "run 1, 2"
    assert lab.panel.called(first[:3]) == "run 3, 4, 5, …" and lab.panel.called(first[:2]) == ""
    lab.set(prompt="elsewhere")
    other = lab.run()
    assert reply_to(lab.branches, "rows")["rows"][-1]["called"] == lab.panel.called(other)
    with pytest.raises(ValueError, match="no run 1"):
        lab.compare(1, 34)


def test_its_code_makes_the_same_tree(lab, tiny_path):
    first = lab.run()
    lab.branch(4, other_than(first, 4))
    lab.tree.rename(2, "other way")
    lab.explore(6, 2)
    lab.branch(0, other_than(lab.tree.branch(3).trace, 0), trace=lab.tree.branch(3).trace)
    lab.tree.prune(1)
    lab.session.model.source, kept = str(tiny_path), lab.session.model.source
    try:
        scope: dict[str, object] = {}
        exec(lab.to_code(), scope)
    finally:
        lab.session.model.source = kept
    tree = scope["tree"]
    assert [b.trace.tokens.tolist() for b in tree] == texts(lab)
    assert [b.name for b in tree] == [b.name for b in lab.tree]
    np.testing.assert_allclose([b.logprob for b in tree], [b.logprob for b in lab.tree], atol=0.05)
    scope["model"].close()


def test_a_tree_that_was_kept_is_gone_on_with(lab, tiny_model):
    first = lab.run()
    lab.branch(4, other_than(first, 4))
    kept = ml.Tree.from_dict(lab.tree.to_dict())
    with tiny_model.session(n_ctx=512) as session:
        again = ml.labs.BranchLab(session, chain=ENDLESS, max_tokens=5, tree=kept)
        assert again.tree is kept and len(again.trace) == 17
        branch = again.branch(2, other_than(again.trace, 2))
        assert kept.find(branch) is not None
        assert kept.branch(3).trace.prompt_tokens.tolist() == first.prompt_tokens.tolist()
        again.close()


def test_what_is_wrong_is_refused_and_nothing_changes(lab, tiny_model):
    with pytest.raises(ValueError, match="run the prompt first"):
        lab.branch(0, 5)
    first = lab.run()
    for step, token, error in ((99, 5, "step=99"), (-1, 5, "step=-1"), (0, 99999, "99999")):
        with pytest.raises(ValueError, match=error):
            lab.branch(step, token)
    with pytest.raises(ValueError, match="not one token"):
        lab.branch(0, "several tokens")
    with pytest.raises(ValueError, match="no setting 'temperature'"):
        lab.set(temperature=1)
    with pytest.raises(ValueError, match="no run 5"):
        lab.compare(1, 5)
    with pytest.raises(ValueError):
        lab.set(chain=ml.Mask(ban=[10**6]))
    for name, value in (("budget", 0), ("budget", 10**9), ("length", "8"), ("nothing", 1)):
        assert not reply_to(lab.bar, "set", {"name": name, "value": value})["ok"]
    assert lab.chain == ENDLESS and texts(lab) == [first.tokens.tolist()]
    with pytest.raises(TypeError, match="Model or a Session"):
        ml.labs.BranchLab("smollm2-135m")
    with pytest.raises(TypeError, match="give a Tree"):
        ml.labs.BranchLab(tiny_model, tree=[first])


def test_settings_change_together_or_not_at_all(lab):
    def settings():
        return lab.panel.prompt, lab.panel.seed, lab.chain, lab.bar.budget, lab.bar.length

    before = settings()
    good = {"prompt": "World", "seed": 3, "chain": ml.Chain([ml.Greedy()]), "budget": 5}
    good["length"] = 2
    for wrong in ({"length": 0}, {"budget": "9"}, {"chain": ml.Mask(ban=[10**6])}, {"seed": -1}):
        with pytest.raises(ValueError):
            lab.set(**{**good, **wrong})
        assert settings() == before
    with pytest.raises(ValueError, match="length is 0"):
        lab.explore(5, 0)
    assert settings() == before
    lab.set(**good)
    assert settings() == tuple(good.values())


def test_a_chain_that_leaves_nothing_is_said_and_no_path_is_made(lab):
    lab.set(chain=ml.Mask(ban=range(lab.session.model.n_vocab)))
    with pytest.raises(ml.errors.NoCandidates):
        lab.run()
    lab.panel.settle()
    assert lab.panel.state == "failed" and len(lab.tree) == 0
    lab.set(chain=ENDLESS)
    assert len(lab.run()) == 12


def test_a_closed_session_is_said_everywhere(tiny_model):
    session = tiny_model.session(n_ctx=256)
    lab = ml.labs.BranchLab(session, "Hello", chain=ENDLESS, max_tokens=4)
    first = lab.run()
    session.close()
    with pytest.raises(ClosedError):
        lab.run()
    reply = reply_to(lab.strip, "choose", {"step": 0, "token": other_than(first, 0)})
    assert "closed" in reply["error"]
    reply_to(lab.bar, "explore")
    lab.wait()
    assert "closed" in lab.bar.message and lab.bar.state in ("idle", "failed")
    assert lab.select("1.0").tokens.tolist() == first.tokens.tolist()
    lab.close()


def test_closing_while_it_explores_and_runs_ends_both(tiny_model):
    lab = ml.labs.BranchLab(tiny_model, "Hello", chain=ml.Custom(slowly) | ENDLESS)
    lab.set(max_tokens=5000)
    run = started(lab.start())
    lab.start_explore(2000, 8)
    lab.close()
    assert run.done and lab.session.closed


def test_it_shows_in_three_forms_and_its_tree(lab):
    lab.run()
    lab.explore(4, 2)
    data, _ = lab._repr_mimebundle_()
    assert set(data) >= {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert "explored" in data["text/plain"] and "<script" not in data["text/html"]
    assert lab._repr_mimebundle_()[0]["text/plain"] == data["text/plain"]
    assert math.isclose(lab.bar.found["mass"], lab.exploration.mass)


def test_an_alternative_that_the_chain_removed_says_what_would_have_kept_it(lab):
    lab.set(chain=ml.TopK(2) | ENDLESS)
    trace = lab.run()
    out = int(trace.top_ids[3][5])
    reply = reply_to(lab.strip, "explain", {"step": 3, "token": out})
    assert "TopK" in reply["text"]
    path = lab.branch(3, out)
    assert path.logprob_after[3] == -np.inf
    assert "TopK" in reply_to(lab.strip, "explain", {"step": 3, "token": out})["text"]
    lab.explore(6, 2)
    lab.select(next(node.key for node in lab.tree.nodes if node.ends))
    assert reply_to(lab.strip, "explain", {"step": 0, "token": 70})["ok"]

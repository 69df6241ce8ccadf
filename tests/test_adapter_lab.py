"""AdapterLab: what is turned on the cards acts in the session, and every view says with what."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from page import ask, ask_data, reply_to

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.loop.scheduler import Scheduler
from mullama_lab.engine.noise_floor import row_differences
from mullama_lab.errors import Stopped
from mullama_lab.labs import AdapterLab, _learning
from mullama_lab.labs._adapters_panel import CHANGED, STALE
from mullama_lab.labs._effects import gap_in_words
from mullama_lab.studies.control_vectors import train
from mullama_lab.studies.effect import effect_in, staleness_in
from mullama_lab.widgets._rows_aside import RowsAside

ENDLESS = ml.Mask(ban=[tiny.EOS]) | ml.Temperature(0.8)
HAPPY = ml.ControlVector({1: np.random.default_rng(1).normal(size=32)}, name="happy")
SAD = ml.ControlVector({1: np.random.default_rng(2).normal(size=32)}, name="sad")


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=2048, n_threads=1) as session:
        yield session


@pytest.fixture
def lab(session):
    lab = AdapterLab(session, "Hello", seed=3, max_tokens=6)
    yield lab
    lab.close()


def steered(model, tokens, **what):
    """The row after a prompt in a session of its own."""
    with model.session(n_ctx=2048, n_threads=1) as fresh:
        for name, value in what.items():
            setattr(fresh, name, value)
        return fresh.logits(tokens)


def test_what_is_turned_acts_in_the_session(lab, session, adapter):
    lab.adapters = {adapter: 0.8}
    lab.adapter_cards.add(HAPPY, 0.5)
    lab.wait()
    assert (session.adapters, session.control) == ({adapter: 0.8}, 0.5 * HAPPY)
    lab.adapter_cards.set("happy", 2)
    lab.adapter_cards.toggle("adapter")
    trace = lab.run()  # which does not begin before what was turned is in force
    assert (session.adapters, session.control) == ({}, 2 * HAPPY)
    assert np.array_equal(
        trace.tokens, session.generate("Hello", lab.chain, max_tokens=6, seed=3).tokens
    )
    lab.set(adapters={}, control=None)
    lab.wait()
    assert session.steering.epoch == "" and lab.adapter_cards.in_force == ""


def test_next_token_is_that_of_the_weights_in_force(lab, tiny_model, adapter):
    lab.set(panels=["adapters", "samplers"])
    lab.wait()
    before = lab.preview
    lab.adapters = {adapter: 1.5}
    lab.wait()
    row = steered(tiny_model, lab.prompt_tokens(), adapters={adapter: 1.5})
    want = lab.chain.preview(row, model=tiny_model, history=lab.prompt_tokens(), seed=3, step=0)
    assert np.array_equal(lab.preview.before.ids, want.before.ids)
    assert np.allclose(lab.preview.before.probs, want.before.probs, atol=1e-5)
    assert not np.allclose(lab.preview.before.probs, before.before.probs, atol=1e-3)
    assert lab.next_token.view["note"] == "at the end of the prompt, with adapter × 1.5"
    lab.adapters = {}
    lab.wait()
    assert np.allclose(lab.preview.before.probs, before.before.probs, atol=1e-5)


@pytest.fixture
def turned(lab, gate, until):
    """A function that turns something at a text which stands still, and lets it go on with that."""

    def turn(asked):
        asked()
        until(lambda: lab.session._worker.n_queued)
        gate.go_on()
        lab._adapters.settle()

    return turn


@pytest.fixture
def anew(lab, gate, until):
    """A function that has a run with weights of its own decoded anew."""

    def press(run):
        ask(lab.adapter_cards, "exact")
        until(lambda: run._lane._later)
        gate.go_on()
        lab._adapters.settle()

    return press


def test_a_text_under_way_is_said_to_go_on_over_a_stale_cache(lab, gate, turned, until):
    lab.set(max_tokens=1900, chain=gate.stage | ENDLESS)
    run = lab.start()
    gate.wait()
    assert lab.adapter_cards.note == ""
    turned(lambda: lab.adapter_cards.add(HAPPY, 0.5))
    assert lab.adapter_cards.note == STALE and lab.adapter_cards.is_stale
    turned(lambda: ask(lab.adapter_cards, "exact"))
    assert not lab.adapter_cards.is_stale and lab.adapter_cards.note == ""
    assert not run.trace.in_force[-1][1].stale
    turned(lambda: lab.adapter_cards.set("happy", 0.6))
    assert lab.adapter_cards.is_stale
    run.stop()
    gate.open()
    lab.wait()
    until(lambda: lab.adapter_cards.note.startswith(CHANGED))
    assert not lab.adapter_cards.is_stale
    lab.set(max_tokens=4)
    first = lab.run()
    assert lab.adapter_cards.note == "", "this text is of these weights alone"
    lab.adapter_cards.set("happy", -1)
    lab.wait()
    assert lab.adapter_cards.note.startswith("The text is by the model with control vector")
    lab.adapter_cards.set("happy", 0.6)
    lab.wait()
    assert lab.adapter_cards.note == ""
    lab.panel.select(1)
    assert lab.adapter_cards.note.startswith(CHANGED) and lab.trace is not first


def test_a_run_that_has_weights_of_its_own_is_decoded_anew_by_those(
    lab, session, gate, turned, anew
):
    lab.set(max_tokens=1900, chain=gate.stage | ENDLESS)
    run = lab.start()
    gate.wait()
    run.setting = ml.Setting(lab.chain, control=HAPPY)
    gate.go_on()
    turned(lambda: lab.adapter_cards.add(HAPPY, 0.5))
    assert lab.adapter_cards.note == STALE and lab.adapter_cards.is_stale
    anew(run)
    assert not lab.adapter_cards.is_stale
    assert lab.adapter_cards.note.startswith("The text is by the model with control vector happy")
    assert not run.trace.in_force[-1][1].stale
    assert run.trace.settings[-1][1].control == HAPPY and session.control == 0.5 * HAPPY
    run.stop()


def test_a_run_with_weights_like_those_of_the_session_keeps_its_own(lab, gate, turned, anew):
    lab.set(max_tokens=1900, chain=gate.stage | ENDLESS)
    lab.adapter_cards.add(HAPPY, 0.5)
    run = lab.start()
    gate.wait()
    run.setting = ml.Setting(lab.chain, control=2 * HAPPY)
    turned(lambda: lab.adapter_cards.set("happy", 2))
    assert len(run.trace.settings) > 1 and run.setting.steering == lab.session.steering
    assert lab.adapter_cards.note == STALE and lab.adapter_cards.is_stale
    anew(run)
    assert not lab.adapter_cards.is_stale and lab.adapter_cards.note == ""
    run.stop()


def test_without_room_to_decode_it_anew_a_text_stays_stale_and_the_cards_say_why(
    tiny_model, gate, until
):
    with tiny_model.session(n_ctx=100, n_threads=1, n_seq_max=4) as session:
        lab = AdapterLab(session, "a" * 60, seed=3, max_tokens=30)
        session.logits(lab.prompt_tokens())
        session.fork()  # which is kept, and shares the cells of the prompt
        lab.set(chain=gate.stage | ENDLESS)
        run = lab.start()
        gate.wait()
        run.setting = ml.Setting(lab.chain, control=HAPPY)
        gate.go_on()
        ask(lab.adapter_cards, "exact")
        until(lambda: run._lane._later)
        gate.go_on()
        until(lambda: lab.adapter_cards.problem)
        assert "it goes on stale" in lab.adapter_cards.problem
        assert "session.remove(sequence)" in lab.adapter_cards.problem
        gate.open()
        assert len(run.wait()) == 30
        lab.close()


def test_a_text_that_has_ended_is_not_under_way_though_its_prompt_was_made_by_others(lab):
    trace = lab.run()
    trace.in_force = [(0, trace.in_force[0][1]._replace(stale=True))]  # changed in its prompt
    lab._adapters.show(trace)
    lab.wait()
    assert lab.adapter_cards.note.startswith(CHANGED) and not lab.adapter_cards.is_stale


def test_adapters_and_a_vector_come_into_force_together(lab, session, adapter, monkeypatch):
    seen, change = [], Scheduler.change_weights

    def noted(self, weights, *, exact):
        seen.append((self is session._scheduler, weights.steering))
        change(self, weights, exact=exact)

    monkeypatch.setattr(Scheduler, "change_weights", noted)
    both = ml.Setting(None, {adapter: 0.5}, HAPPY).steering
    lab._adapters.bring_back(both)
    lab.wait()
    assert [steering for is_own, steering in seen if is_own] == [both]
    assert both in [steering for is_own, steering in seen if not is_own], "the dial's rows"
    rows = RowsAside(session)
    del seen[:]
    rows.row([5, 6], both)
    assert [steering for _, steering in seen] == [both]
    rows.close()


def test_what_a_cell_sets_again_and_again_is_followed_to_the_end(lab, session):
    rng = np.random.default_rng(3)
    traces = []
    for turn in range(40):
        session.control = ml.ControlVector({1: rng.normal(size=32)}, name=f"turn {turn}")
        traces.append(session.generate("Hello", max_tokens=1))
    lab.wait()
    assert lab.trace is traces[-1] and lab.panel.runs[-1].trace is traces[-1]
    assert lab.adapter_cards.in_force == "turn 39 × 1" and len(lab.adapter_cards.cards) == 32


def test_an_error_of_a_panel_leaves_the_text_and_the_history(lab, session, monkeypatch):
    def fail(run):
        raise ValueError("a panel that fails")

    monkeypatch.setattr(lab._adapters, "follow", fail)
    trace = session.generate("Hello", max_tokens=1)
    lab.wait()
    assert lab.trace is trace and [past.trace for past in lab.panel.runs] == [trace]


def test_a_run_by_the_model_as_it_is_and_one_by_what_is_on_are_compared(lab, session, adapter):
    base = lab.run()
    lab.adapters = {adapter: 1.5}
    assert reply_to(lab.adapter_cards, "run_both")["ok"]
    lab.wait()
    _, free, bound = (past.trace for past in lab.panel.runs)
    assert free.tokens.tolist() == base.tokens.tolist()
    assert (free.setting.adapters, bound.setting.adapters) == ({}, {adapter: 1.5})
    assert lab.panel.compared == [2, 3] and session.adapters == {adapter: 1.5}
    assert lab.compare(2, 3).b.differs == ("with adapter adapter 1.5",)


def restored(lab, number):
    """The reply to the button that brings a run back, once what it asked for is done."""
    reply = reply_to(lab.panel, "restore", {"number": number})
    lab.wait()
    return reply


def on_cards(lab):
    return [(one["name"], one["scale"], one["on"]) for one in lab.adapter_cards.cards]


def test_a_past_run_comes_back_with_what_acted_on_the_weights(lab, session, adapter):
    lab.adapters = {adapter: 0.8}
    sad = lab.adapter_cards.add(ml.ControlVector({1: np.ones(32)}, name="sad"), -0.3)
    lab.adapter_cards.add(HAPPY, 0.5)
    first, cards = lab.run(), on_cards(lab)
    lab.set(adapters={}, control=None, chain=ml.Greedy(), seed=9)
    bare = lab.run()
    lab.adapter_cards.set("happy", 2)
    lab.adapter_cards.remove(sad)

    reply = restored(lab, 1)
    assert reply["said"].startswith("The chain, adapters, control vector, seed, prompt")
    assert sorted(on_cards(lab)) == sorted(cards), "also the card that was taken away"
    assert session.steering == lab.adapter_cards.steering == first.setting.steering
    assert lab.run().tokens.tolist() == first.tokens.tolist()

    assert restored(lab, 2)["said"].endswith("of run 2 are in force again, and the model as it is.")
    assert session.steering.epoch == "" and not any(on for _, _, on in on_cards(lab))
    assert lab.run().tokens.tolist() == bare.tokens.tolist()


def test_of_a_run_that_was_turned_on_the_way_its_end_comes_back(lab, session, gate, turned):
    lab.set(max_tokens=1900, chain=gate.stage | ENDLESS)
    lab.adapter_cards.add(HAPPY, 0.5)
    run = lab.start()
    gate.wait()
    turned(lambda: lab.adapter_cards.set("happy", 0.7))
    assert len(run.trace.settings) > 1
    run.stop()
    gate.open()
    lab.wait()
    lab.control = None
    restored(lab, 1)
    assert on_cards(lab) == [("happy", 0.7, True)] and session.control == 0.7 * HAPPY


def test_runs_of_a_saved_lab_come_back_and_what_is_gone_is_said(lab, adapter, tmp_path):
    style = tmp_path / "style.gguf"
    style.write_bytes(adapter.path.read_bytes())
    lab.control = 0.5 * HAPPY
    assert [name for name, _, _ in on_cards(lab)] == ["0.5 * happy"]
    lab.run()
    lab.adapters = {ml.LoraAdapter.load(style): 0.8}
    lab.run()
    lab.set(adapters={}, control=None, seed=9)
    path = lab.save(tmp_path / "steered.lab")
    style.unlink()
    with ml.Model.load(lab.session.model.path) as model:
        again = AdapterLab.reopen(path, model)
        assert restored(again, 1)["ok"] and on_cards(again) == [("0.5 * happy", 1.0, True)]
        assert again.session.control == 0.5 * HAPPY
        again.set(seed=9)
        reply = restored(again, 2)
        assert "run 2 is in force again, but for what acted on the weights" in reply["error"]
        assert "style.gguf" in reply["error"] and again.panel.seed == 3
        assert again.session.adapters == {} and again.session.control == 0.5 * HAPPY
        again.close()


def test_what_a_cell_puts_in_force_is_on_cards(lab, session, adapter):
    session.adapters, session.control = {adapter: 0.3}, HAPPY
    session.generate("Hello", max_tokens=1)
    lab.wait()
    assert [(one["name"], one["scale"]) for one in lab.adapter_cards.cards] == [
        ("adapter", 0.3), ("happy", 1.0),
    ]  # fmt: skip
    assert lab.adapters == {adapter: 0.3} and lab.control == HAPPY


def test_a_session_that_is_given_keeps_what_is_in_force(session, adapter):
    session.adapters = {adapter: -1.0}
    lab = AdapterLab(session)
    lab.wait()
    assert session.adapters == lab.adapters == {adapter: -1.0}
    lab.close()
    assert session.adapters == {adapter: -1.0}


def test_another_model_takes_what_fits_it(adapter, tiny_path, tmp_path):
    other = tiny.write(tmp_path / "other.gguf", architecture="gemma3")
    with ml.Model.load(tiny_path) as model:
        lab = AdapterLab(model, "Hello")
        lab.adapters = {adapter: 0.5}
        lab.adapter_cards.add(HAPPY)
        lab.load(other, n_ctx=64)
        lab.wait()
        card, happy = lab.adapter_cards.cards
        assert not card["on"] and "it is for llama" in card["note"]
        assert lab.session.adapters == {} and lab.session.control == HAPPY and happy["on"]
        assert (
            "it is for llama"
            in reply_to(lab.adapter_cards, "toggle", {"key": card["key"], "on": True})["error"]
        )
        lab.load(tiny_path, n_ctx=64)
        assert [one["note"] for one in lab.adapter_cards.cards] == ["", ""]
        lab.close()


def test_a_lab_that_is_taken_up_again_has_its_cards(lab, tiny_model, adapter, tmp_path):
    lab.adapters = {adapter: 0.5}
    lab.control = HAPPY
    path = lab.save(tmp_path / "steered.lab")
    again = AdapterLab.reopen(path, tiny_model)
    again.wait()
    assert (again.adapters, again.control) == ({adapter: 0.5}, HAPPY)
    assert again.session.steering == lab.session.steering
    again.close()


def test_an_adapter_for_another_model_is_refused_in_place(lab, tmp_path):
    pair = np.ones((2, 8), np.float32), np.ones((8, 2), np.float32)
    path = tiny.write_adapter(tmp_path / "wide.gguf", {"blk.0.attn_q.weight": pair})
    assert reply_to(lab.adapter_cards, "add", {"path": str(path)})["ok"]
    lab.wait()
    assert "does not fit this model" in lab.adapter_cards.unread and lab.adapter_cards.cards == []


def test_a_file_that_was_altered_is_said_and_what_was_in_force_stays(
    lab, session, adapter, tmp_path
):
    pair = np.ones((2, 32), np.float32), np.ones((64, 2), np.float32)
    path = tiny.write_adapter(tmp_path / "new.gguf", {"blk.0.attn_q.weight": pair})
    lab.adapters = {adapter: 0.5}
    lab.adapter_cards.add(path)
    lab.wait()
    assert len(session.adapters) == 2
    path.write_bytes(adapter.path.read_bytes())
    lab.adapter_cards.set("new", 0.7)
    lab.wait()
    assert len(session.adapters) == 2, "llama.cpp has read it"


def test_its_code_makes_it_again(lab, session, adapter, tiny_path, tmp_path):
    HAPPY.save(tmp_path / "happy.gguf")
    lab.adapters = {adapter: 0.5}
    lab.adapter_cards.add(tmp_path / "happy.gguf", -0.4)
    lab.wait()
    made: dict = {}
    exec(lab.to_code(), made)
    again = made["bench"]
    again.wait()
    assert again.session.steering == session.steering
    assert (again.adapters, again.control) == (lab.adapters, lab.control)
    assert again.panels == ["adapters"]
    again.close()
    made["session"].close()
    made["model"].close()


def test_the_dial_shows_what_the_chosen_card_does_beside_the_others(lab, session, adapter):
    lab.adapters = {adapter: 0.5}
    key = lab.adapter_cards.add(HAPPY, -1)
    lab.wait()
    assert (lab.dial.name, lab.dial.strength) == ("happy", -1)
    with_both, without = session.logits("Hello"), None
    lab.adapter_cards.toggle("happy")
    lab.wait()
    without = session.logits("Hello")
    kl = row_differences(without, with_both)["kl"]
    assert lab.dial.kl == pytest.approx(kl, rel=1e-3), "also what a card would do that is off"
    lab.dial.strength = 2
    lab.wait()
    assert [card["scale"] for card in lab.adapter_cards.cards if card["key"] == key] == [2]
    lab.adapter_cards.chosen = lab.adapter_cards.cards[0]["key"]
    lab.wait()
    assert (lab.dial.name, lab.dial.strength) == ("adapter", 0.5)
    lab.adapter_cards.remove(0)
    lab.adapter_cards.remove(0)
    lab.wait()
    assert lab.dial.name == "" and lab.dial.shown == {}


def test_a_hidden_panel_computes_nothing_and_catches_up(session):
    lab = ml.Workbench(session, "Hello")
    lab.control = HAPPY
    lab.wait()
    assert session.control == HAPPY and lab.dial.shown == {}
    lab.panels = ["adapters"]
    lab.wait()
    assert lab.dial.name == "happy" and lab.dial.kl > 0
    lab.close()


def changed_on_the_way(lab, adapter, n=9):
    """A text of the bench's session whose weights are changed at step 4."""
    base, changed = ml.Setting(lab.chain), ml.Setting(lab.chain, {adapter: 3.0})
    return lab.session.generate("Hello", {0: base, 4: changed}, max_tokens=n, seed=3)


def test_the_gap_of_a_stale_text_is_measured_once_it_has_ended(lab, session, adapter):
    trace = changed_on_the_way(lab, adapter)
    lab.wait()
    found = staleness_in(trace, on=session)
    note = lab.adapter_cards.note
    assert trace is lab.trace and note == f"{CHANGED} {gap_in_words(found)}"
    assert f"{found.most:.2g} nats at most" in note and "(noise up to " in note
    lab.run()
    lab.wait()
    assert "gap" not in lab.adapter_cards.note, "this text is not stale"
    lab.panel.select(1)
    assert lab.adapter_cards.note == note, "it is measured once"


def test_a_hidden_panel_measures_no_gap(session, adapter):
    lab = ml.Workbench(session, "Hello", max_tokens=6)
    changed_on_the_way(lab, adapter)
    lab.wait()
    assert "gap" not in lab.adapter_cards.note
    lab.panels = ["adapters"]
    lab.wait()
    assert "The gap to an exact cache is " in lab.adapter_cards.note
    lab.close()


def test_the_effect_is_a_layer_of_the_text_that_is_measured_when_it_is_chosen(
    lab, session, adapter
):
    lab.run()
    lab.wait()
    assert lab.strip.more == {}, "nothing acted on it"
    lab.adapters = {adapter: 3.0}
    trace = lab.run()
    lab.wait()
    steering = session.steering
    assert lab.strip.more == {"effect": ""} and not lab.strip.has("effect")
    lab.strip.layer = "effect"
    lab.wait()
    found = effect_in(trace, on=session)
    assert lab.strip.has("effect") and lab.strip.more["effect"] == f"effect: {found.summary()}"
    _, (kl, base_logprob, sizes, _) = ask_data(lab.strip, "costs", {"layer": "effect"})
    np.testing.assert_allclose(np.frombuffer(kl, "<f4"), found.kl, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(np.frombuffer(base_logprob, "<f4"), found.base_logprob, rtol=1e-3)
    other = np.frombuffer(sizes, "<i4") > 0
    assert other.tolist() == (found.base_best != trace.tokens).tolist()
    assert session.steering == steering


def test_what_is_measured_leaves_the_session_alone(lab, session, adapter):
    lab.adapters = {adapter: 3.0}
    lab.run()
    lab.wait()
    decoded, held = session.n_decoded, session.tokens.tolist()
    lab.strip.layer = "effect"
    lab.wait()
    assert lab.strip.has("effect")
    assert (session.n_decoded, session.tokens.tolist()) == (decoded, held)
    lab.run()
    lab.wait()
    assert lab.strip.has("effect"), "while it is chosen each text is measured as it ends"


def test_what_is_said_of_a_stale_text_is_said_in_every_panel(lab, adapter):
    lab.set(panels=["adapters", "samplers", "what-if"])
    changed_on_the_way(lab, adapter)
    lab.wait()
    assert "on the run above, stale from step 4 on: " in lab.what_if.line
    ask(lab.strip, "pick", {"step": 5})
    lab.wait()
    where = "at step 5, where the text is stale (this row is decoded anew)"
    assert lab.next_token.view["note"].startswith(where)
    assert "step 5 (stale in the text): draws " in repr(lab.next_token)
    ask(lab.strip, "pick", {"step": 3})
    lab.wait()
    assert lab.next_token.view["note"] == "at step 3" and "stale" not in repr(lab.next_token)


def test_the_dial_stands_at_a_token_that_is_picked(lab, session, tiny_model):
    lab.adapter_cards.add(HAPPY, 1.0)
    trace = lab.run()
    lab.wait()
    at_the_prompt = lab.dial.shown
    ask(lab.strip, "pick", {"step": 3})
    lab.wait()
    tokens = trace.history(3).tolist()
    rows = [steered(tiny_model, tokens, **what) for what in ({}, {"control": HAPPY})]
    assert lab.dial.kl == pytest.approx(row_differences(*rows)["kl"], rel=1e-2)
    assert lab.dial.where == "step 3" and lab.dial.shown != at_the_prompt
    ask(lab.strip, "pick", {"step": 0})
    lab.adapter_cards.set("happy", 0.5)
    lab.wait()
    assert (lab.dial.where, lab.dial.strength) == ("step 0", 0.5), "a turn leaves it there"
    lab.adapter_cards.set("happy", 1.0)
    assert reply_to(lab.dial, "back")["ok"]
    lab.wait()
    assert lab.dial.where == "" and lab.dial.shown == at_the_prompt
    ask(lab.strip, "pick", {"step": 3})
    lab.set(prompt="Hello there")
    lab.wait()
    assert lab.dial.where == "", "another prompt is asked for"


PAIRS = [
    (f"yes {word} good", f"no {word} good")
    for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")
]
TYPED = "\n".join(" | ".join(pair) for pair in PAIRS)


@pytest.fixture
def deep(tmp_path):
    """A lab on a model of five layers."""
    with ml.Model.load(tiny.write(tmp_path / "deep.gguf", n_layer=5)) as model:
        lab = AdapterLab(model, "Hello")
        yield lab
        lab.close()


def learn(lab, text=TYPED, name="mine"):
    return reply_to(lab.trainer, "learn", {"name": name, "text": text})


def test_a_vector_is_learnt_from_what_is_typed_and_dialled(deep):
    assert learn(deep)["ok"]
    deep.wait()
    want = train(PAIRS, on=deep.session)
    form, cards = deep.trainer, deep.adapter_cards
    assert form.state == "finished" and form.said == f"Learnt {want.summary()}."
    assert deep.session.control == deep.control == want.pick(*want.band)
    assert cards.rows["separation"] == want.separation.tolist() and not form.unfolded
    assert (deep.dial.name, deep.dial.strength) == ("mine", 1.0) and deep.dial.kl > 0
    first = deep.dial.kl
    reply_to(cards, "layers", {"key": cards.chosen, "layers": [1, 1], "seq": 1})
    deep.wait()
    assert deep.session.control == want.pick(1, 1)
    assert deep.dial.what == want.pick(1, 1) and deep.dial.kl != first
    assert learn(deep)["ok"]
    deep.wait()
    assert form.state == "finished" and len(cards.cards) == 2, "in its band once more"
    assert learn(deep)["ok"]
    deep.wait()
    assert form.state == "failed" and "has a card already" in form.message


def test_learning_is_stopped_and_leaves_nothing(deep, monkeypatch):
    reached, go_on = threading.Event(), threading.Event()

    def tell(panel, share):
        reached.set()
        assert go_on.wait(20)

    monkeypatch.setattr("mullama_lab.labs._learning.Learning._tell", tell)
    learn(deep)
    assert reached.wait(20) and deep.trainer.state == "running"
    assert learn(deep)["ok"] and "Stop it first" in deep.trainer.message
    reply_to(deep.trainer, "stop")
    go_on.set()
    deep.wait()
    assert deep.trainer.state == "stopped" and deep.adapter_cards.cards == []
    monkeypatch.undo()
    learn(deep)
    deep.stop()  # whether it has begun by then or not
    deep.wait()
    assert deep.trainer.state == "stopped" and deep.adapter_cards.cards == []
    learn(deep)
    deep.wait()
    assert deep.trainer.state == "finished"


def test_what_cannot_be_learnt_is_said_in_the_form(deep, tiny_path):
    learn(deep, "yes | no\nyes |")
    assert deep.trainer.state == "idle" and deep.trainer.line == 2
    long = "x" * 100
    deep.load(tiny_path, n_ctx=64)
    learn(deep, f"yes | no\n{long} | no")
    deep.wait()
    assert deep.trainer.state == "failed" and "tokens, and 64 fit" in deep.trainer.message


def test_another_model_ends_what_is_being_learnt(deep, tiny_path, monkeypatch):
    reached = threading.Event()

    def tell(panel, share):
        reached.set()

    monkeypatch.setattr("mullama_lab.labs._learning.Learning._tell", tell)
    learn(deep, "\n".join([TYPED] * 200))
    assert reached.wait(20)
    deep.load(tiny_path, n_ctx=64)
    assert deep.trainer.state == "stopped" and deep.adapter_cards.cards == []
    learn(deep)
    deep.wait()
    assert deep.adapter_cards.cards[0]["layers"] == [1, 1]


def test_the_pad_blends_the_two_cards_that_were_looked_at_last(lab, session, adapter, small_maps):
    cards = lab.adapter_cards
    with pytest.raises(ValueError, match="takes two cards"):
        cards.side = "pad"
    lab.adapters = {adapter: 0.5}
    cards.add(HAPPY, -1)
    cards.side = "pad"
    lab.wait()
    pad = lab.blend_pad
    assert (pad.levers, pad.at, pad.state) == ((adapter, HAPPY), (0.5, -1), "finished")
    assert lab.dial.shown == {} and lab.dial.layout.display == "none" != pad.layout.display
    want = row_differences(steered(session.model, "Hello"), session.logits("Hello"))["kl"]
    assert pad.kl == pytest.approx(want, rel=1e-3)
    pad.at = (1.5, 0.25)
    lab.wait()
    assert (session.adapters, session.control) == ({adapter: 1.5}, 0.25 * HAPPY)
    assert [card["scale"] for card in cards.cards] == [1.5, 0.25]
    cards.set("happy", 1)
    lab.wait()
    assert pad.at == (1.5, 1)
    cards.chosen = cards.cards[0]["key"]
    cards.add(SAD, 0.5)
    lab.wait()
    assert pad.levers == (adapter, SAD) and pad.about == "beside happy × 1"
    cards.chosen = cards.cards[1]["key"]
    lab.wait()
    assert pad.levers == (HAPPY, SAD) and pad.at == (1, 0.5)
    forms = lab._still_forms()["text/plain"]
    assert "BlendPad(happy × 1, sad × 0.5" in forms and "Dial(" not in forms


def test_with_fewer_than_two_on_there_is_no_map(lab, adapter, small_maps):
    cards = lab.adapter_cards
    lab.adapters = {adapter: 0.5}
    cards.add(HAPPY)
    cards.side = "pad"
    cards.toggle("happy")
    lab.wait()
    assert lab.blend_pad.levers == () and lab.blend_pad.shown == {}
    cards.toggle("happy")
    lab.wait()
    assert lab.blend_pad.levers == (adapter, HAPPY)
    cards.remove("adapter")
    lab.wait()
    assert lab.blend_pad.levers == () and (cards.sides, lab.dial.name) == ({}, "happy")


def test_a_lab_is_saved_while_the_pad_computes_its_map(
    lab, adapter, small_maps, tmp_path, monkeypatch
):
    lab.adapters = {adapter: 0.5}
    lab.adapter_cards.add(HAPPY, -1)
    row = RowsAside.row
    monkeypatch.setattr(RowsAside, "row", lambda *asked: (time.sleep(0.3), row(*asked))[1])
    lab.adapter_cards.side = "pad"
    path = lab.save(tmp_path / "work.lab")
    assert lab.blend_pad.state == "running"
    lab.wait()
    assert lab.blend_pad.state == "finished"
    again = AdapterLab.reopen(path, lab.session.model)
    assert list(again.adapters.values()) == [0.5] and again.control == lab.control
    again.close()


def test_a_lab_is_saved_before_both_runs_are_compared_and_a_vector_is_learnt(
    lab, tmp_path, monkeypatch
):
    over = threading.Event()

    def learn(*_, **__):
        over.wait()
        raise Stopped("stopped")

    monkeypatch.setattr(lab._desk, "compare", lambda *_: over.wait())
    monkeypatch.setattr(_learning, "train", learn)
    lab.adapter_cards.add(HAPPY, 0.5)
    lab._adapters.run_both()
    lab.trainer.text = "yes | no\nwarm | cold"
    lab.trainer.learn()
    saved = threading.Thread(target=lab.save, args=[tmp_path / "work.lab"], daemon=True)
    saved.start()
    saved.join(60)
    still = saved.is_alive()
    over.set()
    lab.wait()
    assert not still
    again = AdapterLab.reopen(tmp_path / "work.lab", lab.session.model)
    assert again.control == 0.5 * HAPPY
    again.close()


def test_a_hidden_pad_computes_nothing(lab, adapter, small_maps):
    lab.adapters = {adapter: 0.5}
    lab.adapter_cards.add(HAPPY)
    lab.adapter_cards.side = "pad"
    lab.panels = ["samplers"]
    lab.adapter_cards.set("happy", 0.3)
    lab.wait()
    assert lab.blend_pad.state == "idle" and lab.blend_pad.levers == ()
    lab.panels = ["adapters"]
    lab.wait()
    assert lab.blend_pad.at == (0.5, 0.3) and lab.blend_pad.state == "finished"

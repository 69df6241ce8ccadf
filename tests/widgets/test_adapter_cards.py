"""AdapterCards: what the cards that are on make together; what is refused changes nothing."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from page import reply_to, text_of

import mullama_lab as ml
from mullama_lab.engine.steering.steering import Steering, Weights
from mullama_lab.errors import ModelFileError
from mullama_lab.studies.control_vectors import Training
from mullama_lab.widgets import AdapterCards, adapter_cards


def vector(name, *numbers, architecture=""):
    return ml.ControlVector({1: numbers}, name=name, architecture=architecture)


HAPPY, SAD = vector("happy", 1.0, 0.5), vector("sad", 0.0, -2.0)


@pytest.fixture
def cards(adapter):
    cards = AdapterCards()
    cards.add(adapter, 0.5)
    cards.add(HAPPY, 0.8)
    cards.add(SAD, -1)
    return cards


LAYERS = ml.ControlVector({layer: [float(layer), 0.0] for layer in (1, 2, 4)}, name="calm")


def learnt():
    """What was learnt of three layers, the last two of which do well."""
    return Training(
        vector=LAYERS,
        model_name="tiny",
        method="mean",
        n_pairs=6,
        n_held_out=2,
        layers=np.array([1, 2, 4]),
        accuracy=np.array([0.5, 1.0, 1.0]),
        separation=np.array([0.5, 3.0, 2.5]),
    )


def ask(cards, op, **args):
    reply = reply_to(cards, op, args)
    cards.settle()
    return reply


def test_a_vector_of_the_library_is_added_by_its_name(tmp_path, monkeypatch):
    cards = AdapterCards()
    ask(cards, "add", path="poetic")
    assert [one["name"] for one in cards.cards] == ["poetic"]
    assert cards.control == ml.ControlVector.named("poetic")
    monkeypatch.chdir(tmp_path)
    HAPPY.save(tmp_path / "formal")
    cards = AdapterCards()
    cards.add("formal")
    assert cards.control == HAPPY, "a file of that name comes first"


def test_a_name_that_is_none_is_told_which_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    HAPPY.save(tmp_path / "data" / "mine.gguf")
    cards = AdapterCards()
    with pytest.raises(ModelFileError, match=r"Did you mean data.mine\.gguf\?$"):
        cards.add("mine")
    with pytest.raises(ModelFileError, match=r"'nothing' does not exist.*poetic.*mine\.gguf"):
        cards.add("nothing")


def test_what_is_on_acts_together(cards, adapter):
    assert cards.adapters == {adapter: 0.5}
    assert cards.control == 0.8 * HAPPY - SAD
    cards.toggle("sad")
    cards.toggle(0)
    assert cards.steering == Steering({}, 0.8 * HAPPY)
    assert cards.in_force == "happy × 0.8"
    cards.set("happy", 0)
    assert cards.in_force == "" and cards.steering.epoch == ""
    cards.set("happy", 1)
    assert cards.control is HAPPY, "the vector itself, so its code is short"
    cards.remove("happy")
    assert cards.control is None and [one["name"] for one in cards.cards] == ["adapter", "sad"]


def test_what_is_set_switches_the_others_off(cards, adapter):
    keys = [card["key"] for card in cards.cards]
    cards.control = SAD
    cards.adapters = {}
    assert [card["on"] for card in cards.cards] == [False, False, True]
    assert [card["key"] for card in cards.cards] == keys, "those that had one keep their cards"
    cards.adapters = {adapter: -2.0}
    cards.control = HAPPY + SAD
    assert [card["scale"] for card in cards.cards] == [-2.0, 0.8, 1.0, 1.0]
    assert cards.steering == Steering({adapter: -2.0}, HAPPY + SAD)
    cards.take(Steering({adapter: -2.0}, SAD + HAPPY))
    assert len(cards.cards) == 4, "it is what they say already"


def test_what_a_cell_sets_is_never_refused_for_want_of_a_card(cards, adapter):
    cards.take(Steering({adapter: 0.5}, HAPPY))
    for scale in (0.1, -0.3, 1.7, 1e-3, *np.linspace(0.011, 3, 40)):
        cards.take(Steering({adapter: 0.5}, float(scale) * HAPPY))
        assert [card["on"] for card in cards.cards] == [True, True, False]
        assert cards.steering == Steering({adapter: 0.5}, float(scale) * HAPPY)
    cards.take(Steering({}, 0.1 * HAPPY))
    assert cards.cards[1]["scale"] == 0.1 and len(cards.cards) == 3, "a multiple is that card"
    cards.control = -2 * SAD
    assert cards.cards[2]["scale"] == -2 and len(cards.cards) == 3
    for turn in range(1, 41):
        made = vector(f"turn {turn}", 1.0, 0.5 + turn)
        cards.take(Steering({adapter: 0.5}, made))
        assert cards.steering == Steering({adapter: 0.5}, made)
    names = [card["name"] for card in cards.cards]
    assert names == ["adapter", *(f"turn {turn}" for turn in range(10, 41))], "the oldest give way"
    many = {vector(f"wide {turn}", 1.0, -1.0 - turn) for turn in range(3)}
    for one in many:
        cards.control = one
    assert len(cards.cards) == 32 and cards.cards[0]["on"]
    with pytest.raises(ValueError, match="there are 32 cards"):
        cards.add(vector("more", 0.0, 1.0))


def test_a_card_says_what_it_is(cards, adapter):
    lora, happy, _ = cards.cards
    assert lora["about"].startswith("LoRA, rank 2, alpha 4 · 1 weight of 1 layer (0) · 192 numbers")
    assert happy["about"] == "control vector · 1 layer (1) · 2 numbers each · length 1.12"
    assert (lora["kind"], happy["kind"]) == ("LoRA", "vector")


def test_a_file_is_added_by_its_path(cards, adapter, tmp_path):
    path = tmp_path / "new.gguf"
    vector("calm", 3.0, 4.0).save(path)
    assert ask(cards, "add", path=f" {path} ")["ok"]
    assert cards.chosen == cards.cards[-1]["key"] and cards.cards[-1]["name"] == "calm"
    assert ask(cards, "add", path=str(path))["ok"]
    assert "has a card already" in cards.unread and len(cards.cards) == 4
    ask(cards, "remove", key=cards.cards[0]["key"])
    assert ask(cards, "add", path=str(adapter.path))["ok"]
    assert cards.cards[-1]["kind"] == "LoRA" and (cards.reading, cards.unread) == ("", "")
    with pytest.raises(ModelFileError, match="does not exist"):
        cards.add(tmp_path / "nothing.gguf")


def test_the_layers_that_are_chosen_act(cards):
    key = cards.add(LAYERS, 2)
    assert cards.cards[-1]["layers"] == [1, 4] and cards.rows["key"] == key
    assert cards.rows["layers"] == [1, 2, 4] and not cards.rows["can_keep"]
    assert ask(cards, "layers", key=key, layers=[2, 3], seq=4) == {"seq": 4, "ok": True}
    assert cards.control == 0.8 * HAPPY - SAD + 2 * LAYERS.layers(2, 3)
    assert cards.cards[-1]["layers"] == [2, 2], "the layers there are"
    assert cards.cards[-1]["name"] == "calm" and "1 layer (2)" in cards.cards[-1]["about"]
    cards.toggle("calm")
    cards.set_layers("calm", (1, 4))
    assert cards.rows["layers"] == [1, 2, 4]
    cards.toggle("calm")
    assert cards.control == 0.8 * HAPPY - SAD + 2 * LAYERS, "all can be chosen again"
    cards.chosen = cards.cards[0]["key"]
    assert cards.rows == {} and cards.cards[0]["layers"] == []
    with pytest.raises(ValueError, match="adapter is an adapter: only a vector"):
        cards.set_layers("adapter", (1, 2))


def test_what_was_learnt_is_spread_over_its_layers_and_kept_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("MULLAMA_LAB_CONFIG", str(tmp_path / "config"))
    cards, training = AdapterCards(), learnt()
    key = cards.add(training)
    assert cards.control == training.pick(2, 4) and cards.in_force == "calm × 1"
    assert cards.rows["separation"] == [0.5, 3.0, 2.5] and cards.rows["can_keep"]
    cards.set_layers("calm", (1, 2))
    assert cards.control == training.pick(1, 2)
    assert "built-in" in ask(cards, "keep", key=key, name="happy", replace=False)["error"]
    assert "is no name" in ask(cards, "keep", key=key, name="a/b", replace=False)["error"]
    reply = ask(cards, "keep", key=key, name="mine", replace=False)
    assert not reply["taken"] and "'mine' is weak" in reply["warned"]
    assert cards.names == ["mine"] and cards.cards[0]["name"] == "mine"
    with pytest.warns(UserWarning, match="'mine' is weak"):
        assert cards.control == ml.ControlVector.named("mine") == training.pick(1, 2)
    assert cards.to_code() == "session.control = ml.ControlVector.named('mine')"
    cards.set_layers("mine", (4, 4))
    assert cards.control == training.pick(4, 4), "the others can still be chosen"
    assert ask(cards, "keep", key=key, name="mine", replace=False) == {"taken": True, "ok": True}
    with pytest.warns(UserWarning, match="'mine' is weak"):
        assert ml.ControlVector.named("mine") == training.pick(1, 2)
    ask(cards, "keep", key=key, name="mine", replace=True)
    assert ml.ControlVector.named("mine") == training.pick(4, 4)
    with pytest.raises(ValueError, match="was not learnt here"):
        cards.keep(cards.add(HAPPY), "other")


@pytest.mark.parametrize(
    "op, args",
    [
        ("set", {"key": "card1", "value": "much", "seq": 1}),
        ("set", {"key": "card1", "value": True, "seq": 1}),
        ("set", {"key": "card1", "value": float("nan"), "seq": 1}),
        ("set", {"key": "card1", "value": 1e300, "seq": 1}),
        ("set", {"key": "card1", "value": 1, "seq": -1}),
        ("set", {"key": "card9", "value": 1, "seq": 1}),
        ("set", {"key": "card3", "value": 3e38, "seq": 1}),
        ("layers", {"key": "card1", "layers": [1, 1], "seq": 1}),
        ("layers", {"key": "card2", "layers": [2, 9], "seq": 1}),
        ("layers", {"key": "card2", "layers": [1], "seq": 1}),
        ("layers", {"key": "card2", "layers": None, "seq": 1}),
        ("layers", {"key": "card2", "layers": [1, True], "seq": 1}),
        ("keep", {"key": "card2", "name": "x", "replace": False}),
        ("keep", {"key": "card2", "name": "", "replace": False}),
        ("keep", {"key": "card2", "name": "x", "replace": 0}),
        ("toggle", {"key": "card1", "on": 1}),
        ("remove", {"key": None}),
        ("add", {"path": "  "}),
        ("add", {"path": "x" * 5000}),
        ("add", {"path": 7}),
        ("run_both", {}),
        ("nonsense", {}),
    ],
)
def test_bad_requests_are_answered_and_change_nothing(cards, op, args):
    cards.set("happy", 2)
    before = (cards.cards, cards.steering, cards.in_force)
    assert ask(cards, op, **args)["error"]
    assert (cards.cards, cards.steering, cards.in_force) == before


def test_a_file_that_holds_neither_is_said_where_it_was_asked_for(cards):
    before = cards.cards, cards.steering
    for path, words in (("/dev/null", "empty"), ("nothing.gguf", "does not exist")):
        assert ask(cards, "add", path=path)["ok"]
        assert words in cards.unread and cards.reading == ""
    assert (cards.cards, cards.steering, cards.problem) == (*before, "")


@pytest.mark.parametrize("slow", ["the file", "the model's reading of it"])
def test_while_a_large_file_is_read_the_others_can_be_turned(
    cards, adapter, tmp_path, monkeypatch, until, slow
):
    go_on, path = threading.Event(), tmp_path / "large.gguf"
    vector("calm", 3.0, 4.0).save(path)
    calm = ml.ControlVector.load(path)
    if slow == "the file":
        read = adapter_cards.read_file
        monkeypatch.setattr(adapter_cards, "read_file", lambda one: go_on.wait(20) and read(one))
    else:
        cards.must_fit_with(lambda made: made.control != calm or go_on.wait(20))
    assert reply_to(cards, "add", {"path": str(path)})["ok"]
    assert cards.reading == f"large.gguf, {path.stat().st_size} bytes" and len(cards.cards) == 3
    assert reply_to(cards, "set", {"key": "card1", "value": 0.7, "seq": 1})["ok"]
    assert reply_to(cards, "toggle", {"key": "card2", "on": False})["ok"]
    assert "large.gguf, " in reply_to(cards, "add", {"path": str(path)})["error"]
    assert cards.adapters == {adapter: 0.7} and cards.control == -SAD
    go_on.set()
    cards.settle()
    assert cards.reading == "" and [one["name"] for one in cards.cards][3:] == ["calm"]
    assert cards.control == calm - SAD


def test_vectors_of_different_models_are_not_added(cards):
    with pytest.raises(ValueError, match="different models"):
        cards.add(vector("wide", 1.0, 2.0, 3.0))
    assert len(cards.cards) == 3


def test_what_does_not_fit_is_refused_or_switched_off(cards, adapter, tiny_model):
    cards.must_fit_with(lambda steering: Weights.of(steering, tiny_model))
    with pytest.raises(ValueError, match="2 numbers a layer"):
        cards.set("happy", 0.1)
    assert cards.cards[1]["scale"] == 0.8
    cards.fit()
    assert [card["on"] for card in cards.cards] == [True, False, False]
    assert "2 numbers a layer" in cards.cards[1]["note"]
    assert cards.steering == Steering({adapter: 0.5})
    good = ml.ControlVector({1: np.ones(32)}, name="good")
    cards.add(good)
    assert cards.control == good


def test_its_code_has_the_same_act(tiny_model, adapter, tmp_path):
    path = tmp_path / "v.gguf"
    ml.ControlVector({1: np.ones(32)}).save(path)
    loaded = ml.ControlVector.load(path)
    cards = AdapterCards()
    cards.add(adapter, -0.5)
    cards.add(loaded, 0.7)
    with tiny_model.session(n_ctx=64) as session:
        exec(cards.to_code(), {"ml": ml, "session": session})
        assert session.steering == cards.steering
    cards.control = ml.ControlVector({1: np.arange(32) + 2}, name="mine")
    assert "# save this control vector first: vector.save('vector-" in cards.to_code()
    assert AdapterCards().to_code() == ""


def test_its_static_form_says_what_is_shown(cards):
    cards.say("The text is by the model with my Run 3 × 1.", "Run writes it anew.")
    html = cards._repr_mimebundle_()[0]["text/html"]
    for form in (html, text_of(cards)):
        assert "by the model with my Run 3 × 1." in form and "Run writes" not in form
    assert "happy" in html and "In force: adapter × 0.5" in html and "<script" not in html
    assert "happy    0.8  on  control vector" in text_of(cards)


def test_several_are_set_at_once_or_none():
    cards, seen = AdapterCards(), []
    for seed, name in enumerate(("happy", "sad")):
        cards.add(ml.ControlVector({1: np.random.default_rng(seed).normal(size=32)}, name=name))
    cards.observe(lambda change: seen.append(change["new"]), "steering")
    cards.set_many({"happy": 0.5, 1: -2})
    assert [card["scale"] for card in cards.cards] == [0.5, -2] and len(seen) == 1
    for wrong in ({"happy": 1, "calm": 1}, {"happy": 1, "sad": float("nan")}):
        with pytest.raises(ValueError):
            cards.set_many(wrong)
    with pytest.raises(TypeError, match="name or place"):
        cards.set_many([("happy", 1)])
    assert [card["scale"] for card in cards.cards] == [0.5, -2]

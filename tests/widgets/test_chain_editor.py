"""The chain editor without a browser: the same requests, and the same calls from Python."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page import reply_data, reply_to, text_of

from mullama_lab.engine.stages import (
    DRY,
    Ban,
    Chain,
    Custom,
    LogitBias,
    Mask,
    MinP,
    Temperature,
    TopK,
    TopP,
)
from mullama_lab.engine.stages.catalogue import catalogue
from mullama_lab.widgets import ChainEditor, _cards
from mullama_lab.widgets._cards import edited, fresh

ROOT = Path(__file__).resolve().parents[2]


def ask(editor: ChainEditor, op: str, **args: Any) -> dict[str, Any]:
    """What the browser gets back."""
    reply, _ = reply_data(editor, op, args)
    return reply


@pytest.fixture
def editor() -> ChainEditor:
    return ChainEditor(TopK(40) | MinP(0.05) | Temperature(0.8))


def key(editor: ChainEditor, i: int) -> str:
    return editor.cards[i]["key"]


def test_the_saved_state_is_small(editor: ChainEditor) -> None:
    state = {k: v for k, v in editor.get_state().items() if k not in ("_esm", "_css")}
    assert len(json.dumps(state, default=str)) < 16_000


def test_a_setting_changes_from_python_and_from_the_browser(editor: ChainEditor) -> None:
    editor.set("TopK", k=20)
    assert editor.chain == TopK(20) | MinP(0.05) | Temperature(0.8)
    reply = ask(editor, "set", key=key(editor, 1), name="p", value=0.1, seq=4)
    assert reply == {"ok": True, "seq": 4}
    assert editor.chain[1] == MinP(0.1)
    editor.set(-1, t=0)
    assert editor.chain[2] == Temperature(0.0)


def test_a_refused_value_gives_the_stages_own_message_and_changes_nothing(
    editor: ChainEditor,
) -> None:
    before = editor.chain
    with pytest.raises(ValueError) as raised:
        MinP(2.0)
    reply = ask(editor, "set", key=key(editor, 1), name="p", value=2.0, seq=1)
    assert reply == {"ok": False, "error": str(raised.value)}
    with pytest.raises(ValueError, match="from 0 to 1"):
        editor.set("MinP", p=2.0)
    assert editor.chain is before


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("set", {"key": "card1", "name": "k", "value": True, "seq": 1}),
        ("set", {"key": "card1", "name": "k", "value": None, "seq": 1}),
        ("set", {"key": "card1", "name": "k", "value": [1], "seq": 1}),
        ("set", {"key": "card1", "name": "__class__", "value": 1, "seq": 1}),
        ("set", {"key": "card1", "name": "k", "value": 1.5, "seq": 1}),
        ("set", {"key": "card1", "name": "k", "value": float("nan"), "seq": 1}),
        ("set", {"key": "card1", "name": "k", "value": "9" * 2000, "seq": 1}),
        ("set", {"key": "card9", "name": "k", "value": 1, "seq": 1}),
        ("set", {}),
        ("toggle", {"key": "card1", "on": "yes"}),
        ("move", {"key": "card1", "to": 99}),
        ("move", {"key": "card1", "to": 0.5}),
        ("move", {"key": "card1", "to": True}),
        ("add", {"stage": "Custom"}),
        ("add", {"stage": ["TopK"]}),
        ("add", {"stage": "os.system"}),
        ("remove", {"key": 1}),
        ("explode", {}),
    ],
)
def test_hostile_requests_are_refused_in_words(
    editor: ChainEditor, op: str, args: dict[str, Any]
) -> None:
    before = editor.chain
    reply = ask(editor, op, **args)
    assert reply["ok"] is False and len(reply["error"]) > 10
    assert editor.chain == before


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.integers(), st.text())))
def test_any_request_is_answered(args: dict[str, Any]) -> None:
    editor = ChainEditor(TopK(40) | MinP(0.05))
    for op in ("set", "toggle", "move", "add", "remove"):
        assert isinstance(reply_to(editor, op, args)["ok"], bool)


def test_a_card_that_is_off_keeps_its_settings(editor: ChainEditor) -> None:
    editor.set("MinP", p=0.2)
    assert ask(editor, "toggle", key=key(editor, 1), on=False)["ok"]
    assert editor.chain == TopK(40) | Temperature(0.8)
    editor.toggle("MinP")
    assert editor.chain == TopK(40) | MinP(0.2) | Temperature(0.8)


def test_a_token_is_banned_allowed_again_and_favoured(editor: ChainEditor) -> None:
    before = editor.chain
    assert editor.bias(5, -np.inf) == "banned"
    assert editor.chain == LogitBias({5: -np.inf}) | before
    assert editor.bias(5, -np.inf) == "allowed again"
    assert editor.chain == before
    assert editor.bias(5, 1.0) == "favoured by 1"
    assert editor.bias(5, 1.0) == "favoured by 2"
    assert editor.bias(7, -np.inf) == "banned"
    assert editor.chain == LogitBias({5: 2.0, 7: -np.inf}) | before
    assert editor.bias(7, 1.0) == "favoured by 1"  # what was banned may come again
    assert editor.bias(5, -np.inf) == "banned"
    assert editor.chain == LogitBias({5: -np.inf, 7: 1.0}) | before


def test_a_card_says_the_tokens_that_it_names_once_they_can_be_spelt(editor: ChainEditor) -> None:
    editor.bias(5, -np.inf)
    editor.bias(7, 1.0)
    assert editor.cards[0]["tokens"] == editor.cards[0]["each_token"] == ""
    pieces = {5: b" leg", 7: b"\n"}
    editor.spell_with(pieces.__getitem__)
    assert editor.cards[0]["tokens"] == "bans ·leg; favours ↵ (+1)"
    assert editor.cards[0]["each_token"] == "5: bans ·leg; 7: favours ↵ (+1)"
    assert "bans ·leg" in text_of(editor)
    assert editor.cards[1]["tokens"] == ""
    editor.bias(7, -np.inf)
    assert editor.cards[0]["tokens"] == "bans ·leg, ↵"
    editor.spell_with(lambda token: b"other%d" % token)  # of another model
    assert editor.cards[0]["tokens"] == "bans other5, other7"


def test_of_many_tokens_a_card_says_the_first_and_how_many_more(editor: ChainEditor) -> None:
    def spell(token: int) -> bytes:
        if token > 2:
            raise ValueError("no such token")
        return b"a"

    editor.spell_with(spell)
    editor.chain = Chain([Mask(allow=range(1000), ban=[3])])
    said = editor.cards[0]["tokens"]
    assert said.startswith("allows a, a, a, <3>, ") and said.endswith("; and 977 more")
    assert len(said) < 200


def test_what_does_not_fit_is_refused_before_anything_changes(editor: ChainEditor) -> None:
    def at_most_50(stages) -> None:
        for stage in stages:
            if isinstance(stage, TopK) and stage.k > 50:
                raise ValueError(f"{stage} does not fit")

    told: list[Chain] = []
    editor.must_fit_with(at_most_50)
    editor.observe(lambda change: told.append(change["new"]), "chain")
    chain, cards, code = editor.chain, editor.cards, editor.code
    for change in (
        lambda: editor.set("TopK", k=51),
        lambda: editor.add(TopK(60)),
        lambda: setattr(editor, "chain", Chain.of(TopK(70) | MinP(0.3))),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            change()
        assert (editor.chain, editor.cards, editor.code) == (chain, cards, code) and not told
    reply = ask(editor, "set", key=key(editor, 0), name="k", value=51, seq=1)
    assert "does not fit" in reply["error"] and editor.chain == chain
    editor.set("TopK", k=50)
    assert told == [editor.chain]


def test_what_does_not_fit_any_more_can_still_be_taken_away() -> None:
    def no_top_k(stages) -> None:
        if any(isinstance(stage, TopK) for stage in stages):
            raise ValueError("no")

    editor = ChainEditor(TopK(40) | TopK(30) | MinP(0.05))
    editor.must_fit_with(no_top_k)
    editor.set("MinP", p=0.1)
    editor.remove(0)
    editor.toggle("TopK")
    assert editor.chain == Chain.of(MinP(0.1))
    with pytest.raises(ValueError, match="no"):
        editor.toggle("TopK")


def test_cards_move_and_keep_their_keys(editor: ChainEditor) -> None:
    top_k = key(editor, 0)
    assert ask(editor, "move", key=top_k, to=2)["ok"]
    assert editor.chain == MinP(0.05) | Temperature(0.8) | TopK(40)
    assert key(editor, 2) == top_k
    editor.move("TopK", 0)
    assert editor.chain == TopK(40) | MinP(0.05) | Temperature(0.8)


def test_stages_are_added_removed_and_reset(editor: ChainEditor) -> None:
    home = editor.chain
    assert editor.changed is False
    reply = ask(editor, "add", stage="TopP")
    assert reply["ok"] and editor.cards[-1]["key"] == reply["key"]
    assert editor.chain == home | TopP(0.95)
    editor.remove("TopK")
    assert editor.changed is True
    ask(editor, "reset")
    assert editor.chain == home and editor.changed is False


def test_two_cards_of_a_kind_are_told_apart_by_place(editor: ChainEditor) -> None:
    editor.add(TopK(5))
    with pytest.raises(ValueError, match="2 cards are 'TopK'"):
        editor.set("TopK", k=3)
    editor.set(3, k=3)
    assert editor.chain[3] == TopK(3)


def test_the_chain_set_from_python_becomes_the_cards(editor: ChainEditor) -> None:
    kept = key(editor, 1)
    editor.chain = MinP(0.3) | TopP(0.5)
    assert [card["code"] for card in editor.cards] == ["MinP(0.3)", "TopP(0.5)"]
    assert key(editor, 0) == kept
    editor.reset()
    assert editor.chain == MinP(0.3) | TopP(0.5)


def test_observers_see_each_valid_chain_once(editor: ChainEditor) -> None:
    seen: list[Chain] = []
    editor.observe(lambda change: seen.append(change.new), "chain")
    editor.set("TopK", k=20)
    editor.set("TopK", k=20)
    with pytest.raises(ValueError):
        editor.set("TopK", k=-1)
    editor.toggle("MinP", on=False)
    assert seen == [
        TopK(20) | MinP(0.05) | Temperature(0.8),
        TopK(20) | Temperature(0.8),
    ]


def test_a_custom_stage_is_switched_and_moved_but_not_edited() -> None:
    def swing(logits: np.ndarray, history: np.ndarray) -> np.ndarray:
        return logits

    editor = ChainEditor(Custom(swing) | TopK(40))
    card = editor.cards[0]
    assert card["custom"] is True and card["code"] == "Custom(swing)"
    reply = ask(editor, "set", key=card["key"], name="function", value="print", seq=1)
    assert reply["ok"] is False
    editor.move(0, 1)
    editor.toggle(1, on=False)
    assert editor.chain == Chain([TopK(40)])


@pytest.mark.parametrize(
    ("stage", "name", "text", "expected"),
    [
        (LogitBias(), "biases", "262: -1.5, 198:-inf", LogitBias({262: -1.5, 198: -np.inf})),
        (Mask(), "ban", "3, 10-12", Mask(ban=[3, 10, 11, 12])),
        (Mask(), "allow", "5", Mask(allow=[5])),
        (Mask(allow=[5]), "allow", "", Mask()),
        (DRY(), "breakers", '"\\n", "é"', DRY(breakers=["\n", "é"])),
        (Ban(), "words", '"delve", "a testament to"', Ban(["delve", "a testament to"])),
    ],
)
def test_lists_are_written_as_text(stage: Any, name: str, text: str, expected: Any) -> None:
    assert edited(stage, {name: text}) == expected


@pytest.mark.parametrize("stage", [LogitBias({3: -2.0, 9: -np.inf}), Mask(ban=[1, 2, 3, 9]), DRY()])
def test_the_text_of_a_list_reads_back(stage: Any) -> None:
    for name, rule in stage.texts().items():
        assert edited(stage, {name: rule.write(getattr(stage, name))}) == stage


@pytest.mark.parametrize(
    ("stage", "name", "text"),
    [
        (Mask(), "ban", "1, two"),
        (Mask(), "ban", "9-3"),
        (Mask(), "ban", "0-999999999"),
        (LogitBias(), "biases", "1: nan"),
        (LogitBias(), "biases", "1 2"),
        (DRY(), "breakers", "unquoted"),
        (Ban(), "words", "unquoted"),
        (Ban(), "words", '""'),
        (DRY(), "breakers", "[1]"),
    ],
)
def test_a_list_that_cannot_be_read_says_how_to_write_it(stage: Any, name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r".{20,}"):
        edited(stage, {name: text})


def test_a_long_list_is_shown_and_not_edited() -> None:
    editor = ChainEditor(Chain([Mask(ban=range(0, 4000, 2))]))
    card = editor.cards[0]
    assert card["texts"]["ban"] is None
    assert len(card["code"]) <= 120


def test_every_stage_of_the_catalogue_can_be_added() -> None:
    editor = ChainEditor(Chain())
    for entry in catalogue():
        key = editor.add(entry["stage"])
        place = [card["key"] for card in editor.cards].index(key)
        assert fresh(entry["stage"]) == editor.chain[place]
        assert place == (0 if entry["stage"] == "Constrain" else len(editor.chain) - 1)


def test_the_code_makes_the_chain_again(editor: ChainEditor) -> None:
    import mullama_lab as ml

    editor.add(LogitBias({1: -np.inf, 2: 0.5}))
    made: dict[str, Any] = {}
    exec(editor.to_code(), {"ml": ml}, made)
    assert made["chain"] == editor.chain


def test_notes_belong_to_the_cards_in_force(editor: ChainEditor) -> None:
    editor.toggle("MinP", on=False)
    editor.annotate(["one", "two"])
    assert editor.notes == {key(editor, 0): "one", key(editor, 2): "two"}
    editor.annotate(["about a chain that is gone"])
    assert len(editor.notes) == 2
    editor.annotate(None)
    assert editor.notes == {}


def test_threads_that_turn_settings_leave_cards_and_chain_in_step(editor: ChainEditor) -> None:
    def turn(which: str, name: str) -> None:
        for i in range(1, 60):
            editor.set(which, **{name: i / 100 if name == "p" else i})

    threads = [threading.Thread(target=turn, args=a) for a in (("TopK", "k"), ("MinP", "p"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert editor.chain == TopK(59) | MinP(0.59) | Temperature(0.8)
    assert [card["code"] for card in editor.cards] == list(map(repr, editor.chain))


def test_the_text_form_is_deterministic(editor: ChainEditor) -> None:
    editor.set("Temperature", t=1)
    editor.toggle("MinP", on=False)
    assert text_of(editor) == (
        "ChainEditor: TopK(40) | Temperature(1)\n"
        "  0 TopK(40)\n"
        "  1 MinP(0.05)  (off)\n"
        "  2 Temperature(1)  (no effect: t is 1: the logits stay as they are)"
    )
    bundle, _ = editor._repr_mimebundle_()
    assert "<script" not in bundle["text/html"] and "TopK(40)" in bundle["text/html"]


# Chains by name


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("MULLAMA_LAB_CONFIG", str(tmp_path))
    return tmp_path / "presets.json"


def names(editor: ChainEditor, *, own: bool) -> list[str]:
    return [preset["name"] for preset in editor.presets if preset["own"] is own]


def test_a_chain_is_saved_and_taken_again_by_its_name(config, editor):
    chain = editor.chain
    assert ask(editor, "save_preset", name="mine", replace=False)["ok"]
    assert names(editor, own=True) == ["mine"]
    assert ask(editor, "load_preset", name="greedy")["ok"]
    assert editor.chain == Chain.preset("greedy")
    assert editor.changed
    assert ask(editor, "load_preset", name="mine")["ok"]
    assert editor.chain == chain and not editor.changed
    editor.load_preset("greedy")
    editor.reset()
    assert editor.chain == chain


def test_a_preset_is_known_by_the_code_of_its_chain(config, editor):
    editor.load_preset("creative-min-p")
    assert {"name": "creative-min-p", "own": False, "code": editor.code} in editor.presets


def test_the_preset_is_the_one_taken_last_of_those_with_this_chain(config, editor):
    assert editor.preset == ""
    editor.save_preset("stories")
    editor.save_preset("a copy")
    assert editor.preset == "a copy"
    assert ask(editor, "load_preset", name="stories")["ok"]
    assert editor.preset == "stories"
    editor.set("TopK", k=11)
    assert editor.preset == ""
    editor.reset()
    assert editor.preset == "stories"
    assert not ask(editor, "load_preset", name="nowhere")["ok"]
    assert editor.preset == "stories"


def test_a_preset_is_deleted_and_brought_back(config, editor):
    chain = editor.chain
    editor.save_preset("mine")
    editor.load_preset("greedy")
    assert ask(editor, "delete_preset", name="mine")["ok"]
    assert names(editor, own=True) == [] and editor.preset == "greedy"
    assert ask(editor, "restore_preset")["name"] == "mine"
    assert names(editor, own=True) == ["mine"]
    editor.load_preset("mine")
    assert editor.chain == chain
    editor.delete_preset("mine")
    assert editor.chain == chain and editor.preset == ""


def test_what_cannot_be_deleted_or_brought_back_is_said(config, editor):
    assert "built-in" in ask(editor, "delete_preset", name="greedy")["error"]
    assert "no chain 'mine'" in ask(editor, "delete_preset", name="mine")["error"]
    assert "none to bring back" in ask(editor, "restore_preset")["error"]
    editor.save_preset("mine")
    editor.delete_preset("mine")
    Chain([TopK(3)]).save("mine")  # another notebook
    assert "already" in ask(editor, "restore_preset")["error"]
    assert Chain.preset("mine") == Chain([TopK(3)])


def test_a_card_that_stays_of_its_kind_keeps_its_key(config, editor):
    keys = {card["stage"]: card["key"] for card in editor.cards}
    editor.load_preset("creative-min-p")
    assert {card["stage"]: card["key"] for card in editor.cards} == {
        name: keys[name] for name in ("MinP", "Temperature")
    }


def test_what_another_notebook_saved_is_offered_when_it_is_asked_for(config, editor):
    Chain([TopK(3)]).save("elsewhere")
    assert names(editor, own=True) == []
    assert ask(editor, "list_presets")["ok"]
    assert names(editor, own=True) == ["elsewhere"]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a\\b", "", "x" * 41, "x" * 9999, "a.json", 5, None, ["a"]]
)
@pytest.mark.parametrize("op", ["save_preset", "load_preset", "delete_preset"])
def test_a_name_from_the_browser_is_no_path(op, name, config, editor):
    before = editor.chain
    assert not ask(editor, op, name=name, replace=True)["ok"]
    assert editor.chain == before
    assert list(config.parent.iterdir()) == []


def test_a_name_that_is_taken_is_replaced_only_when_that_is_said_there_too(config, editor):
    editor.save_preset("mine")
    reply = ask(editor, "save_preset", name="mine", replace=False)
    assert not reply["ok"] and "already" in reply["error"]
    assert not ask(editor, "save_preset", name="mine")["ok"], "replace must be said"
    assert ask(editor, "save_preset", name="mine", replace=True)["ok"]
    assert "built-in" in ask(editor, "save_preset", name="greedy", replace=True)["error"]


def test_a_chain_with_a_function_says_that_it_cannot_be_saved(config, editor):
    editor.add(Custom(abs))
    reply = ask(editor, "save_preset", name="mine", replace=False)
    assert "a Python function is code, not a value" in reply["error"]


def test_a_damaged_file_leaves_the_built_in_chains_and_is_named(config):
    config.write_text("{")
    editor = ChainEditor(TopK(40))
    assert "greedy" in names(editor, own=False)
    for op, args in (("list_presets", {}), ("save_preset", {"name": "mine", "replace": True})):
        assert str(config) in ask(editor, op, **args)["error"]
    assert ask(editor, "load_preset", name="greedy")["ok"]
    assert config.read_text() == "{"


def test_a_chain_of_more_stages_than_the_editor_holds_is_not_taken(config, editor):
    Chain([TopK(9)] * 40).save("long")
    assert "40 stages; the editor holds 32" in ask(editor, "load_preset", name="long")["error"]


@pytest.mark.parametrize("which", [np.zeros(2), 0.5, None, ["TopK"]])
def test_a_card_is_named_by_a_text_or_a_place(which):
    with pytest.raises(ValueError, match="no card is .*; there are TopK"):
        ChainEditor(TopK(40)).remove(which)


def test_a_card_writes_a_share_as_the_next_tokens_heads_do(node: str) -> None:
    shares = [
        0,
        1e-9,
        1e-5,
        1.1e-5,
        5e-4,
        0.0123,
        0.05,
        0.0999,
        0.1,
        0.474,
        0.5,
        0.989,
        0.99,
        0.996,
        0.999,
        0.9999,
        1,
    ]
    module = ROOT / "widgets" / "next_token_row.js"
    script = (
        f"import('{module}').then(({{ shortly }}) => "
        f"console.log(JSON.stringify({shares}.map(shortly))))"
    )
    run = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True)
    assert [_cards._shortly(share) for share in shares] == json.loads(run.stdout)

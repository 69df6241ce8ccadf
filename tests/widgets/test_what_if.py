"""What other settings would have made of a run is told in words, in bars and as a table."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from page import reply_to, text_of

from mullama_lab.engine.stages import Temperature
from mullama_lab.widgets import WhatIf
from mullama_lab.widgets.what_if import MOST_BARS


def flips(n=3):
    low, high = np.full(n, 0.5), np.full(n, 1.5)
    low[0], high[0] = np.nan, np.nan
    down, up = np.full(n, True), np.full(n, True)
    down[0] = up[0] = up[1] = False
    return SimpleNamespace(
        setting="t", now=0.8, slider=(0.0, 2.0), low=low, high=high, flips_low=down,
        flips_high=up, sure=np.full(n, True), texts=("a", "<b>", "c") + ("d",) * (n - 3),
    )  # fmt: skip


@pytest.fixture
def view():
    view = WhatIf()
    view.say("1 of 3 choices differs")
    view.show_flips(flips(), "Temperature t")
    view.show_effects([("TopK(40)", 0, 3, ""), ("MinP(0)", 0, 3, "p is 0")])
    return view


@pytest.mark.parametrize(
    ("at", "n"), [(0.8, 0), (0.5, 0), (0.4, 2), (1.5, 0), (1.6, 1), (None, None)]
)
def test_a_value_outside_an_interval_flips_its_token(view, at, n):
    view.at = at
    assert view.n_flipped() == n


def test_the_text_form_says_all_in_words(view):
    view.at = 0.4
    assert text_of(view).splitlines() == [
        "What if: 1 of 3 choices differs",
        "Temperature t at 0.4 changes 2 of 2",
        "without TopK(40): none of 3 choices differs",
        "without MinP(0): none of 3 choices differs (p is 0)",
    ]
    html = view._still_forms()["text/html"]
    assert "&lt;b&gt;" in html and "n/a" in html


def test_what_could_not_be_compared_is_not_said_to_be_the_same(view):
    view.show_effects([("MinP(0.1)", 0, 0, "")])
    assert text_of(view).splitlines()[-1] == "without MinP(0.1): n/a"


def test_a_long_run_sends_the_first_bars_and_says_how_many_more(view):
    view.show_flips(flips(1000), "Temperature t")
    assert len(view.bars["marks"]) == MOST_BARS
    assert view.bars["more"] == 1000 - MOST_BARS


def test_nothing_is_shown_before_the_first_run_and_after_a_new_one(view):
    view.clear()
    assert text_of(view) == text_of(WhatIf()) == "What if: nothing was run yet"
    assert not view.bars and not view.effects


def test_a_lever_is_shown_chosen_and_turned_within_what_there_is(view):
    heard = []
    view.on_vary(lambda place: heard.append(("vary", place)))
    view.on_turn(lambda value: heard.append(("turn", value)))
    rule = Temperature.settings()["t"]
    view.show_lever(["TopK k", "Temperature t"], 1, 0.8, rule)
    assert view.levers == ["TopK k", "Temperature t"]
    assert (view.lever["place"], view.lever["value"], view.lever["whole"]) == (1, 0.8, False)
    assert view.lever["slider"] == list(rule.slider)
    assert reply_to(view, "vary", {"place": 0})["ok"]
    assert reply_to(view, "turn", {"value": 1.5})["ok"]
    for op, args in (("vary", {"place": 2}), ("turn", {"value": "1"}), ("turn", {"value": True})):
        assert not reply_to(view, op, args)["ok"]
    assert heard == [("vary", 0), ("turn", 1.5)]

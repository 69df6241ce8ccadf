"""The explore bar: its settings, what it refuses, its forms."""

from __future__ import annotations

import pytest
from page import reply_data, reply_to, text_of

from mullama_lab.widgets import ExploreBar


def test_a_setting_out_of_range_is_refused_and_the_old_one_stays():
    bar = ExploreBar(budget=32, length=4)
    for name, value in (("budget", 0), ("budget", 2001), ("length", 0), ("length", 1001)):
        with pytest.raises(ValueError, match="from 1 to"):
            setattr(bar, name, value)
    for value in (0, 2001, "9", 1.5, None, True, [1]):
        reply = reply_to(bar, "set", {"name": "budget", "value": value})
        assert "budget is" in reply["error"]
    assert "no setting" in reply_to(bar, "set", {"name": "state", "value": 1})["error"]
    assert (bar.budget, bar.length) == (32, 4)
    assert reply_to(bar, "set", {"name": "budget", "value": 64})["ok"] and bar.budget == 64


def test_a_button_asks_who_listens_and_says_what_was_refused():
    bar = ExploreBar()
    with pytest.raises(ValueError, match="nothing listens"):
        bar.explore()
    undo = bar.on_explore(lambda bar: 1 / 0 if bar.budget == 1 else bar.stop())
    reply_data(bar, "explore")
    assert "nothing listens" in bar.message  # to Stop
    bar.on_stop(lambda bar: None)
    assert reply_to(bar, "explore")["ok"] and bar.message == ""
    bar.budget = 1
    assert "ZeroDivisionError" in reply_to(bar, "explore")["error"]
    undo()
    with pytest.raises(TypeError, match="takes a function"):
        bar.on_trim(None)


def test_its_forms_say_what_was_found():
    bar = ExploreBar(budget=9, note="drawn by: TopK(2)")
    assert text_of(bar) == "ExploreBar(idle, budget 9, up to 8 tokens)"
    bar.found = {
        "expanded": 9,
        "prefixes": 9,
        "leaves": 3,
        "mass": 0.25,
        "shortest": 1,
        "longest": 5,
        "open": 2,
    }
    said = text_of(bar)
    assert "3 paths of at most 5 tokens with 25.000%" in said and "2 of them would go on" in said
    html = bar._repr_mimebundle_()[0]["text/html"]
    assert "TopK(2)" in html and "<script" not in html
    assert "budget=9, max_tokens=8" in bar.to_code()

"""TimeStrip: its numbers are those of the table of `timing(trace)`, whatever is brushed."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from page import reply_to, text_of

import mullama_lab as ml
from mullama_lab.studies.timing import PARTS, timing
from mullama_lab.widgets import TimeStrip, time_strip
from mullama_lab.widgets._time_bars import bars_of

ENDLESS = ml.Mask(ban=range(5)) | ml.Temperature(1.0)


@pytest.fixture(scope="module")
def found(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        return timing(session.generate("Hello", ENDLESS, max_tokens=40, seed=1))


def made_of(n, **more):
    """A Timing of n tokens of 5, 1, 0, 1 and 1 ms; the first of them 100 more."""
    parts = {"decode": 5.0, "sampling": 1.0, "constraint": 0.0, "capture": 1.0, "beside": 0.0}
    arrays = {name: np.full(n, ms) for name, ms in parts.items()}
    total = np.full(n, 8.0)
    total[0], arrays["decode"][0] = 108.0, 105.0
    given = {"steps": np.arange(n), "total": total, **arrays, "first": 0, "prompt": None}
    return ml.studies.timing.Timing(**{**given, "n_before": 7, **more})


def set_by_hand(strip, chosen):
    return reply_to(strip, "set", {"chosen": chosen, "seq": 1})


@pytest.mark.parametrize("chosen", [[0, 39], [1, 39], [10, 19], [7, 7]])
def test_what_is_brushed_sums_up_to_the_numbers_of_the_table(found, chosen):
    strip = TimeStrip(found)
    assert set_by_hand(strip, chosen) == {"seq": 1, "ok": True}
    table = found.to_pandas().loc[max(1, chosen[0]) : chosen[1]]  # the first has the prompt
    for name in PARTS:
        ms, share = strip.sums["parts"][name]
        assert ms == pytest.approx(table[name].mean(), rel=1e-3, abs=1e-9)
        assert share == pytest.approx(table[name].sum() / table["total"].sum(), rel=1e-3, abs=1e-9)
    found_there = dict(found.between(chosen[0], chosen[1] + 1).findings)
    del found_there["shares"]  # which stand in the parts
    assert strip.sums["lines"] == list(found_there.values())


def test_each_bar_is_a_row_of_the_table(found):
    drawn, table = bars_of(found), found.to_pandas()
    assert (drawn["first"], drawn["n"], drawn["per"]) == (0, 40, 1)
    assert drawn["labels"] == PARTS, "they are told to the page, which has no list of its own"
    for name in PARTS:
        assert drawn["parts"][name] == pytest.approx(table[name].tolist(), rel=1e-3, abs=1e-9)


def test_of_many_tokens_a_bar_is_the_mean_of_several(found):
    drawn, table = bars_of(found, most=15), found.to_pandas()
    assert drawn["per"] == 3
    for name in PARTS:
        means = table[name][1:].groupby(np.arange(1, 40) // 3).mean()  # the first has the prompt
        assert drawn["parts"][name] == pytest.approx(means.tolist(), rel=1e-3, abs=1e-9)
    first = bars_of(made_of(10), most=5)
    assert [first["parts"][name][0] for name in PARTS] == [5.0, 1.0, 0.0, 1.0, 1.0]
    assert (first["scale"], first["n_cut"]) == (8.0, 0)
    long = made_of(100_000)
    strip = TimeStrip(long)
    assert len(strip.bars["parts"]["decode"]) <= 240 and strip.chosen == [0, 99_999]
    assert len(strip._repr_mimebundle_()[0]["text/html"]) < 30_000


def test_what_is_much_higher_than_the_others_is_cut_and_counted():
    drawn = bars_of(made_of(9))
    assert (drawn["scale"], drawn["n_cut"]) == (4 * 8.0, 1)
    drawn = bars_of(made_of(9, total=np.full(9, 8.0)))
    assert (drawn["scale"], drawn["n_cut"]) == (8.0, 0)


def test_a_trace_that_was_not_timed_has_no_numbers():
    strip = TimeStrip(made_of(4, total=np.full(4, np.nan)))
    assert strip.bars["parts"]["rest"] == [None] * 4 and strip.bars["scale"] is None
    assert strip.sums["parts"]["decode"] == [5.0, None]
    assert "a bar is the mean of 1, to n/a" in strip._repr_mimebundle_()[0]["text/html"]


def test_what_is_chosen_stays_while_the_text_grows():
    strip = TimeStrip(made_of(10))
    strip.put_to(made_of(20))
    assert strip.chosen == [0, 19], "all stays all"
    strip.chosen = [3, 5]
    strip.put_to(made_of(30))
    assert strip.chosen == [3, 5] and strip.timing.steps[-1] == 29
    strip.put_to(made_of(4))
    assert strip.chosen == [0, 3], "there is no step 5"
    strip.put_to(made_of(4, first=None, steps=np.arange(10, 14)))
    assert strip.chosen == [10, 13] and strip.bars["first"] == 10
    strip.put_to(None)
    assert (strip.chosen, strip.bars, strip.sums, strip.timing) == ([], {}, {}, None)


def test_a_brush_while_it_is_put_to_a_longer_text_is_kept(monkeypatch):
    strip = TimeStrip(made_of(10))
    brush = threading.Thread(target=set_by_hand, args=(strip, [3, 5]))

    def brushed_meanwhile(found):
        brush.start()
        brush.join(0.3)  # it would be done by then if it could be
        return bars_of(found)

    monkeypatch.setattr(time_strip, "bars_of", brushed_meanwhile)
    strip.put_to(made_of(20))
    brush.join()
    assert strip.chosen == [3, 5] and strip.sums["lines"][0].startswith("tg3 @ d9")


@pytest.mark.parametrize(
    "chosen, why",
    [
        ([0, 40], "0 to 39"),
        ([-1, 3], "0 to 39"),
        ([5, 3], "comes before"),
        ([3], "first and the last"),
        ([], "first and the last"),
        ([True, 4], "whole number"),
        (["3", 4], "expected an int"),
        ([1.5, 4], "expected an int"),
        (None, "list"),
    ],
)
def test_steps_that_are_not_there_are_refused(found, chosen, why):
    strip = TimeStrip(found)
    assert why in set_by_hand(strip, chosen)["error"]
    with pytest.raises(ValueError, match=why):
        strip.chosen = chosen
    assert strip.chosen == [0, 39]


def test_what_is_no_timing_is_refused(tiny_model):
    for what in (3, "timing", tiny_model, [1.0]):
        with pytest.raises(TypeError, match="is no Timing"):
            TimeStrip(what)
    empty = TimeStrip()
    assert repr(empty) == text_of(empty) == "TimeStrip()"
    assert "no steps to choose" in set_by_hand(empty, [1, 2])["error"]
    empty._repr_mimebundle_()
    empty.put_to(replace(made_of(1), steps=np.arange(0), total=np.arange(0.0), first=None))
    assert empty.bars == {} and empty.chosen == []


def test_its_still_forms_say_what_is_shown(found):
    strip = TimeStrip(found)
    strip.chosen = [10, 19]
    assert text_of(strip) == repr(strip) == "TimeStrip(steps 10 to 19 of 0 to 39)"
    html = strip._repr_mimebundle_()[0]["text/html"]
    assert "Python and display" in html and "<script" not in html and "tg10 @ d" in html


def test_its_still_forms_begin_with_what_is_wrong(found):
    strip = TimeStrip(found)
    strip.fail(ValueError("it was not timed"))
    assert strip.timing is None and strip.chosen == []
    assert text_of(strip) == "it was not timed\nTimeStrip()"
    html = strip._repr_mimebundle_()[0]["text/html"]
    assert html.index("it was not timed</div>") < html.index("Time ")
    strip.put_to(found)
    assert strip.problem == "" and "not timed" not in text_of(strip)

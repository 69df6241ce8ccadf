"""Panels of a workbench: they begin and end with a session, and rest while they are hidden."""

from __future__ import annotations

import threading

import pytest
from page import reply_to

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.labs import _what_if_panel

CHAIN = ml.Mask(ban=[2]) | ml.TopK(20) | ml.Temperature(0.9)
CHAT = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def make(tiny_model):
    """A bench on the tiny model, or on what is given."""
    made = []

    def make(on=tiny_model, prompt="Hello", **options):
        bench = ml.Workbench(on, prompt, chain=CHAIN, **{"seed": 7, "max_tokens": 12, **options})
        made.append(bench)
        bench.wait()
        return bench

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def slow_flips(monkeypatch):
    """Two events: the bars of What if are being found, and may be ready."""
    at_work, go_on = threading.Event(), threading.Event()
    real = _what_if_panel.flip_map

    def slowly(*arguments, **options):
        at_work.set()
        assert go_on.wait(20)
        return real(*arguments, **options)

    monkeypatch.setattr(_what_if_panel, "flip_map", slowly)
    return at_work, go_on


def test_bars_of_the_session_before_are_not_shown_on_the_next(make, slow_flips, tmp_path):
    other_path = tiny.write(tmp_path / "other.gguf", n_vocab=300)  # runs stay with their model
    at_work, go_on = slow_flips
    bench = make(panels=["what-if"])
    bench.run()
    assert at_work.wait(20)
    bench.load(other_path, n_ctx=64)
    go_on.set()
    bench.wait()
    assert (bench.what_if.bars, bench.what_if.line, bench.what_if.busy) == ({}, "", "")


def test_all_that_was_asked_is_shown_after_waiting(make):
    bench = make(panels=["what-if"])
    bench.run()
    bench.wait()
    assert "none of 12 choices differs" in bench.what_if.line and bench.what_if.effects
    assert "nothing was run yet" not in bench._repr_mimebundle_()[0]["text/plain"]


def test_a_hidden_panel_computes_nothing_and_catches_up_when_it_is_shown(make):
    bench = make(panels=["tree"])
    before = bench.session.n_decoded
    bench.set(prompt="Another prompt")
    bench.wait()
    assert bench.session.n_decoded == before and bench.preview is None
    trace = bench.run()
    bench.wait()
    assert bench.what_if.line == ""
    bench.set(panels=["samplers", "what-if"])
    bench.wait()
    assert bench.preview.choice == trace.tokens[0]
    assert "none of 12 choices differs" in bench.what_if.line


def test_what_if_says_which_setting_it_varies_and_turns_it(make):
    bench = make(panels=["what-if"])
    view = bench.what_if
    of = view.levers.index
    assert (view.lever["place"], view.lever["value"]) == (of("Temperature t"), 0.9)
    bench.run()
    assert reply_to(view, "turn", {"value": 1.5})["ok"]
    assert bench.chain[2].t == view.lever["value"] == 1.5
    assert reply_to(view, "vary", {"place": of("TopK k")})["ok"]
    bench.wait()
    assert view.bars["label"] == "TopK k" and view.lever["value"] == 20 and view.lever["whole"]
    bench.editor.toggle("Mask")  # what is off is no stage of the chain
    assert reply_to(view, "turn", {"value": 3})["ok"] and bench.chain[0].k == 3
    assert "k must be" in reply_to(view, "turn", {"value": 2.5})["error"]
    bench.chain = ml.Mask(ban=[2])
    assert (view.levers, view.lever) == ([], {})
    assert not reply_to(view, "turn", {"value": 3})["ok"]


def test_runs_that_somebody_else_began_go_on_when_a_shared_session_is_left(
    make, tiny_model, tiny_path, until
):
    with tiny_model.session(n_ctx=4000) as session:
        bench = make(session, max_tokens=1900)
        mine, own = session.start("abc", CHAIN, max_tokens=1900), bench.start()
        until(lambda: len(mine.trace) > 3 and len(own.trace) > 3)
        bench.load(tiny_path, n_ctx=64)
        assert own.done and own.trace.finish_reason == "stopped"
        n = len(mine.trace)
        until(lambda: len(mine.trace) > n + 3)
        mine.stop()
        assert bench.trace is own.trace  # of the same model, so it is still there
        assert [past.trace for past in bench.panel.runs] == [own.trace]
        assert all(branch.trace is own.trace for branch in bench.tree)


def test_an_answer_is_gone_on_with_whatever_is_shown_meanwhile(make):
    asked = [*CHAT, {"role": "assistant", "content": "Hel"}]
    bench = make(prompt=asked)
    run = bench.start()
    bench.set(chat=False)
    run.wait()
    bench.wait()
    assert bench.panel.messages == [*CHAT, {"role": "assistant", "content": "Hel" + run.trace.text}]


def test_half_an_answer_of_a_model_that_was_left_is_not_kept(make, tiny_path, until):
    bench = make(prompt=CHAT, max_tokens=3000)
    run = bench.start()
    until(lambda: len(run.trace) > 3)
    bench.load(tiny_path, n_ctx=64)
    assert run.done and bench.panel.messages == CHAT


def test_settings_that_are_turned_while_models_change_are_taken(make, tiny_path):
    bench, wrong, ended = make(panels=["samplers", "tree", "what-if"]), [], threading.Event()

    def turn():
        k = 1
        while not ended.is_set():
            k = k % 40 + 1
            try:
                bench.set("TopK", k=k)
                bench.set(seed=k, prompt=f"Hello {k % 3}")
            except Exception as error:
                wrong.append(error)

    thread = threading.Thread(target=turn)
    thread.start()
    for n_ctx in (32, 64, 32, 64):
        bench.load(tiny_path, n_ctx=n_ctx)
    ended.set()
    thread.join()
    bench.wait()
    assert wrong == []
    assert bench.preview.choice == bench.run().tokens[0]

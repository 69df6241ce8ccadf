"""A workbench that begins with a picker, and one that goes on with another model."""

from __future__ import annotations

import threading

import pytest
from page import reply_to

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import ClosedError, LoadCancelled, ModelNotFound, SessionError
from mullama_lab.glyphs import piece_label
from mullama_lab.widgets import ModelPicker

CHAIN = ml.TopK(20) | ml.Temperature(0.9)


@pytest.fixture
def bench():
    bench = ml.Workbench(prompt="Hello", chain=CHAIN, seed=7, max_tokens=8, panels=["tree"])
    yield bench
    bench.close()


@pytest.fixture
def other_path(tmp_path):
    """A model of another vocabulary."""
    return tiny.write(tmp_path / "other.gguf", n_vocab=300, chat_template=tiny.CHATML)


def shown(bench):
    return [type(one).__name__ for one in bench.children]


def test_without_a_model_it_shows_a_picker_and_says_how_to_go_on(bench):
    assert shown(bench) == ["ModelPicker"]
    for call in (bench.run, bench.start, bench.explore, bench.to_code, lambda: bench.look_at(None)):
        with pytest.raises(SessionError, match=r"bench\.load\('smollm2-135m'\)"):
            call()
    assert repr(bench).startswith("Workbench(no model yet, TopK(20)")
    assert (bench.trace, bench.preview, bench.exploration, len(bench.tree)) == (None, None, None, 0)
    bench.wait()
    assert "ModelPicker" in bench._repr_mimebundle_()[0]["text/plain"]


def test_it_opens_in_the_picker_s_place_as_it_was_asked_for(bench, tiny_path, tiny_model):
    bench.set(seed=9)
    session = bench.load(tiny_path, n_ctx=64)
    assert shown(bench) == ["Shelf"] and session is bench.session and session.n_ctx == 64
    trace = bench.run()
    expected = tiny_model.session(n_ctx=64).generate("Hello", CHAIN, max_tokens=8, seed=9)
    assert trace.tokens.tolist() == expected.tokens.tolist()
    assert bench.panels == ["tree"] and bench._arrangement.model == "tiny"
    bench.close()
    assert session.closed and session.model.closed


def test_a_lab_s_own_arguments_and_panels_are_kept(tiny_path):
    lab = ml.labs.SamplerLab(prompt="Hi", stop_strings="~")
    lab.load(tiny_path, n_ctx=64)
    lab.wait()
    assert lab.panels == ["samplers"] and lab.preview is not None
    assert (lab.panel.prompt, lab.panel.stop_strings) == ("Hi", ["~"])
    lab.close()


def test_another_model_takes_over_and_nothing_of_the_one_before_is_shown(
    bench, tiny_path, other_path
):
    before = bench.load(tiny_path, n_ctx=64)
    bench.run()
    bench.set(seed=8)
    after = bench.load(other_path, n_ctx=128)
    assert before.closed and before.model.closed and not after.closed
    assert (bench.panel.runs, bench.trace, len(bench.tree)) == ([], None, 0)
    assert (bench.panel.history, bench.panel.state, bench.bar.room) == ([], "idle", [0, 128])
    assert (bench.panel.seed, bench.chain, bench.panels) == (8, CHAIN, ["tree"])
    bench.run()
    assert len(bench.panel.runs) == len(bench.tree) == 1


def test_runs_and_trees_come_back_with_their_model(bench, tiny_path, other_path):
    bench.load(tiny_path, n_ctx=64)
    first, branch = bench.run(), bench.branch(2, "a")
    bench.load(other_path, n_ctx=64)
    assert bench.panel.message == "2 runs with tiny: kept until that model is opened again."
    other = bench.run()
    bench.load(tiny_path, n_ctx=96)
    assert [past.trace for past in bench.panel.runs] == [first, branch]
    assert [line["number"] for line in bench.panel.history] == [1, 2]
    assert bench.trace is branch and bench.panel.shown == 2 and len(bench.tree) == 2
    assert bench.panel.message == "1 run with tiny: kept until that model is opened again."
    bench.set(seed=9)
    assert bench.run() is bench.panel.runs[-1].trace and len(bench.tree) == 3
    bench.branch(1, "b", trace=first)
    bench.load(other_path)
    assert bench.trace is other and len(bench.tree) == 1


def test_another_session_of_the_same_model_keeps_its_runs(bench, tiny_path):
    bench.load(tiny_path, n_ctx=64)
    trace = bench.run()
    bench.load(tiny_path, n_ctx=128)
    assert bench.trace is trace and len(bench.panel.runs) == len(bench.tree) == 1
    assert bench.bar.room[1] == 128 and bench.panel.message == ""


def label(bench, token):
    return piece_label(bench.session.model.piece(token))


def test_stages_that_name_tokens_go_only_with_their_vocabulary(bench, tiny_path, other_path):
    chain = ml.LogitBias({3: 1.0}) | ml.Mask(ban=[5]) | CHAIN
    bench.chain = chain
    bench.load(tiny_path, n_ctx=64)
    bench.load(tiny_path, n_ctx=96)
    assert bench.chain == ml.Chain.of(chain) and bench.panel.message == ""
    assert bench.editor.cards[0]["tokens"] == f"favours {label(bench, 3)} (+1)"
    bench.load(other_path, n_ctx=64)
    assert bench.chain == CHAIN
    assert bench.panel.message.startswith("LogitBias, Mask went by tokens of another vocabulary")
    bench.editor.bias(290, 1.0)  # the one before has no such token
    assert bench.editor.cards[0]["tokens"] == f"favours {label(bench, 290)} (+1)"
    bench.run()


def test_a_run_on_its_way_is_ended_before_another_model_takes_over(bench, tiny_path, until):
    bench.set(max_tokens=3000)
    bench.load(tiny_path, n_ctx=4000)
    run = bench.start()
    until(lambda: len(run.trace) > 5)
    bench.load(tiny_path, n_ctx=64)
    assert run.done and [past.trace for past in bench.panel.runs] == [run.trace]


def test_a_failed_load_leaves_the_bench_as_it_was(bench, tiny_path):
    session = bench.load(tiny_path, n_ctx=64)
    bench.run()
    with pytest.raises(ModelNotFound):
        bench.load("/nowhere.gguf")
    assert bench.session is session and not session.closed and len(bench.panel.runs) == 1
    bench.run()


def test_a_shared_session_stays_open_and_its_runs_show(bench, tiny_path, tiny_model):
    with tiny_model.session(n_ctx=64) as session:
        bench.load(session)
        assert bench.load(session) is session and not session.closed
        trace = session.generate("Hello", max_tokens=4)
        bench.wait()
        assert bench.trace is trace
        bench.load(tiny_path, n_ctx=32)
        assert not session.closed
        session.generate("Hello", max_tokens=4)
        assert [past.trace for past in bench.panel.runs] == [trace]  # of the same model


def test_the_model_s_button_opens_the_picker_over_the_bench_and_esc_leaves_it(bench, tiny_path):
    bench.load(tiny_path, n_ctx=64)
    assert reply_to(bench._arrangement, "pick")["ok"]
    assert shown(bench) == ["Shelf", "ModelPicker"]
    picker = bench.children[1]
    assert picker.may_leave and [r for r in picker.rows if r.get("at_work")]
    assert reply_to(picker, "leave")["ok"] and shown(bench) == ["Shelf"]
    reply_to(bench._arrangement, "pick")
    bench.load(tiny_path, n_ctx=32)
    assert shown(bench) == ["Shelf"]


def test_the_picker_shows_what_is_at_work_and_what_was_with_their_runs(
    bench, other_path, tmp_path, until
):
    own_path = tiny.write(tmp_path / "own.gguf", chat_template=tiny.CHATML)
    bench.load(own_path, n_ctx=64)
    bench.run()
    bench.load(other_path, n_ctx=64)
    reply_to(bench._arrangement, "pick")
    picker = bench._picking.picker
    rows = {row["key"]: row for row in picker.rows}
    here = rows[picker.chosen]
    assert (
        here["at_work"] and here["name"].startswith(bench.session.model.name) and here["runs"] == 0
    )
    before = next(row for row in picker.rows if row["kind"] == "before")
    assert (before["name"], before["runs"]) == ("tiny", 1)
    assert reply_to(picker, "load", {"key": picker.chosen, "n_ctx": 0, "n_gpu_layers": 0})["ok"]
    until(lambda: shown(bench) == ["Shelf"])
    assert bench.session.model.n_vocab == 300 and bench.panel.runs == []
    reply_to(bench._arrangement, "pick")
    key = before["key"]
    assert reply_to(picker, "load", {"key": key, "n_ctx": 0, "n_gpu_layers": 0})["ok"]
    until(lambda: shown(bench) == ["Shelf"])
    assert bench.session.model.source == str(own_path) and len(bench.panel.runs) == 1


def test_closing_it_while_a_model_loads_ends_that(bench, tiny_path, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    real = ml.Model.load

    def load(*args, **settings):
        begun.set()
        go_on.wait(10)
        return real(*args, **settings)

    monkeypatch.setattr(ml.Model, "load", load)
    before = set(ml.Model.opened())
    loading = bench._picking.picker.start(tiny_path, n_ctx=32)
    begun.wait(10)
    bench.close()
    go_on.set()
    with pytest.raises(LoadCancelled):
        loading.opened_or_stop()
    assert loading.opened is None
    assert set(ml.Model.opened()) <= before
    with pytest.raises(ClosedError):
        bench.load(tiny_path)


def test_a_bench_on_a_page_says_there_that_it_was_closed_after_a_switch(tiny_path, cell):
    cell("a")
    bench = ml.Workbench(prompt="Hello")
    bench._repr_mimebundle_()
    bench.load(tiny_path, n_ctx=64)
    bench.close("over")
    assert bench.panel.closed == bench.strip.closed == "over"
    assert isinstance(bench._picking.picker, ModelPicker)

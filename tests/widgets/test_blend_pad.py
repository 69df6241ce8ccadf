"""BlendPad: its map and its point are what sessions say that have those weights in force."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from page import reply_to, text_of

import mullama_lab as ml
from mullama_lab.engine.noise_floor import divergence, log_softmax
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.errors import ContextFull
from mullama_lab.studies.blend import blend
from mullama_lab.widgets import BlendPad, _blend_grid, blend_pad
from mullama_lab.widgets._levers import Lever


def vector(seed, name):
    return ml.ControlVector({1: np.random.default_rng(seed).normal(size=32)}, name=name)


HAPPY, SAD = vector(1, "happy"), vector(2, "sad")


pytestmark = pytest.mark.usefixtures("small_maps")


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=400, n_threads=1) as session:
        yield session


@pytest.fixture
def pad(session, adapter):
    pad = BlendPad(HAPPY, adapter, on=session, prompt="Hello", at=(0.5, -1.0))
    pad.settle()
    yield pad
    pad.close()


@pytest.fixture
def held_up(monkeypatch):
    """A map that stands still in a cell: `is_there` is set in it, and it goes on with `go_on`."""
    is_there, go_on = threading.Event(), threading.Event()
    rows = blend_pad.RowsAside.row

    def row(self, tokens, steering):
        if threading.current_thread().name == "BlendPad" and is_there.holds:
            is_there.set()
            assert go_on.wait(60)
        return rows(self, tokens, steering)

    is_there.holds = False
    monkeypatch.setattr(blend_pad.RowsAside, "row", row)
    yield is_there, go_on
    go_on.set()


def logs(model, **what):
    """The log-probabilities after the prompt, in a session of its own."""
    with model.session(n_ctx=400, n_threads=1) as fresh:
        for name, value in what.items():
            setattr(fresh, name, value)
        return log_softmax(fresh.logits("Hello"))


def test_the_map_is_that_of_the_study(pad, session, adapter):
    table = pad.to_pandas()
    assert (pad.state, pad.done, table.shape) == ("finished", 25, (5, 5))
    grid = {HAPPY: table.columns, adapter: table.index}
    wanted = blend(session, "Hello", grid)
    np.testing.assert_allclose(table.to_numpy(), wanted.kl, rtol=0.02, atol=1e-4)
    assert table.loc[0.0, 0.0] < 1e-6 < 1e-3 < table.loc[2.0, -2.0]
    sent = np.array(pad.grid["values"]).reshape(5, 5)
    np.testing.assert_allclose(sent, table.to_numpy(), rtol=1e-4, atol=1e-9)


def test_with_a_target_it_is_that_of_the_text(pad, session, adapter):
    pad.target = " and good bye"
    pad.settle()
    table = pad.to_pandas()
    grid = {HAPPY: table.columns, adapter: table.index}
    wanted = blend(session, "Hello", grid, target=pad.target)
    np.testing.assert_allclose(table.to_numpy(), wanted.logprob, atol=0.05)
    assert pad.grid["of"] == "logprob" and pad.kl > 0
    blended = blend(session, "Hello", {HAPPY: [0.5], adapter: [-1.0]}, target=pad.target).logprob
    assert pad.logprob == pytest.approx(blended[0, 0], abs=0.05)
    assert pad.shown["base_logprob"] == pytest.approx(wanted.base_logprob, abs=0.05)
    pad.target = ""
    pad.settle()
    assert pad.grid["of"] == "kl" and pad.logprob is None


def test_at_the_point_it_shows_the_next_token_under_both(pad, tiny_model, adapter):
    for at in ((0.5, -1.0), (1.3, 0.0), (0, 0)):
        pad.at = at
        pad.settle()
        base = logs(tiny_model)
        there = logs(tiny_model, control=at[0] * HAPPY, adapters={adapter: at[1]})
        assert pad.kl == pytest.approx(divergence(base, there), rel=1e-3, abs=1e-9)
        for _, token, without, both in pad.shown["rows"]:
            wanted = np.exp(base[token]), np.exp(there[token])
            assert (without, both) == pytest.approx(wanted, rel=1e-3)
        assert pad.shown["at"] == list(at)


def test_others_act_everywhere_and_vectors_add_up(session, tiny_model, adapter):
    pad = BlendPad()
    others = (Lever("", adapter, 0.5), Lever("", vector(3, "calm"), 0.7))
    pad.put_to(HAPPY, SAD, session, "Hello", at=(1.0, 1.0), others=others)
    pad.settle()
    beside = 0.7 * vector(3, "calm")
    base = logs(tiny_model, adapters={adapter: 0.5}, control=beside)
    there = logs(tiny_model, adapters={adapter: 0.5}, control=beside + HAPPY + SAD)
    assert pad.kl == pytest.approx(divergence(base, there), rel=1e-3)
    assert pad.to_pandas().loc[1.0, 1.0] == pytest.approx(pad.kl, rel=1e-3)
    assert pad.about == "beside adapter × 0.5, calm × 0.7"
    pad.close()


def test_the_session_goes_on_as_it_was(pad, session):
    decoded = session.n_decoded
    pad.at = (2, 2)
    pad.settle()
    assert (session.n_decoded, session.steering) == (decoded, Steering())


def test_the_hand_moves_it_and_who_listens_is_told(pad, session, adapter):
    told, n = [], pad.done
    pad.on_turn(lambda x, y: told.append((x, y)))
    assert reply_to(pad, "set", {"x": 1.25, "y": 0.5, "seq": 3}) == {"seq": 3, "ok": True}
    assert reply_to(pad, "set", {"y": -0.5, "seq": 4})["ok"]
    pad.put_to(HAPPY, adapter, session, "Hello", at=(0.0, 0.0))
    pad.settle()
    assert told == [(1.25, 0.5), (1.25, -0.5)] and pad.at == (0, 0)
    assert (pad.done, pad.state) == (n, "finished"), "the map holds wherever the point is"


def test_the_map_goes_as_far_as_the_point(pad):
    pad.at = (0.5, -5)
    pad.settle()
    assert [axis["reach"] for axis in pad.axes] == [2, 8]
    table = pad.to_pandas()
    assert (table.index.min(), table.index.max(), table.columns.max()) == (-8, 8, 2)
    pad.at = (0.5, 1)
    assert pad.axes[1]["reach"] == 8 and pad.done == pad.cells, "it does not shrink under the hand"


def test_a_map_that_went_much_too_far_comes_back(pad):
    pad.at = (1e30, 1e30)
    pad.settle()
    pad.at = (0.5, 0.5)
    pad.settle()
    assert [axis["reach"] for axis in pad.axes] == [2, 2]
    assert (pad.state, pad.problem) == ("finished", "")


def test_it_stops_shows_what_there_is_and_goes_on(pad, session, adapter, held_up):
    is_there, go_on = held_up
    is_there.holds = True
    pad.put_to(HAPPY, SAD, session, "Hello", at=(1.0, 1.0))
    assert is_there.wait(60) and pad.state == "running"
    assert reply_to(pad, "stop")["ok"] and pad.state == "stopped"
    go_on.set()
    pad.settle()
    assert pad.done < pad.cells and np.isnan(pad.to_pandas().to_numpy()).any()
    assert pad.kl > 0 and pad.state == "stopped", "the point is shown all the same"
    assert reply_to(pad, "go_on")["ok"]
    pad.settle()
    assert pad.state == "finished" and np.isfinite(pad.to_pandas().to_numpy()).all()


def test_the_newest_question_wins(pad, session, adapter, held_up):
    is_there, go_on = held_up
    is_there.holds = True
    pad.put_to(HAPPY, SAD, session, "Hello", at=(1.0, 1.0))
    assert is_there.wait(60)
    pad.put_to(SAD, adapter, session, "Hello", at=(1.0, 1.0))
    is_there.holds = False
    go_on.set()
    pad.settle()
    assert [axis["name"] for axis in pad.axes] == ["sad", "adapter"]
    wanted = blend(session, "Hello", {SAD: [2.0], adapter: [-2.0]}).kl[0, 0]
    assert pad.to_pandas().loc[-2.0, 2.0] == pytest.approx(wanted, rel=0.02)


def test_a_generation_comes_before_the_map(pad, session, until):
    go_on = threading.Event()

    def hold(row, _):
        assert go_on.wait(60)
        return row

    run = session.start("x", ml.Custom(hold), max_tokens=1)
    pad.let_first(run)
    pad.put_to(HAPPY, SAD, session, "Hello", at=(1.0, 1.0))
    pad.settle()
    assert (pad.state, pad.done) == ("running", 0) and pad.kl > 0, "the point is shown meanwhile"
    go_on.set()
    run.wait()
    until(lambda: pad.state == "finished")


def test_coarse_cells_come_first(monkeypatch):
    monkeypatch.undo()
    grid, whole, first = _blend_grid.BlendGrid((2.0, 4.0)), [], []
    while not grid.is_done:
        first.append(grid.next_cell)
        if grid.fill(0.0):
            whole.append((grid.n_done, len(grid.picture(grid.stride))))
    assert whole == [(9, 3), (25, 5), (81, 9), (289, 17)]
    assert set(first[:9]) == {(x, y) for x in (-2, 0, 2) for y in (-4, 0, 4)}
    assert len(set(first)) == 289


@pytest.mark.parametrize("args", [{"x": "1"}, {"y": None}, {"x": float("nan")}, {"x": 1e300}])
def test_what_is_no_strength_is_refused(pad, args):
    assert not reply_to(pad, "set", {**args, "seq": 1})["ok"]
    assert pad.at == (0.5, -1.0)


@pytest.mark.parametrize("at", [1, (1,), (1, 2, 3), (1, float("inf")), ("1", 2)])
def test_what_is_no_point_is_refused(pad, at):
    with pytest.raises((ValueError, TypeError)):
        pad.at = at
    assert pad.at == (0.5, -1.0)


def test_bad_input_is_refused(pad, session):
    with pytest.raises(ValueError, match="two that differ"):
        BlendPad(HAPPY, HAPPY, on=session)
    with pytest.raises(TypeError, match="neither a LoraAdapter"):
        BlendPad(HAPPY, on=session)
    with pytest.raises(TypeError, match="on="):
        BlendPad(HAPPY, SAD)
    with pytest.raises(ValueError, match="2 numbers a layer"):
        BlendPad(HAPPY, ml.ControlVector({2: [1.0, 2.0]}), on=session)
    with pytest.raises(ContextFull):
        pad.target = "far too long " * 100
    reply = reply_to(pad, "target", {"text": "far too long " * 100})
    assert not reply["ok"] and "context" in reply["error"]
    assert not reply_to(pad, "target", {"text": 3})["ok"]
    assert (pad.target, pad.state) == ("", "finished")


def test_where_the_model_has_no_numbers_the_map_has_none(pad, monkeypatch):
    monkeypatch.setattr("mullama_lab.widgets.blend_pad.MOST_KEPT", 1e40)
    pad.at = (0.5, 1e30)
    pad.settle()
    assert "Give a smaller scale" in pad.problem and pad.state == "failed"
    pad.at = (0.5, 0)
    pad.go_on()
    pad.settle()
    assert (pad.problem, pad.state) == ("", "finished") and pad.kl > 0
    table = pad.to_pandas()
    assert table.loc[0.0].notna().all() and table.iloc[-1].isna().all()
    assert pad.grid["values"][-1] is None and "n/a" in text_of(pad)


def test_a_failure_is_said_and_the_rest_comes_when_asked(pad, session, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(blend_pad, "divergence", lambda *_: (_ for _ in ()).throw(ValueError("no")))
        pad.put_to(HAPPY, SAD, session, "Hello", at=(1.0, 1.0))
        pad.settle()
        assert (pad.state, pad.problem) == ("failed", "no")
    pad.go_on()
    pad.settle()
    assert (pad.state, pad.problem) == ("finished", "")


def test_a_closed_pad_has_closed_its_session(pad):
    pad.close()
    assert pad._rows._own.closed


def test_its_code_makes_it_again(pad, session, tmp_path, monkeypatch):
    pad.target = " you"
    pad.settle()
    code = pad.to_code()
    assert code.startswith("# save this control vector first: vector.save('vector-")
    monkeypatch.chdir(tmp_path)
    HAPPY.save(f"vector-{HAPPY.fingerprint[:8]}.gguf")
    made = {"ml": ml, "session": session}
    exec(code, made)
    made["pad"].settle()
    assert made["pad"].shown == pad.shown and made["pad"].grid == pad.grid
    made["pad"].close()
    assert BlendPad().to_code() == "pad = ml.widgets.BlendPad()"


def test_its_still_forms_say_what_is_shown(pad):
    text = text_of(pad)
    assert text.startswith("BlendPad(happy × 0.5, adapter × -1: KL ")
    assert "adapter \\ happy" in text and "without" in text
    html = pad._repr_mimebundle_()[0]["text/html"]
    assert "KL of the next token from that without the two, nats" in html and "<script" not in html
    pad.target = " you"
    pad.settle()
    assert "log-probability of ' you', nats" in text_of(pad)
    pad.clear()
    assert repr(pad) == "BlendPad()" and text_of(pad) == "BlendPad()"

"""Dial: both distributions are those of sessions of their own, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
from page import reply_to, text_of

import mullama_lab as ml
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.errors import ModelFileError
from mullama_lab.widgets import Dial
from mullama_lab.widgets._levers import Lever

HAPPY = ml.ControlVector({1: np.random.default_rng(1).normal(size=32)}, name="happy")


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=400, n_threads=1) as session:
        yield session


@pytest.fixture
def dial(session):
    dial = Dial(HAPPY, on=session, prompt="Hello", strength=0.5)
    dial.settle()
    yield dial
    dial.close()


def steered(model, **what):
    """The probabilities after the prompt, in float64, in a session of its own."""
    with model.session(n_ctx=400, n_threads=1) as fresh:
        for name, value in what.items():
            setattr(fresh, name, value)
        row = fresh.logits("Hello").astype(np.float64)
    p = np.exp(row - row.max())
    return p / p.sum()


def test_it_shows_both_distributions_and_how_far_they_are_apart(dial, tiny_model):
    for strength in (0.5, -1.5):
        dial.strength = strength
        dial.settle()
        p, q = steered(tiny_model), steered(tiny_model, control=strength * HAPPY)
        assert dial.kl == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-3)
        for piece, token, at_0, at_strength in dial.shown["rows"]:
            assert bytes.fromhex(piece) == tiny_model.piece(token)
            assert (at_0, at_strength) == pytest.approx((p[token], q[token]), rel=1e-3)
        tops = [tiny_model.piece(int(row.argmax())) for row in (p, q)]
        assert [bytes.fromhex(top) for top in dial.shown["tops"]] == tops
        assert dial.shown["changed"] == (p.argmax() != q.argmax())
        listed = [row[1] for row in dial.shown["rows"]]
        assert {int(p.argmax()), int(q.argmax())} <= set(listed)
        assert listed[:8] == np.argsort(-p, kind="stable")[:8].tolist(), "in the order at 0"


def test_at_0_it_is_the_model_as_it_is(dial):
    dial.strength = 0
    dial.settle()
    assert dial.kl == 0 and not dial.shown["changed"]
    assert all(p == q for _, _, p, q in dial.shown["rows"])


def test_the_session_goes_on_as_it_was(dial, session):
    assert session.steering == Steering()
    decoded = session.n_decoded
    dial.strength = 2
    dial.settle()
    assert (session.n_decoded, session.steering) == (decoded, Steering())


def test_others_act_in_both(dial, session, adapter, tiny_model):
    dial.put_to(HAPPY, session, "Hello", strength=1.0, others=(Lever("", adapter, 0.5),))
    dial.settle()
    p = steered(tiny_model, adapters={adapter: 0.5})
    q = steered(tiny_model, adapters={adapter: 0.5}, control=HAPPY)
    assert dial.kl == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-3)
    dial.put_to(adapter, session, "Hello", strength=0.5, others=(Lever("", HAPPY),))
    dial.settle()
    p = steered(tiny_model, control=HAPPY)
    assert dial.kl == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-3)
    assert (dial.name, dial.what) == ("adapter", adapter)
    assert dial.about == "beside happy × 1"


def test_a_prompt_longer_than_its_room_opens_another(dial, session):
    dial.put_to(HAPPY, session, [65] * 300, strength=1.0)
    dial.settle()
    assert dial.problem == "" and dial.kl > 0


def test_the_hand_turns_it_and_who_listens_is_told(dial):
    told = []
    dial.on_turn(told.append)
    assert reply_to(dial, "set", {"value": 1.25, "seq": 3}) == {"seq": 3, "ok": True}
    dial.settle()
    dial.put_to(HAPPY, dial._rows.like, "Hello", strength=0.5)
    dial.strength = 1.25
    dial.settle()
    assert told == [1.25, 1.25] and dial.shown["strength"] == dial.strength == 1.25


@pytest.mark.parametrize("value", ["1", None, float("inf"), float("nan"), 1e300])
def test_what_is_no_strength_is_refused(dial, value):
    assert not reply_to(dial, "set", {"value": value, "seq": 1})["ok"]
    assert dial.strength == 0.5
    with pytest.raises((ValueError, TypeError)):
        dial.strength = value


def test_a_scale_at_which_the_model_has_no_numbers_is_said(session, adapter):
    dial = Dial(adapter, on=session, prompt="Hello", strength=1e30)
    dial.settle()
    assert "Give a smaller scale" in dial.problem and dial.shown == {}
    dial.strength = 1
    dial.settle()
    assert dial.problem == "" and dial.kl > 0
    dial.close()


def test_what_fits_another_model_is_refused(session, tmp_path):
    with pytest.raises(ValueError, match="2 numbers a layer"):
        Dial(ml.ControlVector({1: [1.0, 2.0]}), on=session)
    with pytest.raises(TypeError, match="on="):
        Dial(HAPPY)
    with pytest.raises(ModelFileError):
        ml.LoraAdapter.load(tmp_path / "nothing.gguf")


def test_it_may_stand_at_a_step_of_a_text_and_leads_back(dial, session):
    told = []
    assert "nothing listens to back" in reply_to(dial, "back")["error"] and dial.where == ""
    dial.on_back(lambda: told.append("back"))
    dial.put_to(HAPPY, session, "Hell", strength=0.5, where="step 3")
    dial.settle()
    assert dial.where == dial.shown["where"] == "step 3"
    assert repr(dial).startswith("Dial(happy × 0.5 at step 3: KL ")
    assert reply_to(dial, "back")["ok"] and told == ["back"]
    dial.put_to(HAPPY, session, "Hello", strength=0.5)
    dial.settle()
    assert dial.where == "" and " at step" not in repr(dial)


def test_a_closed_dial_has_closed_its_session(dial):
    dial.close()
    assert dial._rows._own.closed


def test_its_code_makes_it_again(session, adapter):
    dial = Dial(adapter, on=session, prompt="Hello", strength=-0.5)
    dial.settle()
    made = {"ml": ml, "session": session}
    exec(dial.to_code(), made)
    made["dial"].settle()
    assert made["dial"].shown == dial.shown
    for one in (dial, made["dial"]):
        one.close()
    assert Dial().to_code() == "dial = ml.widgets.Dial()"


def test_its_still_forms_say_what_is_shown(dial):
    text = text_of(dial)
    assert text.startswith("Dial(happy × 0.5: KL ") and "at 0.5" in text
    html = dial._repr_mimebundle_()[0]["text/html"]
    assert "Next token without it and with it" in html and "<script" not in html
    assert "Dial(" not in html and "happy × 0.5: KL " in html
    assert repr(Dial()) == "Dial()"

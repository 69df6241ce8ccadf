"""Settings in files: traces, trees and sessions come back with what was in force in them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import sealed_file, tiny
from mullama_lab.engine.steering.file import known_of, packed, unpacked
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.trace.parts import changed
from mullama_lab.errors import SessionFileError

PROMPT = list(range(5, 45))
CHAIN = ml.Mask(ban=[tiny.EOS]) | ml.Temperature(0.9)


def vector(seed=0, size=3.0):
    return ml.ControlVector({1: size * np.random.default_rng(seed).normal(size=32)}, name="happy")


@pytest.fixture
def settings(adapters):
    a, b = adapters
    return [ml.Setting(CHAIN, {a: 2.0, b: 0.0}, vector()), ml.Setting(CHAIN, {b: 0.5})]


@pytest.fixture
def trace(session, settings):
    return session.generate(PROMPT, {0: settings[0], 3: settings[1]}, seed=1, max_tokens=6)


def in_words(trace):
    return json.loads(json.dumps(trace.to_dict()))


def test_a_trace_comes_back_with_its_settings(trace, settings):
    for again in (ml.Trace.from_dict(in_words(trace)), pickle.loads(pickle.dumps(trace))):
        assert again == trace and again.settings == [(0, settings[0]), (3, settings[1])]
        assert again.stale.tolist() == [False] * 3 + [True] * 3
        assert repr(again.settings) == repr(trace.settings)
        [was, now] = again.setting.adapters
        assert (was.path, was.targets, now.name) == (
            next(iter(settings[0].adapters)).path,
            next(iter(settings[0].adapters)).targets,
            now.name,
        )
    assert trace[:2].settings == [(0, settings[0])] and not trace[:2].stale.any()
    assert trace[4:].settings == [(0, settings[1])] and trace[4:].stale.all()


def test_what_is_in_force_stands_at_its_step():
    assert changed([(0, "a"), (3, "b")], 3, "a") == [(0, "a")]
    assert changed([(0, "a"), (3, "b")], 5, "c") == [(0, "a"), (3, "b"), (5, "c")]


def test_a_vector_is_written_once_and_with_its_code(session, tmp_path, settings):
    vector().save(tmp_path / "happy.gguf")
    happy = ml.ControlVector.load(tmp_path / "happy.gguf")
    setting = ml.Setting(CHAIN, control=0.5 * (happy - happy.normalize().layers(1, 1)) / 2)
    trace = session.generate(PROMPT, {0: setting, 1: settings[1], 2: setting}, max_tokens=4)
    plain = in_words(trace)
    assert len(plain["steering"]["vectors"]) == 1
    again = ml.Trace.from_dict(plain)
    assert repr(again.setting.control) == repr(setting.control)


def test_every_code_of_a_vector_comes_back():
    formal = ml.ControlVector.named("formal")
    for one in (
        formal,
        -formal,
        formal / 2 - 3 * formal,
        (0.1 * -formal).layers(15, 18).normalize(),
    ):
        steering = Steering(control=one)
        again = unpacked(packed(steering), json.loads(json.dumps(known_of([steering]))))
        assert again == steering and repr(again) == repr(steering)
        assert again.control.model == formal.model
    assert ml.Setting().difference(ml.Setting(control=-formal)) == ["with control vector -formal"]


def test_traces_of_older_files_open(trace):
    plain = in_words(trace)
    del plain["in_force"], plain["steering"]
    assert ml.Trace.from_dict(plain).settings == [(0, ml.Setting(CHAIN))]
    older = ml.Trace.from_dict({**plain, "epochs": [[0, ""], [2, "a9"]]})
    assert older.stale.tolist() == [False] * 2 + [True] * 4, "it does not say which weights"


def broken(plain, where, value):
    *way, last = where
    at = plain
    for key in way:
        at = at[key] if not isinstance(at, dict) or key in at else at[next(iter(at))]
    at[last if not isinstance(at, dict) or last in at else next(iter(at))] = value
    return plain


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("in_force", 0, 0), 1),
        (("in_force", 0, 1), []),
        (("in_force", 0, 1, "adapters"), {"none": 1.0}),
        (("in_force", 0, 1, "adapters"), [1]),
        (("in_force", 0, 1, "control"), "none"),
        (("in_force", 1, 1, "stale"), "yes"),
        (("steering",), None),
        (("steering", "vectors", "?", "layers"), {}),
        (("steering", "vectors", "?", "layers"), {"1": "AAAA"}),
        (("steering", "vectors", "?", "layers"), {"1": "AACAPw=="}),
        (("steering", "vectors", "?", "code"), "__import__('os').abort()"),
        (("steering", "vectors", "?", "code"), "ControlVector.load(open('x'))"),
        (("steering", "adapters", "?", "path"), 3),
        (("steering", "adapters", "?", "rank"), -1),
        (("steering", "adapters", "?", "alpha"), float("nan")),
        (("steering", "adapters", "?", "targets"), "x"),
    ],
)
def test_what_a_stranger_wrote_is_refused(trace, where, value):
    with pytest.raises(ValueError, match="not a dict that Trace.to_dict made"):
        ml.Trace.from_dict(broken(in_words(trace), where, value))


def test_a_tree_has_each_vector_once(session, trace, settings):
    branch = session.branch(trace, 2, int(trace.top_ids[2][1]), max_tokens=2)
    tree = ml.Tree([trace, branch])
    plain = json.loads(json.dumps(tree.to_dict()))
    assert json.dumps(plain).count('"layers"') == 1
    again = ml.Tree.from_dict(plain)
    for one, other in zip(tree, again, strict=True):
        assert other.trace == one.trace and other.trace.settings == one.trace.settings


def test_a_saved_session_has_in_force_what_it_had(session, tiny_model, trace, settings, tmp_path):
    session.adapters, session.control = settings[0].adapters, settings[0].control
    row = session.logits(PROMPT)
    session.save(tmp_path / "a", ml.Tree([trace]))
    arrays, _ = sealed_file.read(tmp_path / "a")
    assert b"".join(one.tobytes() for one in arrays.values()).count(b'"layers"') == 1
    with ml.Session.load(tmp_path / "a", tiny_model) as loaded:
        assert loaded.steering == session.steering and loaded.adapters == session.adapters
        assert loaded.last_trace == session.last_trace
        assert next(iter(loaded.tree)).trace.settings == trace.settings
        before = loaded.n_decoded
        assert np.array_equal(loaded.logits(PROMPT), row)
        assert loaded.n_decoded - before < len(PROMPT), "its cache is that of these weights"
    with ml.Session.load(tmp_path / "a", tiny_model, adapters={}) as loaded:
        assert loaded.adapters == {} and loaded.control == settings[0].control
        before = loaded.n_decoded
        loaded.logits(PROMPT)
        assert loaded.n_decoded - before == len(PROMPT)


def test_a_saved_session_says_which_adapter_is_gone(session, tiny_model, tmp_path):
    pairs = {"blk.0.attn_q.weight": (np.ones((2, 32), "f4"), np.ones((64, 2), "f4"))}
    path = Path(tiny.write_adapter(tmp_path / "style.gguf", pairs))
    session.adapters = {ml.LoraAdapter.load(path): 0.5}
    session.logits(PROMPT)
    session.save(tmp_path / "a")
    elsewhere = path.rename(tmp_path / "moved.gguf")
    with ml.Model.load(tiny_model.path) as model:
        with pytest.raises(SessionFileError, match=r"style.gguf.*adapters=\{LoraAdapter.load"):
            ml.Session.load(tmp_path / "a", model)
        moved = {ml.LoraAdapter.load(elsewhere): 0.5}
        with ml.Session.load(tmp_path / "a", model, adapters=moved) as loaded:
            before = loaded.n_decoded
            loaded.logits(PROMPT)
            assert loaded.n_decoded - before < len(PROMPT)

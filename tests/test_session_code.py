"""Printed code opens a model and a session as they were opened."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.trace import Trace
from mullama_lab.widgets._session_code import session_code
from mullama_lab.widgets.token_strip import TokenStrip

GIVEN = [
    {"n_ctx": 96},
    {"reproducible": True, "n_ctx": 128},
    {"kv_unified": False, "n_seq_max": 2, "n_ctx": 256},
    {"kv_type": "q8_0", "n_threads": 1, "flash_attention": "on"},
    {"n_batch": 32, "n_ubatch": 16, "n_seq_max": 3, "kv_type": ("f16", "f32")},
]
FORMS = {
    "bench": lambda session: ml.Workbench(session).to_code(),
    "samplers": lambda session: ml.labs.SamplerLab(session, max_tokens=2).to_code(),
    "branches": lambda session: ml.labs.BranchLab(session, max_tokens=2).to_code(),
    "strip": lambda session: TokenStrip(session.generate("Hello", max_tokens=2)).to_code(),
    "kept strip": lambda session: TokenStrip(kept(session.generate("Hi", max_tokens=2))).to_code(),
    "branch": lambda session: TokenStrip(branch_of(session)).to_code(),
}


def kept(trace):
    return Trace.from_dict(json.loads(json.dumps(trace.to_dict())))


def branch_of(session):
    """Of a trace that another session made."""
    with session.model.session(n_ctx=64) as other:
        trace = other.generate("Hello", ml.Mask(ban=[2]), max_tokens=3)
    return session.branch(trace, 1, 65, max_tokens=1)


def opened_by(code):
    scope = {"ml": ml}
    exec(code, scope)
    return scope["session"]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steering")
    pairs = {"blk.0.attn_q.weight": (np.ones((2, 32), "f4"), np.ones((64, 2), "f4"))}
    adapter = ml.LoraAdapter.load(tiny.write_adapter(folder / "style.gguf", pairs))
    ml.ControlVector({1: np.arange(32)}).save(folder / "happy.gguf")
    happy = ml.ControlVector.load(folder / "happy.gguf")
    return ml.Setting(ml.Mask(ban=[2]), {adapter: 0.5}, 0.5 * happy)


@pytest.mark.parametrize("form", FORMS)
def test_code_has_in_force_what_was(tiny_path, setting, form):
    with ml.Model.load(tiny_path) as model, model.session(n_ctx=128) as session:
        session.adapters, session.control = setting.adapters, setting.control
        scope = {"ml": ml}
        exec(FORMS[form](session), scope)
        if "trace" in scope and form != "branch":  # whose trace is of another session
            assert scope["trace"].setting.steering == setting.steering
        elif form != "branch":
            assert scope["session"].steering == setting.steering
        scope["model"].close()


def test_code_of_a_trace_has_its_settings_step_by_step(tiny_path, setting):
    plain = ml.Setting(setting.chain)
    with ml.Model.load(tiny_path) as model, model.session(n_ctx=128) as session:
        trace = session.generate("Hello", {0: plain, 3: setting}, max_tokens=6, seed=1)
        branch = session.branch(trace, 4, int(trace.top_ids[4][1]), max_tokens=2)
    for one in (trace, branch):
        scope = {"ml": ml}
        exec(TokenStrip(one).to_code(), scope)
        again = scope["trace"]
        assert again.tokens.tolist() == one.tokens.tolist()
        assert again.settings[-1][1] == one.settings[-1][1] == setting
        scope["model"].close()
    assert f"3: ml.Setting({'ml.Chain([ml.Mask'}" in TokenStrip(trace).to_code()


def test_code_says_which_vector_has_to_be_saved_first(tiny_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vector = ml.ControlVector({1: np.arange(32)})
    setting = ml.Setting(ml.Mask(ban=[2]), control=vector)
    with ml.Model.load(tiny_path) as model, model.session(n_ctx=128) as session:
        trace = session.generate("Hello", setting, max_tokens=3, seed=1)
    code = TokenStrip(trace).to_code()
    [comment] = [line for line in code.splitlines() if "save this" in line]
    exec(comment.partition(": ")[2], {"vector": vector})
    scope = {"ml": ml}
    exec(code, scope)
    assert scope["trace"].settings == trace.settings
    scope["model"].close()


@pytest.fixture
def opened(tiny_path):
    """A function that opens a session on a model of its own, and compares another one with it."""
    with ml.Model.load(tiny_path, mmap=False, n_gpu_layers=2) as model:

        def open_and_compare(form, **given):
            with model.session(**given) as session:
                again = opened_by(form(session))
                assert again.settings == session.settings
                assert again.model.id == model.id and again.model.options == model.options
                again.model.close()

        yield open_and_compare


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: " ".join(given))
def test_the_code_opens_an_equal_session(opened, given):
    opened(session_code, **given)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_view_and_lab_prints_how_its_session_was_opened(opened, form):
    opened(form, reproducible=True, n_ctx=128, kv_type="q8_0")


def test_a_session_that_was_loaded_prints_how_it_was_saved(tiny_model, tmp_path):
    with tiny_model.session(n_ctx=128, reproducible=True) as session:
        session.generate("Hello", max_tokens=2)
        session.save(tmp_path / "kept")
    with ml.Session.load(tmp_path / "kept", tiny_model) as session:
        again = opened_by(session_code(session))
        assert again.settings == session.settings
        again.model.close()


def test_defaults_are_not_printed(tiny_path):
    with ml.Model.load(tiny_path) as model, model.session(n_ctx=64, n_batch=512) as session:
        assert session_code(session) == (
            f"model = ml.Model.load({str(tiny_path)!r})\nsession = model.session(n_ctx=64)"
        )


@pytest.mark.parametrize(
    "options", [{"a b": 1}, {"n_ctx": 1.5}, {"n_ctx": [[1]]}, {1: 2}, "n_ctx", {"n_ctx": None}]
)
def test_a_kept_trace_whose_options_are_no_arguments_is_refused(tiny_model, options):
    with tiny_model.session(n_ctx=64) as session:
        data = session.generate("Hello", max_tokens=1).to_dict()
    with pytest.raises(ValueError, match=r"not a dict that Trace\.to_dict made"):
        Trace.from_dict({**data, "session_options": options})

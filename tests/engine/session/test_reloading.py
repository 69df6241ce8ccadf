"""A model loaded again with other options, and the session that comes along."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

import mullama_lab as ml
from mullama_lab import Model
from mullama_lab.engine import placement as placements
from mullama_lab.engine import tiny
from mullama_lab.engine.model import model as models
from mullama_lab.engine.native.devices import Device
from mullama_lab.engine.session import file as session_file
from mullama_lab.errors import (
    ClosedError,
    LoadCancelled,
    ModelFileError,
    SessionError,
    SessionFileError,
)

CHAIN = ml.Mask(ban=range(5)) | ml.Temperature(0.8)
PROMPT = "Once upon a time there was a model that had to move"
PAIRS = {"blk.0.attn_q.weight": (np.ones((2, 32), np.float32), np.ones((64, 2), np.float32))}
OTHERS = [
    {"mmap": False},
    {"override_tensor": {"attn|ssm": "CPU"}},
    {"n_gpu_layers": 99, "mlock": False},
]


@pytest.fixture
def cpu_alone(monkeypatch):
    """The CPU alone is told of, wherever the tests run."""
    monkeypatch.setattr(models, "devices", lambda: (Device("CPU", "", "CPU", 8, 8),))


@pytest.fixture
def opened(tmp_path):
    """A session that holds a text and a fork of it, on a model of its own."""
    with Model.load(tiny.write(tmp_path / "t.gguf")) as model, model.session() as session:
        session.generate(PROMPT, CHAIN, max_tokens=12, seed=3)
        session.fork(n_tokens=20)
        yield session


def goes_on(session):
    """What a session gives for a text that goes on from what it holds, and for a new one."""
    text = [*session.tokens.tolist(), 60]
    row = session.logits(text).tobytes()
    traces = [session.generate(one, CHAIN, max_tokens=9, seed=5) for one in (text, "Another")]
    told = [(t.text, t.tokens.tolist(), t.model_id, t.canonical.tolist()) for t in traces]
    return row, told, session.logits(text).tobytes()


@pytest.mark.parametrize("options", OTHERS, ids=str)
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen2moe", "mamba", "jamba"])
def test_what_comes_next_is_bit_for_bit_what_would_have_come(
    tmp_path, cpu_alone, architecture, options
):
    path = tiny.write(tmp_path / "t.gguf", architecture=architecture)
    with Model.load(path) as model, model.session(n_ctx=256, n_seq_max=4) as session:
        session.generate(PROMPT, CHAIN, max_tokens=12, seed=3)
        session.fork()
        again = session.reloaded(**options)
        with again.model:
            assert again.n_decoded == 0 and again.settings == session.settings
            assert again.options == session.options and again.last_trace is session.last_trace
            assert {s: t.tolist() for s, t in again.sequences.items()} == {
                s: t.tolist() for s, t in session.sequences.items()
            }
            assert goes_on(again) == goes_on(session)


def test_only_what_is_new_is_decoded(opened):
    again = opened.reloaded(mmap=False)
    with again.model as model:
        again.logits([*opened.tokens, 60])
        assert again.n_decoded == 1
        assert model.options == {"mmap": False} and model.source == opened.model.source


def test_a_reproducible_session_is_brought_along(tiny_path):
    with Model.load(tiny_path) as model, model.session(reproducible=True, n_ctx=256) as session:
        session.generate(PROMPT, CHAIN, max_tokens=4, seed=3)
        again = session.reloaded(mmap=False)
        with again.model:
            assert again.settings == session.settings
            assert goes_on(again) == goes_on(session)


def test_adapters_and_vectors_act_on_the_other_model_too(opened, tmp_path):
    adapter = ml.LoraAdapter.load(tiny.write_adapter(tmp_path / "a.gguf", PAIRS))
    opened.adapters = {adapter: 0.5}
    opened.generate(PROMPT, CHAIN, max_tokens=4, seed=3)
    again = opened.reloaded(mmap=False)
    with again.model:
        assert again.steering == opened.steering
        assert goes_on(again) == goes_on(opened)


def test_it_waits_for_what_is_generated(opened):
    run = opened.start(PROMPT, CHAIN, max_tokens=30, seed=3)
    again = opened.reloaded(mmap=False)
    with again.model:
        assert run.done and again.tokens.tolist() == opened.tokens.tolist()


def test_what_is_generated_meanwhile_does_not_come_along(opened, monkeypatch):
    """Its trace and its cells belong together, and so do those that came before."""
    before, take = opened.last_trace, session_file.take
    opened.tree = tree = ml.Tree([before])

    def later(session, contents, weights):
        opened.generate("Another", CHAIN, max_tokens=2, seed=1)
        opened.generate_many(["b", "c"], CHAIN, max_tokens=2)
        opened.tree = None
        take(session, contents, weights)

    monkeypatch.setattr(session_file, "take", later)
    again = opened.reloaded(mmap=False)
    with again.model:
        assert opened.last_trace is not before and len(opened.last_traces) == 2
        assert again.last_trace is before and again.last_traces == [] and again.tree is tree


def test_progress_is_told_and_both_stay_open(opened):
    told = []
    again = opened.reloaded(progress=told.append, mmap=False)
    assert told[-1] == 1.0 and told == sorted(told)
    assert not opened.closed and not opened.model.closed and again.model is not opened.model
    opened.model.close()
    assert again.generate("a", max_tokens=2).tokens.size == 2
    again.model.close()


def test_what_another_device_computed_is_decoded_anew_where_it_is_asked_for_anew(
    opened, monkeypatch
):
    gpu = Device("CUDA0", "", "GPU", 8, 8)
    monkeypatch.setattr(models, "devices", lambda: (gpu,))
    opened.remove(1)
    again = opened.reloaded(n_gpu_layers=2)
    with again.model:
        assert again.model.id != opened.model.id
        trace = again.generate(PROMPT, CHAIN, max_tokens=3, seed=1)
        assert trace.canonical.all() and again.n_decoded > len(PROMPT)
    same = opened.reloaded(mmap=False)
    with same.model:
        same.generate(PROMPT, CHAIN, max_tokens=3, seed=1)
        assert same.n_decoded < len(PROMPT)


def test_on_the_cpu_again_nothing_is_left_of_how_devices_divided_the_layers(tiny_path, monkeypatch):
    told = [Device(f"CUDA{number}", "", "GPU", 8, 8) for number in range(2)]
    for module in (models, placements):
        monkeypatch.setattr(module, "devices", lambda: tuple(told))
    given = {"n_gpu_layers": -1, "split_mode": "row", "main_gpu": 1, "tensor_split": [3.0, 1.0]}
    stays = {"override_tensor": {"attn": "CPU"}}
    with Model.load(tiny_path, **given, **stays) as model, model.session(n_ctx=64) as session:
        with session.reloaded(n_gpu_layers=0).model as again:
            assert again.options == stays
        with model.reloaded(n_gpu_layers=1) as again:
            assert again.options == {**given, **stays, "n_gpu_layers": 1}
        with pytest.raises(ValueError, match="main_gpu=1.*n_gpu_layers=0 keeps all of them on"):
            model.reloaded(n_gpu_layers=0, main_gpu=1)


# What goes wrong leaves the session as it was.


@pytest.fixture
def unharmed(opened):
    """Whatever the test does, the session goes on as another one does, and no model is left."""
    before, tokens = Model.opened(), opened.tokens.tolist()
    yield opened
    assert Model.opened() == before and opened.tokens.tolist() == tokens
    again = opened.reloaded()
    with again.model:
        assert goes_on(opened) == goes_on(again)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"override_tensor": {"no such": "CPU"}}, ValueError, "finds none of the tensors"),
        ({"tensor_split": [float("nan")]}, ValueError, "nan is no part"),
        ({"n_gpu_layers": "all"}, TypeError, "whole number"),
        (
            {"n_ctx": 64},
            TypeError,
            "n_ctx is no option to load a model again with. There are n_gpu",
        ),
        ({"vocab_only": True}, TypeError, "vocab_only is no option"),
        ({"progress": lambda done: False}, LoadCancelled, "stopped by its progress"),
        ({"progress": lambda done: 1 / 0}, ZeroDivisionError, "division"),
        ({"progress": "yes"}, TypeError, "progress='yes'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_option_that_is_refused_costs_nothing(unharmed, options, error, message):
    with pytest.raises(error, match=message):
        unharmed.reloaded(**options)


def test_a_second_session_that_does_not_fit_costs_nothing(unharmed, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=100_000)
    with monkeypatch.context() as patched:
        patched.setattr(psutil, "virtual_memory", lambda: memory)
        with pytest.raises(ValueError, match="are free"):
            unharmed.reloaded(mmap=False)


def test_a_cache_that_is_not_taken_costs_nothing(unharmed, monkeypatch):
    def refuse(context, state):
        raise SessionFileError("llama.cpp does not take the cache.")

    with monkeypatch.context() as patched:
        patched.setattr(session_file.native, "set_state", refuse)
        with pytest.raises(SessionError, match=r"does not take the cache of this one.*reloaded\("):
            unharmed.reloaded(mmap=False)


def test_an_adapter_that_is_gone_costs_nothing(unharmed, tmp_path):
    path = tiny.write_adapter(tmp_path / "a.gguf", PAIRS)
    unharmed.adapters = {ml.LoraAdapter.load(path): 0.5}
    path.rename(tmp_path / "b.gguf")
    with pytest.raises(ModelFileError):
        unharmed.reloaded(mmap=False)
    unharmed.adapters = {}


def test_a_file_that_was_replaced_is_another_model(opened):
    before = Model.opened()
    opened.model.path.unlink()
    tiny.write(opened.model.path, seed=9)
    with pytest.raises(ModelFileError, match="since the model was loaded"):
        opened.reloaded(mmap=False)
    assert Model.opened() == before
    assert opened.generate("a", CHAIN, max_tokens=2, seed=1).tokens.size == 2


def test_what_is_closed_is_not_loaded_again(tiny_path):
    with Model.load(tiny_path) as model:
        session = model.session(n_ctx=64)
        session.close()
        before = Model.opened()
        with pytest.raises(ClosedError):
            session.reloaded(mmap=False)
        assert Model.opened() == before
    with pytest.raises(ClosedError):
        model.reloaded(mmap=False)


def test_a_model_alone_is_loaded_again_as_it_was_but_for_what_differs(tiny_path):
    with Model.load(tiny_path, mmap=False, vocab_only=True) as model:
        again = model.reloaded(override_tensor={"attn": "CPU"})
        assert again.vocab_only and again.options == {"mmap": False}
        again.close()
    with Model.load(tiny_path, mmap=False, override_tensor={"attn": "CPU"}) as model:
        with model.reloaded(mmap=True) as again:
            assert again.options == {"override_tensor": {"attn": "CPU"}}
        with model.reloaded(override_tensor=None) as again:
            assert again.options == {"mmap": False}

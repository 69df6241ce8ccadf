"""Hidden states: those that lead to the logits, whole or in batches, with what is in force."""

from __future__ import annotations

import signal
import threading
import time

import gguf
import numpy as np
import psutil
import pytest

import mullama_lab as ml
from mullama_lab.engine import hidden, tiny
from mullama_lab.engine.native.library import C
from mullama_lab.engine.work import Work
from mullama_lab.errors import ClosedError, ContextFull, Stopped

TEXT = list(range(5, 45))


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


def logits_of(states, model):
    """What a model's own norm and matrix make of the last layer's state after the last token."""
    tensors = {one.name: np.array(one.data) for one in gguf.GGUFReader(model.path).tensors}
    last = states[-1, -1].astype(np.float64)
    eps = model.metadata[f"{model.architecture}.attention.layer_norm_rms_epsilon"]
    normed = last / np.sqrt((last**2).mean() + eps) * tensors["output_norm.weight"]
    return tensors["output.weight"] @ normed


def test_the_last_layer_leads_to_the_logits(session, tiny_model):
    states = session.hidden(TEXT)
    assert states.shape == (2, len(TEXT), 32) and states.dtype == np.float32
    assert np.allclose(logits_of(states, tiny_model), session.logits(TEXT), atol=1e-4)


def test_of_a_mixture_of_experts_too(tmp_path):
    path = tiny.write(tmp_path / "moe.gguf", architecture="qwen2moe")
    with ml.Model.load(path) as model, model.session(n_ctx=128, n_threads=1) as session:
        states = session.hidden(TEXT)
        assert states.shape == (2, len(TEXT), 32)
        assert np.allclose(logits_of(states, model), session.logits(TEXT), atol=1e-4)


def test_it_reads_every_architecture_that_generates(any_model):
    with any_model.session(n_ctx=128, n_threads=1) as session:
        states = session.hidden(TEXT)
        assert states.shape == (any_model.n_layer, len(TEXT), any_model.n_embd)
        assert np.isfinite(states).all() and (states.std(axis=2) > 0).all()
        some = session.hidden(TEXT, [1])
        assert np.allclose(some, states[1:], atol=1e-4)
        beginning = session.hidden(TEXT[:7])
        assert np.allclose(beginning, states[:, :7], atol=1e-3), "a text is read from its left"


def test_a_text_in_batches_is_the_text_whole(session, monkeypatch):
    whole = session.hidden(TEXT)
    for size in (8, 13, 39, 40):
        monkeypatch.setattr(hidden, "BATCH_TOKENS", size)
        assert np.allclose(session.hidden(TEXT), whole, atol=1e-4), size


def test_layers_can_be_named(session):
    whole = session.hidden(TEXT)
    for layers in ([0], [1], 1, np.array([0, 1]), (1, 0, 1), range(2)):
        names = np.unique(layers)
        assert np.allclose(session.hidden(TEXT, layers), whole[names], atol=1e-5), layers
    for layers in ([], [2], [-1], 2, "all", [0.5], [None]):
        with pytest.raises((ValueError, TypeError)):
            session.hidden(TEXT, layers)


def test_a_control_vector_is_added_to_what_its_layer_passes_on(session):
    before = session.hidden(TEXT)
    session.control = ml.ControlVector({1: np.linspace(-2, 2, 32)})
    after = session.hidden(TEXT)
    assert np.array_equal(after[0], before[0])
    assert np.allclose(after[1] - before[1], np.linspace(-2, 2, 32), atol=1e-5)
    session.control = None
    assert np.array_equal(session.hidden(TEXT), before)


def test_adapters_act_too(session, tmp_path):
    rng = np.random.default_rng(0)
    halves = rng.normal(size=(2, 32)), rng.normal(size=(64, 2))
    pair = tuple(half.astype(np.float32) for half in halves)
    path = tiny.write_adapter(tmp_path / "a.gguf", {"blk.1.attn_q.weight": pair})
    before = session.hidden(TEXT)
    session.adapters = {ml.LoraAdapter.load(path): 1.0}
    after = session.hidden(TEXT)
    assert np.array_equal(after[0], before[0]) and not np.allclose(after[1], before[1])


def test_the_session_is_left_as_it_is(session):
    trace = session.generate(TEXT, seed=1, max_tokens=5)
    held, ledger = session.tokens.tolist(), session.ledger
    session.hidden(TEXT)
    assert (session.tokens.tolist(), session.ledger) == (held, ledger)
    session.reset()
    assert session.generate(TEXT, seed=1, max_tokens=5).tokens.tolist() == trace.tokens.tolist()


def test_a_session_that_never_asks_pays_nothing(tiny_model, monkeypatch):
    """llama.cpp calls back for each tensor in the context of the hidden states alone."""
    opened, open_context = [], C.llama_init_from_model

    def watched(model, params):
        opened.append((bool(params.cb_eval), bool(params.embeddings)))
        return open_context(model, params)

    monkeypatch.setattr(C, "llama_init_from_model", watched)
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        session.control = ml.ControlVector({1: np.ones(32)})
        session.generate(TEXT, max_tokens=2)
        assert opened == [(False, False)]
        session.hidden(TEXT)
        assert opened[1:] == [(True, True)]
        session.generate(TEXT, max_tokens=2)
    assert len(opened) == 2, "the session goes on in the context that it had"


def test_texts_that_cannot_be_read(session):
    assert session.hidden([5]).shape == (2, 1, 32)
    with pytest.raises(ContextFull):
        session.hidden([5] * 300)
    for text in ([259], [-1]):
        with pytest.raises(ValueError):
            session.hidden(text)
    closed = session.model.session(n_ctx=64, n_threads=1)
    closed.close()
    with pytest.raises(ClosedError):
        closed.hidden(TEXT)


def test_states_that_would_not_fit_in_memory_are_refused(session, monkeypatch):
    class Full:
        total, available = 8000, 1000

    monkeypatch.setattr(psutil, "virtual_memory", Full)
    with pytest.raises(ValueError, match="Name fewer layers"):
        session.hidden(TEXT)


def test_it_can_be_stopped(tiny_model):
    with hidden.HiddenStates(tiny_model, n_ctx=64, n_threads=1) as reader:
        seen = []

        def visit(place, states):
            seen.append(place)
            if place == 3:
                reader.stop()

        with pytest.raises(Stopped, match=r"stopped after [3-5] of 1000"):
            reader.read([TEXT] * 1000, visit, progress=False)
        assert seen[:4] == [0, 1, 2, 3] and len(seen) < 1000
        seen.clear()
        reader.read([TEXT, TEXT[:3]], lambda _, states: seen.append(states.shape), progress=False)
        assert seen == [(2, 40, 32), (2, 3, 32)]


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A session whose hidden states of `LONG` take many seconds, in many batches."""
    path = tiny.write(tmp_path_factory.mktemp("slow") / "slow.gguf", n_layer=8, n_ctx_train=24_000)
    with ml.Model.load(path) as model, model.session(n_ctx=24_000, n_threads=1) as session:
        yield session


LONG = [5 + i % 200 for i in range(23_000)]


def hidden_states(session):
    return session.hidden(LONG, [1])


def training(session):
    words = "".join(map(chr, (65 + i % 50 for i in range(19_000))))
    return ml.studies.control_vectors.train(
        [(f"{words}{i}", f"{i}{words}") for i in "ab"], on=session
    )


@pytest.mark.parametrize("work", [hidden_states, training])
def test_ctrl_c_ends_it_and_its_bar_and_the_session_stays_usable(slow, work, monkeypatch, capsys):
    monkeypatch.setattr("mullama_lab.engine.bar.SHOWN_AFTER", 0.1)
    before = slow.logits(TEXT)
    threading.Timer(1, signal.raise_signal, [signal.SIGINT]).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work(slow)
    assert time.monotonic() - began < 10
    shown = capsys.readouterr().err
    assert "hidden states:" in shown and " tokens" in shown
    assert shown.rsplit("\r", 2)[-2].strip() == "", "the bar goes"
    assert np.array_equal(slow.logits(TEXT), before)
    assert slow.hidden(TEXT).shape == (8, len(TEXT), 32)


@pytest.mark.parametrize("work", [hidden_states, training])
def test_stopping_the_session_ends_it_from_another_thread(slow, work, monkeypatch):
    before, has_ended = slow.logits(TEXT), threading.Event()

    def stop():  # again and again: what has not begun is not stopped
        while not has_ended.wait(0.3):
            slow.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        with pytest.raises(Stopped, match="stopped after 0 of"):
            work(slow)
    finally:
        has_ended.set()
        stopper.join()
    assert np.array_equal(slow.logits(TEXT), before)
    assert slow.hidden(TEXT).shape == (8, len(TEXT), 32)
    stopped = []
    monkeypatch.setattr(Work, "stop", stopped.append)
    slow.stop()
    assert stopped == [], "what has ended is not stopped again"


def test_an_error_of_the_one_who_looks_is_raised(tiny_model):
    def visit(place, states):
        raise KeyError("mine")

    reader = hidden.HiddenStates(tiny_model, n_ctx=64, n_threads=1)
    with reader, pytest.raises(KeyError, match="mine"):
        reader.read([TEXT], visit, progress=False)


def test_it_can_be_read_while_the_session_generates(session):
    alone = session.hidden(TEXT)
    run = session.start(TEXT, ml.LogitBias({tiny.EOS: -float("inf")}), max_tokens=150)
    for _ in range(3):
        assert np.array_equal(session.hidden(TEXT), alone)
    assert len(run.wait()) == 150


def test_closing_the_model_ends_it(tmp_path):
    model = ml.Model.load(tiny.write(tmp_path / "a.gguf"))
    reader = hidden.HiddenStates(model, n_ctx=64, n_threads=1)
    ends: list[BaseException] = []

    def read():
        try:
            reader.read([TEXT] * 100_000, lambda *_: time.sleep(0.001), progress=False)
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.1)
    model.close()
    thread.join(30)
    assert isinstance(ends[0], (Stopped, ClosedError))

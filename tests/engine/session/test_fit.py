"""n_ctx="fit": the largest context that fits in what is free, and what cannot fit is refused."""

from __future__ import annotations

import logging
from contextlib import nullcontext

import psutil
import pytest

from mullama_lab import Model
from mullama_lab.engine import tiny
from mullama_lab.engine.memory import Buffer
from mullama_lab.engine.native.devices import Device
from mullama_lab.engine.session import checks, fit
from mullama_lab.engine.session.settings import Settings
from mullama_lab.errors import ModelFileError

MANY = 1 << 15  # tokens that the models here were trained on


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tiny.write(tmp_path_factory.mktemp("fit") / "t.gguf", n_ctx_train=MANY)
    with Model.load(path) as model:
        yield model


def with_free(monkeypatch, n_bytes):
    memory = psutil.virtual_memory()._replace(available=n_bytes)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def test_where_all_fits_it_is_what_the_model_was_trained_on(model, caplog):
    with caplog.at_level(logging.INFO), model.session(n_ctx="fit") as session:
        assert session.n_ctx == session.settings["n_ctx"] == session.options["n_ctx"] == MANY
        assert repr(session).endswith(f"0 of {MANY} tokens cached, open>")
    assert "n_ctx='fit': 32768 tokens" in caplog.text


@pytest.mark.parametrize("free", [4_000_000, 7_000_000, 10_000_000])
@pytest.mark.parametrize("settings", [{}, {"kv_type": "q8_0"}, {"n_ubatch": 64, "n_seq_max": 2}])
def test_it_is_the_largest_that_fits(model, monkeypatch, free, settings):
    with_free(monkeypatch, free)
    room = 0.9 * (free - model.memory.weights_bytes)
    with model.session(n_ctx="fit", **settings) as session:
        memory, n_ctx = session.memory, session.n_ctx
    assert memory.total_bytes - memory.weights_bytes <= room and n_ctx % 256 == 0
    monkeypatch.undo()
    with model.session(n_ctx=n_ctx + 256, **settings) as larger:
        assert larger.memory.total_bytes - memory.weights_bytes > room


def test_weights_that_stay_in_their_file_need_room_too(tmp_path, monkeypatch):
    """What the system calls available includes the pages of files; what was read is taken."""
    path = tiny.write(tmp_path / "t.gguf", n_ctx_train=MANY, n_vocab=20_000)
    chosen = []
    with Model.load(path) as mapped, Model.load(path, mmap=False) as taken:
        with_free(monkeypatch, 12_000_000)
        for model in (mapped, taken):
            with model.session(n_ctx="fit", n_ubatch=64) as session:
                chosen.append(session.n_ctx)
        weights = mapped.memory.weights_bytes
    # A token takes 256 bytes here; the compute buffer is as large as its logits.
    assert chosen[1] - chosen[0] == pytest.approx(0.9 * weights / 256, abs=512)


@pytest.mark.parametrize(
    ("platform", "mlock", "is_there_too"),
    [("linux", False, True), ("linux", True, False), ("darwin", False, False)],
)
def test_only_linux_calls_mapped_weights_available_and_only_those_that_are_not_locked(
    tmp_path, monkeypatch, platform, mlock, is_there_too
):
    both = (Device("CUDA0", "", "GPU", 9000, 8000), Device("CPU", "", "CPU", 9000, 5000))
    buffers = (Buffer("weights", "CPU_Mapped", 1000), Buffer("weights", "CUDA0_Mapped", 2000))
    monkeypatch.setattr(fit, "devices", lambda: both)
    monkeypatch.setattr("mullama_lab.engine.model.model.read", lambda said: buffers)
    seen = []
    monkeypatch.setattr(fit, "largest", lambda *asked: seen.append(asked[-1]))
    with Model.load(tiny.write(tmp_path / "t.gguf")) as model:
        monkeypatch.setattr(fit.sys, "platform", platform)
        monkeypatch.setattr(model, "options", {"mlock": mlock})
        fit.fitted(Settings(n_ctx="fit"), model)
    cpu = 0.9 * (4000 if is_there_too else 5000)
    assert seen == [{"CUDA0": 7200, "CPU": cpu}]


@pytest.mark.parametrize("architecture", ["gemma3", "mamba", "jamba"])
def test_any_architecture_can_be_fitted(tmp_path, monkeypatch, architecture):
    path = tiny.write(tmp_path / "t.gguf", architecture=architecture, n_ctx_train=MANY)
    with Model.load(path) as model:
        with_free(monkeypatch, 10_000_000)
        with model.session(n_ctx="fit") as session:
            assert session.n_ctx == MANY if architecture == "mamba" else 256 <= session.n_ctx < MANY
            assert session.memory.total_bytes < 10_000_000


def test_where_nothing_fits_it_says_what_could_be_done(model, monkeypatch):
    with_free(monkeypatch, 500_000)
    with pytest.raises(ValueError, match=r"not even 256 tokens fit.*on CPU.*smaller n_ubatch"):
        model.session(n_ctx="fit")


def test_another_model_in_the_place_of_its_file_is_not_fitted(tmp_path):
    path = tiny.write(tmp_path / "t.gguf", n_ctx_train=MANY)
    with Model.load(path, mmap=False) as model:
        other = tiny.write(tmp_path / "other.gguf", architecture="mamba")
        other.replace(path)
        with pytest.raises(ModelFileError, match="since the model was loaded"):
            model.session(n_ctx="fit")


@pytest.mark.parametrize("n_ctx", ["fitting", "", b"fit", 2.5])
def test_another_word_is_refused(model, n_ctx):
    with pytest.raises(TypeError, match=r'n_ctx=.*whole number. "fit" takes what fits'):
        model.session(n_ctx=n_ctx)


def test_ten_billion_tokens_are_refused_before_memory_is_taken(model):
    before = psutil.Process().memory_info().rss
    with pytest.raises(ValueError, match=r'n_ctx=10000000000: .*"fit" takes what fits'):
        model.session(n_ctx=10**10)
    assert psutil.Process().memory_info().rss - before < 10_000_000


@pytest.mark.parametrize(
    ("architecture", "of_a_token"),
    [("llama", 2 * 2 * 32 * 2), ("gemma3", 2 * 2 * 32 * 2), ("jamba", 2 * 16 * 2), ("mamba", 0)],
)
def test_what_is_refused_is_what_the_cache_would_take(
    tmp_path, monkeypatch, architecture, of_a_token
):
    """Two layers of one head each, of which jamba's first has a state, mamba's both."""
    path = tiny.write(tmp_path / "t.gguf", architecture=architecture)
    seen = 2 * 512 if of_a_token else 0  # bytes of what each of 512 tokens may look at
    with Model.load(path) as model:
        with_free(monkeypatch, 8192 * (of_a_token + seen))
        Settings(n_ctx=8192).checked(model)
        if of_a_token:
            with pytest.raises(ValueError, match=r"n_ctx='fit'"):
                Settings(n_ctx=8193).checked(model)
            # 34 bytes for 32 numbers in place of 64
            with_free(monkeypatch, 8192 * (of_a_token * 34 // 64 + seen))
            Settings(n_ctx=8192, kv_type="q8_0").checked(model)
            with pytest.raises(ValueError, match=r"n_ctx='fit'"):
                Settings(n_ctx=8192).checked(model)


@pytest.mark.parametrize(("n_gpu_layers", "fits"), [(0, False), (-1, True)])
def test_a_cache_may_be_in_the_memory_of_gpus_that_have_layers(
    tmp_path, monkeypatch, n_gpu_layers, fits
):
    both = (
        Device("CUDA0", "", "GPU", 8 * 10**9, 8 * 10**9),
        Device("CPU", "", "CPU", 10**6, 10**6),
    )
    with Model.load(tiny.write(tmp_path / "t.gguf"), n_gpu_layers=n_gpu_layers) as model:
        monkeypatch.setattr(checks, "devices", lambda: both)
        with nullcontext() if fits else pytest.raises(ValueError, match="0.0 GB are free"):
            Settings(n_ctx=8192).checked(model)


def test_of_what_a_session_computes_in_a_device_has_all_and_the_cpu_what_was_used(
    tiny_path, monkeypatch
):
    told = [Device("CUDA0", "", "GPU", 9000, 7), Device("CPU", "", "CPU", 9000, 5)]
    monkeypatch.setattr(fit, "devices", lambda: tuple(told))
    own = (
        *(Buffer("kv", "CUDA0", 100), Buffer("compute", "CUDA0", 200), Buffer("state", "CPU", 10)),
        *(Buffer("compute", "CUDA_Host", 20), Buffer("output", "CPU", 40)),
    )
    monkeypatch.setattr(fit, "read", lambda said: own)
    with Model.load(tiny_path, mmap=False) as model, model.session(n_ctx=64) as session:
        weights = model.memory.weights_bytes
        assert fit.free_without(session) == {"CUDA0": 7 + 100 + 200, "CPU": 5 + weights + 10}

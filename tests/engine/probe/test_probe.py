"""A file that ends llama.cpp ends a child process, once, and a sound one costs nothing later.

The deadly files are such as the rules of `gguf` know too: here the probe alone is asked.
"""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import pytest

from mullama_lab import hub
from mullama_lab.engine import tiny
from mullama_lab.engine.gguf.check import check
from mullama_lab.engine.model import Model
from mullama_lab.engine.probe import memory, must_survive, probe
from mullama_lab.errors import ModelLoadError

DEADLY = {
    "the load": ("jamba", {"jamba.ssm.inner_size": 5}, "while loading it"),
    "a session": (
        "llama",
        {"llama.attention.head_count_kv": [1, 0]},
        "while opening a session",
    ),
    "vectors": (
        "gemma-embedding",
        {"gemma-embedding.attention.sliding_window_pattern": 0},
        "while computing vectors",
    ),
}


@pytest.fixture(autouse=True)
def on(monkeypatch, tmp_path):
    """The probe turned on, with a memory of its own."""
    monkeypatch.delenv(probe.VARIABLE)
    monkeypatch.setenv("MULLAMA_LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_child(monkeypatch):
    """From when this function is called on, no process may be started."""

    def forbid():
        def started(*arguments, **options):
            raise AssertionError("a process was started")

        monkeypatch.setattr(subprocess, "Popen", started)

    return forbid


def tried(path):
    must_survive(check(path, vocab_only=True))


@pytest.mark.parametrize("what", DEADLY)
def test_a_file_that_ends_llama_cpp_is_refused_with_its_last_words(tmp_path, what):
    architecture, metadata, when = DEADLY[what]
    path = tiny.write(tmp_path / "deadly.gguf", architecture=architecture, metadata=metadata)
    said = rf"llama\.cpp ended on this file, deadly\.gguf, {when}.*SIG\w+.*with the words .*ASSERT"
    for _ in range(2):  # it is not taken for a survivor
        with pytest.raises(ModelLoadError, match=said):
            tried(path)
    assert memory.known() == []


def test_a_file_too_large_to_be_computed_with_is_laid_out(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "MOST_WHOLE", 0)
    architecture, metadata, when = DEADLY["a session"]
    path = tiny.write(tmp_path / "deadly.gguf", architecture=architecture, metadata=metadata)
    with pytest.raises(ModelLoadError, match=when):
        tried(path)
    tried(tiny.write(tmp_path / "sound.gguf"))
    assert len(memory.known()) == 1


def test_a_vocabulary_alone_is_tried_once(tmp_path, no_child):
    path = tiny.write(tmp_path / "tiny.gguf", vocab_only=True)
    Model.load(path, vocab_only=True).close()
    no_child()
    Model.load(path, vocab_only=True).close()


def huge(path):
    """A model of 8 GB, of which the disk has the header alone."""
    n_embd, n_ff, n_layer = 4096, 16384, 9
    whole = tiny.write(path.with_name("tiny.gguf"), n_layer=n_layer)
    writer = gguf.GGUFWriter(path, "llama")
    reader = gguf.GGUFReader(whole)
    sizes = {
        "embedding_length": n_embd, "feed_forward_length": n_ff, "attention.head_count": 32,
        "attention.head_count_kv": 32, "attention.key_length": 128, "attention.value_length": 128,
        "rope.dimension_count": 128,
    }  # fmt: skip
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value = sizes.get(field.name.removeprefix("llama."), field.contents())
        sub = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=sub)
    for tensor in reader.tensors:
        n_in = n_ff if "down" in tensor.name else n_embd
        n_out = n_ff if "ffn_gate" in tensor.name or "ffn_up" in tensor.name else n_embd
        n_out = tiny.N_VOCAB if tensor.name in ("token_embd.weight", "output.weight") else n_out
        shape = (n_embd,) if "norm" in tensor.name else (n_out, n_in)
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), 4 * math.prod(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    n_weights = sum(math.prod(t.shape) for t in writer.tensors[0].values())
    os.truncate(path, path.stat().st_size + 4096 + 4 * n_weights)
    return path


def test_the_weights_of_a_large_file_are_not_read(tmp_path, monkeypatch):
    path = huge(tmp_path / "huge.gguf")
    assert path.stat().st_size > 8e9
    monkeypatch.setattr(probe, "LEAST_MEMORY", 400 << 20)
    monkeypatch.setattr(probe, "total_and_free", lambda: (0, 0))
    tried(path)
    assert len(memory.known()) == 1


@pytest.mark.parametrize("architecture", ["llama", "mamba", "bert", "gemma-embedding"])
def test_a_sound_file_is_tried_once(tmp_path, architecture, no_child, caplog):
    vocabulary = "wpm" if architecture == "bert" else "spm"
    path = tiny.write(tmp_path / "sound.gguf", architecture=architecture, vocabulary=vocabulary)
    with Model.load(path), caplog.at_level(logging.WARNING):
        no_child()
    path = path.rename(tmp_path / "elsewhere.gguf")
    Model.load(path).close()
    assert not [record for record in caplog.records if record.name == probe.log.name]


def test_another_header_or_another_llama_cpp_is_tried_anew(tmp_path, no_child, monkeypatch):
    tried(tiny.write(tmp_path / "a.gguf"))
    no_child()
    tried(tiny.write(tmp_path / "b.gguf", seed=9))  # other weights
    with pytest.raises(AssertionError, match="a process was started"):
        tried(tiny.write(tmp_path / "c.gguf", n_ctx_train=513))
    monkeypatch.setattr(memory, "VERSION", "0.0.1")
    with pytest.raises(AssertionError, match="a process was started"):
        tried(tmp_path / "a.gguf")


def test_all_parts_of_a_split_file_are_tried(tmp_path, no_child):
    path = tiny.write(tmp_path / "split.gguf", split=3)
    Model.load(path).close()
    no_child()
    Model.load(path.with_name("split-00002-of-00003.gguf")).close()


def test_what_llama_cpp_only_refuses_is_its_own_error(tmp_path):
    path = tiny.write(tmp_path / "odd.gguf", metadata={"tokenizer.ggml.model": "abacus"})
    with pytest.raises(ModelLoadError, match="could not load .* unknown tokenizer: 'abacus'"):
        Model.load(path)
    assert memory.known() == []


@pytest.mark.parametrize("how", ["argument", "environment", "catalogue"])
def test_a_probe_can_be_left_out(tmp_path, how, no_child, monkeypatch):
    no_child()
    path = tiny.write(tmp_path / "tiny.gguf")
    if how == "catalogue":  # its SHA-256 is known
        monkeypatch.setattr(hub, "resolve", lambda source: path)
        Model.load(hub.DEFAULT_MODEL).close()
        return
    if how == "environment":
        monkeypatch.setenv(probe.VARIABLE, "0")
    Model.load(path, probe=how != "argument").close()


@pytest.fixture
def has_begun(monkeypatch):
    """A child has said that it loads the file, however early it is ended."""
    made = tempfile.TemporaryFile

    def begun():
        file = made()
        file.write(b"while loading it\n")
        file.flush()
        return file

    monkeypatch.setattr(probe.tempfile, "TemporaryFile", begun)


@pytest.mark.usefixtures("has_begun")
def test_a_child_that_does_not_come_back_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "SECONDS", 0.01)
    with pytest.raises(ModelLoadError, match=r"did not come back within 0\.01 s"):
        tried(tiny.write(tmp_path / "tiny.gguf"))


def test_a_child_leaves_ctrl_c_to_its_parent():
    code = """
import os, signal
from mullama_lab.engine.probe import child
child.use = lambda path, how, tell: os.kill(os.getpid(), signal.SIGINT)
child.main({"path": "none", "how": "whole"})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("has_begun")
def test_a_child_that_takes_too_much_memory_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "LEAST_MEMORY", 40 << 20)
    monkeypatch.setattr(probe, "total_and_free", lambda: (0, 0))
    with pytest.raises(ModelLoadError, match=r"it took 0\.\d GB for a small session"):
        tried(tiny.write(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false"])
def test_where_no_child_can_be_started_the_file_is_loaded_and_that_is_logged(
    tmp_path, program, monkeypatch, caplog
):
    monkeypatch.setattr(sys, "executable", program)
    Model.load(tiny.write(tmp_path / "tiny.gguf")).close()
    assert "tiny.gguf was not probed" in caplog.text


# What is remembered.


def test_a_memory_keeps_the_newest(monkeypatch):
    monkeypatch.setattr(memory, "MOST", 3)
    names = [f"{i:064x}" for i in range(5)]
    for name in [*names, names[3]]:
        memory.remember(name)
    assert memory.known() == [names[2], names[4], names[3]]


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"\xff\xfe", b"x\n" * 9, b"a" * (2 << 20)])
def test_a_damaged_memory_is_an_empty_one(content):
    memory.memory_path().parent.mkdir(parents=True)
    memory.memory_path().write_bytes(content)
    assert memory.known() == []
    memory.remember("0" * 64)
    assert memory.known() == ["0" * 64]


def test_a_memory_that_cannot_be_kept_is_no_matter(tmp_path, monkeypatch):
    memory.memory_path().mkdir(parents=True)
    memory.remember("0" * 64)
    assert memory.known() == []
    monkeypatch.setenv("MULLAMA_LAB_CACHE", "/dev/null/none")
    memory.remember("0" * 64)
    assert memory.known() == []

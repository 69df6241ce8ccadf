"""Where the memory went: as llama.cpp's log, the cache and the system tell it."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from mullama_lab import Model
from mullama_lab.engine import tiny
from mullama_lab.engine.decode_loop import DecodeLoop, Opening
from mullama_lab.engine.memory import Buffers, Memory, ProcessMemory
from mullama_lab.engine.memory import process as process_memory
from mullama_lab.engine.memory.buffers import cell_bytes, read
from mullama_lab.engine.native.library import C
from mullama_lab.errors import ClosedError, ModelLoadError
from mullama_lab.studies import planner

ROUNDED = 0.01 * (1 << 20)  # bytes that a size in the log may be off

ON_TWO_DEVICES = """
load_tensors:   CPU_Mapped model buffer size =   100.00 MiB
load_tensors:        CUDA0 model buffer size =   900.00 MiB
llama_context:  CUDA_Host  output buffer size =     0.50 MiB
llama_kv_cache: layer   0: dev = CPU
llama_kv_cache: layer   1: dev = CUDA0
llama_kv_cache: layer   2: dev = CUDA0
llama_kv_cache: layer   3: filtered
llama_kv_cache:        CPU KV buffer size =     0.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =     0.00 MiB
llama_kv_cache: size =   12.00 MiB (  1024 cells,   3 layers,  8/1 seqs), K (f16):    6.00 MiB, V
llama_memory_recurrent:      CUDA0 RS buffer size =     2.00 MiB
sched_reserve:      CUDA0 compute buffer size =    64.00 MiB
sched_reserve:  CUDA_Host compute buffer size =     6.50 MiB
""".splitlines()


def test_the_log_is_read_by_kind_and_device():
    found = Buffers(read(ON_TWO_DEVICES))
    mib = 1 << 20
    assert (found.weights_bytes, found.kv_bytes, found.state_bytes) == (
        1000 * mib,
        12 * mib,
        2 * mib,
    )
    assert (found.compute_bytes, found.output_bytes) == (int(70.5 * mib), mib // 2)
    # A cache laid out without memory is divided by its layers; the host's buffers are the CPU's.
    assert found.by_device == {
        "CPU": int((100 + 4 + 6.5 + 0.5) * mib),
        "CUDA0": (900 + 8 + 2 + 64) * mib,
    }
    assert found.total_bytes == sum(found.by_device.values())
    assert cell_bytes(ON_TWO_DEVICES) == 12 * mib / 1024


def test_a_real_cache_is_where_its_buffers_are():
    lines = [
        line.replace("KV buffer size =     0.00", "KV buffer size =     6.00")
        for line in ON_TWO_DEVICES
    ]
    sizes = {b.name: b.size_bytes for b in read(lines) if b.kind == "kv"}
    assert sizes == {"CPU": 6 << 20, "CUDA0": 6 << 20}


def test_the_cache_takes_twice_as_much_for_twice_as_many_tokens(tiny_model):
    sizes = {}
    for n_ctx in (1024, 2048, 4096):
        with tiny_model.session(n_ctx=n_ctx) as session:
            sizes[n_ctx] = session.memory.kv_bytes
    # 2 layers, a head of 32 numbers of 2 bytes for keys and one for values
    assert sizes[4096] == 2 * sizes[2048] == 4 * sizes[1024] == 4096 * 2 * 2 * 32 * 2


def test_a_quantised_cache_takes_17_of_32_bytes(tiny_model):
    with (
        tiny_model.session(n_ctx=4096) as plain,
        tiny_model.session(n_ctx=4096, kv_type="q8_0") as q8,
    ):
        assert q8.memory.kv_bytes == pytest.approx(plain.memory.kv_bytes * 17 / 32, abs=ROUNDED)


def test_a_session_has_the_weights_of_its_model_too(tiny_model):
    with tiny_model.session(n_ctx=512) as session:
        memory = session.memory
        assert memory.weights_bytes == tiny_model.memory.weights_bytes
        assert memory.weights_bytes == pytest.approx(tiny_model.size_bytes, abs=ROUNDED)
        assert memory.total_bytes == memory.weights_bytes + memory.kv_bytes + (
            memory.compute_bytes + memory.output_bytes
        )
        assert memory.by_device == {"CPU": memory.total_bytes}
        assert repr(memory) == repr(session.memory)
        assert repr(memory).startswith("<Memory: weights 157 kB, KV cache 126 kB, compute ")
        table = memory.to_pandas()
        assert table.bytes.sum() == memory.total_bytes
        assert table.kind.tolist() == ["weights", "kv", "compute", "output"]


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen2moe"])
def test_what_sequences_share_is_counted_once(tmp_path, architecture):
    path = tiny.write(tmp_path / "t.gguf", architecture=architecture)
    with Model.load(path) as model, model.session(n_ctx=4096, n_seq_max=4) as session:
        assert session.memory.sequences == {} and session.memory.used_bytes == 0
        session.generate("abcdefgh", max_tokens=0)
        each = session.memory.used_bytes / session.n_cells
        assert each == pytest.approx(session.memory.kv_bytes / 4096, rel=0.01)
        other, third = session.fork(), session.fork(n_tokens=4)
        session.generate("abcdefgh" + "xyz", sequence=other, max_tokens=0)
        memory = session.memory
        assert memory.used_bytes == pytest.approx(session.n_cells * each, abs=4)
        assert memory.shared_bytes == pytest.approx(9 * each, abs=4)  # with <s>
        assert memory.sequences[0] == 0 and memory.sequences[third] == 0
        assert memory.sequences[other] == pytest.approx(3 * each, abs=4)
        assert "of the cache in use" in repr(memory)


def test_sequences_with_a_buffer_each_share_nothing(tiny_model):
    with tiny_model.session(n_ctx=4096, n_seq_max=4, kv_unified=False) as session:
        session.generate("abcdefgh", max_tokens=0)
        other = session.fork()
        memory = session.memory
        assert memory.kv_bytes == 4096 * 256 and memory.shared_bytes == 0
        assert memory.sequences == {0: 9 * 256, other: 9 * 256}


def test_a_sequence_takes_what_llama_cpp_would_save_of_it(tiny_model):
    with tiny_model.session(n_ctx=4096) as session:
        sizes = []
        for text in ("a" * 100, "a" * 300):
            session.reset()
            session.generate(text, max_tokens=0)
            sizes.append(session.memory.sequences[0])
    few, many = sizes
    with DecodeLoop(tiny_model) as loop:
        usual = {"n_batch": 512, "n_ubatch": 512, "flash_attention": "auto"}
        loop.open(Opening(n_each=512, n_sequences=1, kv_types=("f16", "f16"), **usual))
        few_saved, many_saved = loop.held_bytes(100, 1), loop.held_bytes(300, 1)
    # What is saved has a position beside each cell, and a header.
    assert many - few == 200 * 256
    assert 0 <= (many_saved - few_saved) - (many - few) <= 200 * 16


@pytest.mark.parametrize("architecture", ["mamba", "jamba"])
def test_a_recurrent_sequence_takes_a_state_however_long_it_is(tmp_path, architecture):
    path = tiny.write(tmp_path / "t.gguf", architecture=architecture)
    with Model.load(path) as model, model.session(n_ctx=512, n_seq_max=4) as session:
        memory = session.memory
        assert memory.state_bytes > 0 and memory.sequences == {}
        session.generate("abcdefgh", max_tokens=0)
        with_kv = session.n_cells * memory.kv_bytes / 512
        assert session.memory.used_bytes == pytest.approx(
            memory.state_bytes / 4 + with_kv, rel=0.05
        )


def test_a_closed_session_takes_nothing_that_could_be_told(tmp_path):
    model = Model.load(tiny.write(tmp_path / "t.gguf"))
    session = model.session()
    session.close()
    with pytest.raises(ClosedError):
        _ = session.memory
    model.close()
    with pytest.raises(ClosedError):
        _ = model.memory


def test_a_vocabulary_alone_has_no_weights(tmp_path):
    with Model.load(tiny.write(tmp_path / "t.gguf"), vocab_only=True) as model:
        assert model.memory.buffers == () and repr(model.memory) == "<Memory: nothing>"


def test_its_text_has_a_bar_for_each_kind():
    assert str(Buffers(read(ON_TWO_DEVICES))).splitlines() == [
        "weights    1.05 GB  █████████████████████████████████████",
        "KV cache   12.6 MB",
        "states      2.1 MB",
        "compute    73.9 MB  ███",
        "output      524 kB",
        "total      1.14 GB",
    ]
    assert str(Buffers(())) == "total      0 bytes"


def deafened(_level, _text, _user):
    """Somebody else's llama_log_set."""


@pytest.fixture
def deaf():
    before, about = C.llama_log_callback(), ctypes.c_void_p()
    C.llama_log_get(ctypes.byref(before), ctypes.byref(about))
    callback = C.llama_log_callback(deafened)
    C.llama_log_set(callback, None)
    yield
    C.llama_log_set(before, about)


NOT_HEARD = "is not available: .* log did not say.*llama_log_set"


def test_sizes_that_were_not_heard_are_not_nought(tmp_path, deaf):
    path = tiny.write(tmp_path / "t.gguf")
    with Model.load(path) as model:
        with pytest.raises(ModelLoadError, match=NOT_HEARD):
            _ = model.memory
        with model.session(n_ctx=64) as session, pytest.raises(ModelLoadError, match=NOT_HEARD):
            _ = session.memory
        with pytest.raises(ModelLoadError, match=NOT_HEARD):
            model.session(n_ctx="fit")
    with pytest.raises(ModelLoadError, match=NOT_HEARD):
        planner.plan(path)
    with Model.load(path, vocab_only=True) as model:
        assert model.memory.buffers == ()


def test_a_context_whose_size_was_not_heard_is_not_fitted(tiny_model, deaf):
    """Its model was loaded before."""
    assert tiny_model.memory.weights_bytes
    with pytest.raises(ModelLoadError, match=NOT_HEARD):
        tiny_model.session(n_ctx="fit")


# The process.


def test_mapped_weights_are_told_from_those_in_memory(smollm2, tmp_path):
    with smollm2.session(n_ctx=64) as session:
        session.generate("Once", max_tokens=1)  # which reads all layers
    process = smollm2.memory.process
    assert process.resident_bytes and process.peak_bytes
    assert process.resident_bytes <= process.peak_bytes * 1.01
    path = tiny.write(tmp_path / "t.gguf")
    with Model.load(path, mmap=False) as model:
        assert model.memory.process.mapped_bytes in (0, None)
        assert [b.name for b in model.memory.buffers] == ["CPU"]
    if process.mapped_bytes is not None:
        assert process.mapped_bytes == pytest.approx(smollm2.path.stat().st_size, rel=0.05)
        assert 0 < process.mapped_resident_bytes <= process.mapped_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell it")
def test_only_what_was_read_of_a_mapped_file_is_in_memory(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 22))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        before = ProcessMemory.now([path])
        assert before.mapped_bytes == 1 << 22 and before.mapped_resident_bytes == 0
        assert mapped[0] == 0
        assert 0 < ProcessMemory.now([path]).mapped_resident_bytes <= 1 << 22


@pytest.mark.parametrize("error", [FileNotFoundError("/proc"), psutil.AccessDenied(1)])
def test_what_the_system_does_not_tell_is_none(tiny_model, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(psutil.Process, "memory_maps", fails, raising=False)
    process = tiny_model.memory.process
    assert process.mapped_bytes is None and process.mapped_resident_bytes is None
    assert process.resident_bytes
    monkeypatch.setattr(psutil.Process, "memory_info", fails)
    assert tiny_model.memory.process == ProcessMemory(None, None, None, None)


def test_windows_tells_its_peak_and_no_sizes_of_maps(tiny_model, monkeypatch):
    path = str(tiny_model.path.resolve())
    info = SimpleNamespace(rss=5, peak_wset=7)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: info)
    monkeypatch.setattr(
        psutil.Process,
        "memory_maps",
        lambda _, grouped: [SimpleNamespace(path=path, rss=3)],
        raising=False,
    )
    assert tiny_model.memory.process == ProcessMemory(5, 7, None, None)


def test_a_memory_is_a_value():
    process = ProcessMemory(1, 2, None, None)
    assert Memory(read(ON_TWO_DEVICES), process) == Memory(read(ON_TWO_DEVICES), process)
    assert repr(Memory(read(ON_TWO_DEVICES), process)) == (
        "<Memory: weights 1.05 GB, KV cache 12.6 MB, states 2.1 MB, compute 73.9 MB, output 524 kB>"
    )


@pytest.mark.skipif(not process_memory.STATUS.exists(), reason="no Linux")
def test_the_peak_is_that_of_the_process_and_not_of_the_one_that_began_it():
    code = (
        "from mullama_lab.engine.memory.process import ProcessMemory\n"
        "print(ProcessMemory.now().peak_bytes)"
    )
    large = np.ones(500_000_000, np.uint8)  # of this process
    peak = int(subprocess.check_output([sys.executable, "-c", code]))
    assert peak < len(large)

"""The devices of llama.cpp, and the layouts of weights that the CPU has."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest
from gguf import GGMLQuantizationType

from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.native import build, layouts, library
from mullama_lab.engine.native import devices as native
from mullama_lab.engine.native.amx import extra_layouts_are_safe
from mullama_lab.engine.native.devices import devices
from mullama_lab.engine.native.layouts import extra_layouts, layout_of

BLOCKS = (512, 64)


def test_the_cpu_has_the_memory_that_the_system_has():
    cpu = next(device for device in devices() if device.kind == "CPU")
    total, free = total_and_free()
    assert cpu.name == "CPU" and cpu.description
    assert cpu.total_bytes == total
    assert cpu.free_bytes == pytest.approx(free, rel=0.2)


def memory_of_gpu(device, free, total):
    assert device == 0
    kind = ctypes.POINTER(ctypes.c_size_t)
    ctypes.cast(free, kind)[0], ctypes.cast(total, kind)[0] = 5, 7


TWO = {  # ggml with a GPU beside the CPU
    "count": lambda: 2,
    "get": lambda place: place,
    "name": lambda device: [b"CUDA0", b"CPU"][device],
    "description": lambda device: [b"a GPU", b"a CPU"][device],
    "type": lambda device: [1, 0][device],
    "buffer_type": lambda device: [70, 30][device],
    "memory": memory_of_gpu,
}


def test_a_gpu_has_memory_of_its_own(monkeypatch, anew):
    asking = anew(native)
    named = {f"ggml_backend_dev_{name}": function for name, function in TWO.items()}
    monkeypatch.setattr(asking, "ggml_function", lambda name, *_: named[name])
    gpu, cpu = asking.devices()
    assert gpu == asking.Device("CUDA0", "a GPU", "GPU", 7, 5)
    assert (cpu.name, cpu.kind, cpu.total_bytes) == ("CPU", "CPU", total_and_free()[0])
    assert [asking.buffer_type(device.name) for device in (gpu, cpu)] == [70, 30]


def test_where_ggml_keeps_its_functions_to_itself_there_is_the_cpu(monkeypatch, anew):
    for_devices, for_layouts = anew(native), anew(layouts)
    for module in (for_devices, for_layouts, build):
        monkeypatch.setattr(module, "ggml_function", lambda *_: None)
    (cpu,) = for_devices.devices()
    assert cpu.kind == "CPU" and cpu.free_bytes > 0
    assert for_layouts.extra_layouts() == []
    assert for_layouts.layout_of(GGMLQuantizationType.Q4_0, BLOCKS) == ""
    assert build.backends() == ["CPU"] and build.version() == ""


def test_a_function_is_found_in_the_libraries_beside_llama_cpp_s_too(monkeypatch, anew):
    """As on Windows, where a library has its own functions alone."""
    known = [name for name, _ in extra_layouts()], build.backends(), devices()[0].name
    without = next((Path(library.FILE).parent / "lib").glob("*ggml-base*"))
    assert not hasattr(ctypes.CDLL(str(without)), "ggml_backend_reg_count")
    lib = SimpleNamespace(_name=str(without))
    monkeypatch.setattr(library, "C", SimpleNamespace(_lib=lib))
    assert [name for name, _ in anew(layouts).extra_layouts()] == known[0]
    assert (build.backends(), anew(native).devices()[0].name) == known[1:]
    assert library.ggml_function("ggml_backend_reg_count", ctypes.c_size_t, [])() >= 1
    assert library.ggml_function("no_such_function", None, []) is None


def test_only_weights_in_blocks_and_whole_groups_of_rows_have_another_layout():
    extra_layouts_are_safe()  # asked first, where AMX must stay out
    names = [name for name, _ in extra_layouts()]
    for shape in (BLOCKS, (*BLOCKS, 4)):
        if "CPU_REPACK" in names and "AVX2 = 1" in build.features():
            assert layout_of(GGMLQuantizationType.Q4_0, shape) == names[0]
        assert layout_of(GGMLQuantizationType.F32, shape) == ""
    assert layout_of(GGMLQuantizationType.Q4_0, (512, 63)) == ""
    assert layout_of(GGMLQuantizationType.Q4_0, (512,)) == ""


def test_without_extra_layouts_no_weights_are_copied(monkeypatch):
    monkeypatch.setattr(layouts, "extra_layouts", list)
    assert layout_of.__wrapped__(GGMLQuantizationType.Q4_0, (512, 64)) == ""

"""The devices of llama.cpp, and the layouts of weights that the CPU has."""

from __future__ import annotations

import ctypes

import psutil
import pytest
from gguf import GGMLQuantizationType

from mullama_lab.engine.native import devices as native
from mullama_lab.engine.native import layouts
from mullama_lab.engine.native.amx import extra_layouts_are_safe
from mullama_lab.engine.native.devices import Device, devices
from mullama_lab.engine.native.layouts import extra_layouts, layout_of


def test_the_cpu_has_the_memory_that_the_system_has():
    cpu = next(device for device in devices() if device.kind == "CPU")
    memory = psutil.virtual_memory()
    assert cpu.name == "CPU" and cpu.description
    assert cpu.total_bytes == memory.total
    assert cpu.free_bytes == pytest.approx(memory.available, rel=0.2)


class Two:
    """ggml with a GPU beside the CPU."""

    ggml_backend_dev_count = staticmethod(lambda: 2)
    ggml_backend_dev_get = staticmethod(lambda place: place)
    ggml_backend_dev_name = staticmethod(lambda device: [b"CUDA0", b"CPU"][device])
    ggml_backend_dev_description = staticmethod(lambda device: [b"a GPU", b"a CPU"][device])
    ggml_backend_dev_type = staticmethod(lambda device: [1, 0][device])

    @staticmethod
    def ggml_backend_dev_memory(device, free, total):
        assert device == 0
        kind = ctypes.POINTER(ctypes.c_size_t)
        ctypes.cast(free, kind)[0], ctypes.cast(total, kind)[0] = 5, 7


def test_a_gpu_has_memory_of_its_own(monkeypatch):
    monkeypatch.setattr(native, "_ggml", Two)
    gpu, cpu = devices()
    assert gpu == Device("CUDA0", "a GPU", "GPU", 7, 5)
    assert (cpu.name, cpu.kind, cpu.total_bytes) == ("CPU", "CPU", psutil.virtual_memory().total)


def test_where_ggml_keeps_its_functions_to_itself_there_is_the_cpu(monkeypatch):
    def missing():
        raise AttributeError("ggml_backend_dev_count")

    monkeypatch.setattr(native, "_ggml", missing)
    (cpu,) = devices()
    assert cpu.kind == "CPU" and cpu.free_bytes > 0


def test_only_weights_in_blocks_and_whole_groups_of_rows_have_another_layout():
    assert extra_layouts_are_safe() in (True, False)  # asked first, where AMX must stay out
    names = {name for name, _ in extra_layouts()}
    for shape in ((512, 64), (512, 64, 4)):
        assert layout_of(GGMLQuantizationType.Q4_0, shape) in {*names, ""}
        assert layout_of(GGMLQuantizationType.F32, shape) == ""
    assert layout_of(GGMLQuantizationType.Q4_0, (512, 63)) == ""
    assert layout_of(GGMLQuantizationType.Q4_0, (512,)) == ""


def test_without_extra_layouts_no_weights_are_copied(monkeypatch):
    monkeypatch.setattr(layouts, "extra_layouts", list)
    assert layout_of.__wrapped__(GGMLQuantizationType.Q4_0, (512, 64)) == ""

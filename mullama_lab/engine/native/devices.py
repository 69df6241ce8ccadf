"""The devices that llama.cpp can compute on, and their memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.native.library import ggml_function
from mullama_lab.errors import ModelLoadError

_KINDS = {0: "CPU", 1: "GPU", 2: "integrated GPU", 3: "accelerator"}


@dataclass(frozen=True)
class Device:
    """A device of llama.cpp.

    Attributes:
        name: such as "CPU" or "CUDA0".
        description: what its maker calls it.
        kind: "CPU", "GPU", "integrated GPU", "accelerator" (which has no memory of its own), or
            "other".
        total_bytes, free_bytes: of its memory, now.
    """

    name: str
    description: str
    kind: str
    total_bytes: int
    free_bytes: int


def devices() -> tuple[Device, ...]:
    """What llama.cpp sees now; of the CPU, what this process may have of its memory.

    The CPU alone means that there is no GPU, or that llama-cpp-python was built without it. The
    GPUs are numbered from 0 on, in this order, by `tensor_split` and `main_gpu` of `Model.load`.

    Source: ggml_backend_dev_memory; `total_and_free`. With no device but the CPU it was tried;
    with others it was not.
    """
    ggml = _ggml()
    if None in ggml.values():
        return (_cpu("CPU"),)
    found = []
    for place in range(ggml["count"]()):
        device = ggml["get"](place)
        name = ggml["name"](device).decode("utf-8", "replace")
        about = ggml["description"](device).decode("utf-8", "replace")
        kind = _KINDS.get(ggml["type"](device), "other")
        if kind == "CPU":
            found.append(_cpu(about, name))
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml["memory"](device, ctypes.byref(free), ctypes.byref(total))
        found.append(Device(name, about, kind, total.value, free.value))
    return tuple(found)


def takes_layers(found: Iterable[Device]) -> list[Device]:
    """Those of some devices that llama.cpp gives layers to, as `tensor_split` counts them.

    Source: llama_model_load_from_file: the GPUs, or the integrated ones where there is no other.
    """
    found = list(found)
    gpus = [device for device in found if device.kind == "GPU"]
    return gpus or [device for device in found if device.kind == "integrated GPU"]


def buffer_type(name: str) -> int:
    """llama.cpp's type of buffers in the memory of a device, by the device's name.

    Raises:
        ModelLoadError: this build of llama.cpp does not say.
    """
    ggml = _ggml()
    if None not in ggml.values():
        for device in map(ggml["get"], range(ggml["count"]())):
            if ggml["name"](device).decode("utf-8", "replace") == name:
                return ggml["buffer_type"](device)
    raise ModelLoadError(
        f"llama.cpp does not say where to put tensors on {name}. Load the model without "
        "override_tensor."
    )


def _cpu(description: str, name: str = "CPU") -> Device:
    return Device(name, description, "CPU", *total_and_free())


@cache
def _ggml() -> dict[str, Any]:
    """ggml's functions about devices, by the end of their names."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    declared: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "count": (size, ()),
        "get": (pointer, (size,)),
        "name": (ctypes.c_char_p, (pointer,)),
        "description": (ctypes.c_char_p, (pointer,)),
        "type": (ctypes.c_int, (pointer,)),
        "buffer_type": (pointer, (pointer,)),
        "memory": (None, (pointer, ctypes.POINTER(size), ctypes.POINTER(size))),
    }
    return {
        name: ggml_function(f"ggml_backend_dev_{name}", *types) for name, types in declared.items()
    }

"""The devices that llama.cpp can compute on, and their memory."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.native.library import C

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

    Source: ggml_backend_dev_memory; `total_and_free`. With no device but the CPU it was tried;
    with others it was not.
    """
    try:
        ggml = _ggml()
    except AttributeError:  # Windows finds them in their own library only
        return (_cpu("CPU"),)
    found = []
    for place in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(place)
        name = ggml.ggml_backend_dev_name(device).decode("utf-8", "replace")
        about = ggml.ggml_backend_dev_description(device).decode("utf-8", "replace")
        kind = _KINDS.get(ggml.ggml_backend_dev_type(device), "other")
        if kind == "CPU":
            found.append(_cpu(about, name))
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append(Device(name, about, kind, total.value, free.value))
    return tuple(found)


def _cpu(description: str, name: str = "CPU") -> Device:
    return Device(name, description, "CPU", *total_and_free())


def _ggml() -> ctypes.CDLL:
    """ggml's functions, which are found through llama.cpp's library."""
    ggml = ctypes.CDLL(C._lib._name)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    ggml.ggml_backend_dev_count.restype = size
    ggml.ggml_backend_dev_get.restype = pointer
    ggml.ggml_backend_dev_get.argtypes = (size,)
    for name in ("name", "description", "type"):
        function = getattr(ggml, f"ggml_backend_dev_{name}")
        function.restype = ctypes.c_int if name == "type" else ctypes.c_char_p
        function.argtypes = (pointer,)
    ggml.ggml_backend_dev_memory.argtypes = (pointer, ctypes.POINTER(size), ctypes.POINTER(size))
    ggml.ggml_backend_dev_memory.restype = None
    return ggml

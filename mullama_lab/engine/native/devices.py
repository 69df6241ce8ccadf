"""The devices that llama.cpp can compute on, and their memory."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.native.library import ggml_function

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
        "memory": (None, (pointer, ctypes.POINTER(size), ctypes.POINTER(size))),
    }
    return {
        name: ggml_function(f"ggml_backend_dev_{name}", *types) for name, types in declared.items()
    }

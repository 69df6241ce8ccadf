"""Which llama.cpp this is, and what it was built to use."""

from __future__ import annotations

import ctypes
from typing import Any

from mullama_lab.engine.native.library import ggml_function


def _said(name: str) -> str:
    """What a function without arguments says; "" where the library keeps it to itself."""
    function = ggml_function(name, ctypes.c_char_p, [])
    return "" if function is None else (function() or b"").decode("utf-8", "replace")


def version() -> str:
    """llama.cpp's version, such as "0.5.0-dev"; "" where it says none."""
    return _said("llama_version")


def commit() -> str:
    """The commit of ggml that was built, such as "0c1e570"; "" where it says none."""
    return _said("ggml_commit")


def features() -> str:
    """What the kernels use: "CPU : AVX2 = 1 | FMA = 1 | ..."."""
    return _said("llama_print_system_info").strip(" |")


def backends() -> list[str]:
    """The back ends that are there, such as ["CPU"] or ["CUDA", "CPU"]."""
    count = ggml_function("ggml_backend_reg_count", ctypes.c_size_t, [])
    get = ggml_function("ggml_backend_reg_get", ctypes.c_void_p, [ctypes.c_size_t])
    name = ggml_function("ggml_backend_reg_name", ctypes.c_char_p, [ctypes.c_void_p])
    if None in (count, get, name):
        return ["CPU"]
    found: list[Any] = [name(get(i)) for i in range(count())]
    return [one.decode() for one in found]

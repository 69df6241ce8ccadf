"""Which llama.cpp this is, and what it was built to use."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Any

from mullama_lab.engine.native.library import C


def _said(name: str) -> str:
    """What a function without arguments says; "" where the library keeps it to itself."""
    with suppress(AttributeError):
        function = getattr(C._lib, name)
        function.restype, function.argtypes = ctypes.c_char_p, []
        return (function() or b"").decode("utf-8", "replace")
    return ""


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
    try:
        count, get, name = (
            getattr(C._lib, f"ggml_backend_reg_{part}") for part in ("count", "get", "name")
        )
    except AttributeError:  # where a library's dependencies are not looked through
        return ["CPU"]
    count.restype, count.argtypes = ctypes.c_size_t, []
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    found: list[Any] = [name(get(i)) for i in range(count())]
    return [one.decode() for one in found]

"""Other layouts of weights that ggml's CPU backend has, and which weights go into them.

llama.cpp copies such weights out of the file when it loads a model, so they take memory twice.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

from mullama_lab.engine.native.library import C, ggml_function

_N_TOKENS = 512  # that llama.cpp asks with, too


class _InitParams(ctypes.Structure):
    """`ggml_init_params`."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class _Tensor(ctypes.Structure):
    """The beginning of `ggml_tensor`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
    )


def extra_layouts() -> list[tuple[str, Any]]:
    """(name, buffer type) of each layout that the CPU backend adds; the first is preferred."""
    ggml = _ggml()
    if ggml is None:
        return []
    cpu = ggml.ggml_backend_reg_by_name(b"CPU")
    if not cpu:
        return []
    address = ggml.ggml_backend_reg_get_proc_address(cpu, b"ggml_backend_dev_get_extra_bufts")
    if not address:
        return []
    ask = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)
    found = ask(ggml.ggml_backend_reg_dev_get(cpu, 0))
    layouts: list[tuple[str, Any]] = []
    while found[len(layouts)]:
        kind = found[len(layouts)]
        layouts.append((ggml.ggml_backend_buft_name(kind).decode(), kind))
    return layouts


@cache
def layout_of(kind: int, shape: tuple[int, ...]) -> str:
    """The layout that weights are copied into to be multiplied with; "" for those that are not.

    Args:
        kind: their GGML type.
        shape: row length first; of three dimensions where they are those of experts.

    Source: ggml_backend_dev_supports_op, as llama.cpp's `weight_buft_supported` asks it.
    """
    ggml = _ggml()
    if ggml is None or len(shape) not in (2, 3):
        return ""
    device = ggml.ggml_backend_reg_dev_get(ggml.ggml_backend_reg_by_name(b"CPU"), 0)
    for name, buffer_type in extra_layouts():
        buffer = ggml.ggml_backend_buft_alloc_buffer(buffer_type, 0)
        context = ggml.ggml_init(_InitParams(1 << 16, None, True))
        try:
            product = _product(ggml, context, kind, shape, buffer)
            if ggml.ggml_backend_dev_supports_op(device, product):
                return name
        finally:
            ggml.ggml_free(context)
            ggml.ggml_backend_buffer_free(buffer)
    return ""


def _product(ggml: Any, context: Any, kind: int, shape: Sequence[int], buffer: Any) -> Any:
    n_in = shape[0]
    if len(shape) == 2:
        weights = ggml.ggml_new_tensor_2d(context, kind, *shape)
        given = ggml.ggml_new_tensor_2d(context, C.GGML_TYPE_F32, n_in, _N_TOKENS)
        product = ggml.ggml_mul_mat(context, weights, given)
    else:
        weights = ggml.ggml_new_tensor_3d(context, kind, *shape)
        given = ggml.ggml_new_tensor_3d(context, C.GGML_TYPE_F32, n_in, 1, _N_TOKENS)
        chosen = ggml.ggml_new_tensor_2d(context, C.GGML_TYPE_I32, 1, _N_TOKENS)
        product = ggml.ggml_mul_mat_id(context, weights, given, chosen)
    ctypes.cast(weights, ctypes.POINTER(_Tensor)).contents.buffer = buffer
    return product


@cache
def _ggml() -> Any:
    """ggml's functions; None where it keeps one to itself."""
    pointer, whole, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    declared: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "ggml_backend_reg_by_name": (pointer, (ctypes.c_char_p,)),
        "ggml_backend_reg_dev_get": (pointer, (pointer, ctypes.c_size_t)),
        "ggml_backend_reg_get_proc_address": (pointer, (pointer, ctypes.c_char_p)),
        "ggml_backend_buft_name": (ctypes.c_char_p, (pointer,)),
        "ggml_backend_buft_alloc_buffer": (pointer, (pointer, ctypes.c_size_t)),
        "ggml_backend_buffer_free": (None, (pointer,)),
        "ggml_backend_dev_supports_op": (ctypes.c_bool, (pointer, pointer)),
        "ggml_init": (pointer, (_InitParams,)),
        "ggml_free": (None, (pointer,)),
        "ggml_new_tensor_2d": (pointer, (pointer, whole, long, long)),
        "ggml_new_tensor_3d": (pointer, (pointer, whole, long, long, long)),
        "ggml_mul_mat": (pointer, (pointer, pointer, pointer)),
        "ggml_mul_mat_id": (pointer, (pointer, pointer, pointer, pointer)),
    }
    found = {name: ggml_function(name, *types) for name, types in declared.items()}
    return None if None in found.values() else SimpleNamespace(**found)

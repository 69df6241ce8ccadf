"""ggml's vector functions for this CPU, on long rows faster than numpy's."""

from __future__ import annotations

import ctypes
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native.library import ggml_function

Logits: TypeAlias = NDArray[np.float32]
"""A row of logits, shape (n_vocab,)."""


_softmax_numerator = ggml_function(
    "ggml_vec_soft_max_f32",
    ctypes.c_double,
    (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float),
)
_dot_product = ggml_function(
    "ggml_vec_dot_f32",
    None,
    (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    + (ctypes.c_void_p, ctypes.c_size_t) * 2
    + (ctypes.c_int,),
)


FEW = 2048  # numbers that numpy is done with before a foreign function is called


def exp_shifted(row: NDArray[np.float32], shift: float, out: NDArray[np.float32]) -> float:
    """Write exp(row - shift) to `out` and return its sum; contiguous float32 arrays.

    Long ones by ggml, which is three times as fast at it as numpy.
    """
    if _softmax_numerator is not None and len(row) > FEW:
        return _softmax_numerator(len(row), out.ctypes.data, row.ctypes.data, shift)
    np.exp(np.subtract(row, np.float32(shift), out=out), out=out)
    return float(out.sum(dtype=np.float64))


def dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The scalar product of two contiguous float32 arrays, on this thread.

    For long ones numpy would wake the threads of its BLAS, which stall those of llama.cpp.
    """
    if len(a) <= FEW:
        return float(a @ b)
    if _dot_product is None:
        return float(np.einsum("i,i", a, b))
    result = ctypes.c_float()
    _dot_product(len(a), ctypes.byref(result), 0, a.ctypes.data, 0, b.ctypes.data, 0, 1)
    return result.value

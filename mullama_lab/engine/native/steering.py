"""Checked calls of llama.cpp on LoRA adapters and control vectors.

An adapter belongs to the model it was loaded for and is freed with it. What is set on a context
acts on all of its sequences from the next batch on.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.native.library import C
from mullama_lab.engine.native.log import complaints
from mullama_lab.errors import ModelLoadError, SessionError


def load_adapter(model: Any, path: Path) -> Any:
    """Read an adapter that was seen to fit the model; not on two threads at once.

    Raises:
        ModelLoadError: llama.cpp refused it, with its own words.
    """
    with complaints() as heard:
        adapter = C.llama_adapter_lora_init(model, os.fsencode(path))
    if not adapter:
        raise ModelLoadError(f"llama.cpp could not load {path}: {heard.reason()}.")
    return adapter


def set_adapters(context: Any, adapters: Sequence[tuple[Any, float]]) -> None:
    """Have these adapters act, each with its scale, and no other."""
    n = len(adapters)
    handles = (C.llama_adapter_lora_p_ctypes * max(1, n))()
    for i, (handle, _) in enumerate(adapters):
        handles[i] = handle
    scales = (ctypes.c_float * max(1, n))(*(scale for _, scale in adapters))
    if C.llama_set_adapters_lora(context, handles, n, scales) != 0:
        raise SessionError("llama.cpp could not set these adapters.")


def set_control(context: Any, rows: NDArray[np.float32] | None) -> None:
    """Have a direction added to what each layer gives; None is nothing.

    Args:
        rows: of layer 1 and those after it, (n_layer - 1, n_embd).
    """
    if rows is None:
        failed = C.llama_set_adapter_cvec(context, None, 0, 0, 0, 0)
    else:
        rows = np.ascontiguousarray(rows, np.float32)
        data = rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        n, n_embd = rows.shape
        failed = C.llama_set_adapter_cvec(context, data, rows.size, n_embd, 1, n)
    if failed:
        raise SessionError("llama.cpp could not set this control vector.")

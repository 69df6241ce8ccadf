"""Keeps llama.cpp's AMX kernels out, and its other fast layouts of weights in.

Built by gcc, ggml's AMX kernels work on tiles that were never set up, an illegal instruction:
gcc takes the 64 bytes that `_tile_loadconfig` reads for 8 and drops the others. llama.cpp's one
switch for these kernels turns off its repacked weights too, with which a prompt is read up to
three times as fast. But ggml asks Linux once whether the process may use AMX, and Linux says
no while a thread has a signal stack that could not hold the tiles
(https://docs.kernel.org/arch/x86/xstate.html).
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from mullama_lab.engine.c_library import c_function
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.native.layouts import extra_layouts
from mullama_lab.engine.native.library import C

_SMALL_STACK = 8192  # bytes; the tiles alone take as many
_one_at_a_time = usable_in_forks(threading.Lock())


class _SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@cache
def extra_layouts_are_safe() -> bool:
    """Whether weights in llama.cpp's extra layouts stay out of its AMX kernels."""
    if b"AMX_INT8 = 1" not in C.llama_print_system_info():
        return True
    if sys.platform != "linux":
        return False
    names: list[bytes] = []
    asking = threading.Thread(target=_add_layouts_without_amx, args=(names,))
    asking.start()
    asking.join()
    return bool(names) and b"AMX" not in names


def _add_layouts_without_amx(names: list[bytes]) -> None:
    """Add the extra layouts of ggml's CPU backend, in a thread that has a small signal stack."""
    small = ctypes.create_string_buffer(_SMALL_STACK)
    stack = _SignalStack(ctypes.addressof(small), 0, _SMALL_STACK)
    c_function("sigaltstack")(ctypes.byref(stack), None)
    # Standard error may be closed.
    with suppress(OSError), _one_at_a_time, _silenced_stderr():
        names.extend(_extra_layouts())


def _extra_layouts() -> list[bytes]:
    return [name.encode() for name, _ in extra_layouts()]


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """ggml prints there that AMX is not ready."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

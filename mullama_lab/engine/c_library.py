"""Functions of the C library that this process runs on."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# Elsewhere the library is part of the process itself; Windows keeps it in a file of its own.
NAME = "msvcrt" if sys.platform == "win32" else None


def c_function(name: str) -> Any:
    """One of its functions, such as `strlen`, with argument types of its own.

    Raises:
        AttributeError: this C library has no such function.
    """
    return getattr(ctypes.CDLL(NAME), name)

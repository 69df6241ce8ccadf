"""llama.cpp's library: the only file that imports `llama_cpp`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as _llama_cpp

C: Any = _llama_cpp  # its annotations do not allow what ctypes does
VERSION: str = llama_cpp.__version__
FILE: str = llama_cpp.__file__  # the libraries lie in `lib` beside it

LARGEST_LOGIT = 1e8  # llama.cpp sorts larger ones wrongly, and infinite ones end in NaN
RANDOM_SEED = 0xFFFFFFFF  # llama.cpp reads this seed as "pick one"


def ggml_function(name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """A function of ggml or llama.cpp; None where the libraries keep it to themselves.

    Linux and macOS find those of ggml through llama.cpp's library, Windows in their own alone.
    """
    beside = sorted((Path(FILE).parent / "lib").glob("*ggml*"))
    for path in (C._lib._name, *map(str, beside)):
        with suppress(OSError, AttributeError):
            function = getattr(ctypes.CDLL(path), name)
            function.restype, function.argtypes = result, arguments
            return function
    return None

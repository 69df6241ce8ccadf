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


def ggml_function(part: str, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """A function of one of ggml's libraries ("base", "cpu"); None where it is kept to itself."""
    folder = Path(FILE).parent / "lib"
    for path in sorted(folder.glob(f"*ggml-{part}*")):
        with suppress(OSError, AttributeError):
            function = getattr(ctypes.CDLL(str(path)), name)
            function.restype, function.argtypes = result, arguments
            return function
    return None

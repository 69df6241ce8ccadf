"""llama.cpp's library: the only file that imports `llama_cpp`."""

from __future__ import annotations

from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as _llama_cpp

C: Any = _llama_cpp  # its annotations do not allow what ctypes does
VERSION: str = llama_cpp.__version__
FILE: str = llama_cpp.__file__  # the libraries lie in `lib` beside it

LARGEST_LOGIT = 1e8  # llama.cpp sorts larger ones wrongly, and infinite ones end in NaN
RANDOM_SEED = 0xFFFFFFFF  # llama.cpp reads this seed as "pick one"

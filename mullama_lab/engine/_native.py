"""The one door to llama.cpp: the only file that imports `llama_cpp`.

Here are its log, its arithmetic and its samplers; `_native_context`, `_native_model`,
`_native_encoder` and `_native_state` come through this file and keep its rules.

Everything is a thin, checked call. What would abort or crash the process (a token
outside the vocabulary, a batch over its size, a NaN in a row of logits, a freed handle)
is refused with an exception before llama.cpp sees it.

It knows pointers, ids and rows. It knows no Model, Session or Chain.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import llama_cpp as _llama_cpp
from numpy.typing import NDArray

from mullama_lab.glyphs import visible

C: Any = _llama_cpp  # its annotations do not allow what ctypes does
VERSION: str = llama_cpp.__version__

log = logging.getLogger("mullama_lab.llama_cpp")
log.addHandler(logging.NullHandler())  # what matters of it is in our exceptions

LARGEST_LOGIT = 1e8  # llama.cpp sorts larger ones wrongly, and infinite ones end in NaN
RANDOM_SEED = 0xFFFFFFFF  # llama.cpp reads this seed as "pick one"

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


# --- llama.cpp's log -----------------------------------------------------------------------

# As in ggml.h; the numbers in llama-cpp-python's own logger are out of date.
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_recent: deque[tuple[int, str]] = deque(maxlen=400)
_log_state = threading.local()


@C.llama_log_callback
def _on_log(level: int, text: bytes, _user: object) -> None:
    if level == 5:  # a continuation of the line before
        level = getattr(_log_state, "level", 1)
    _log_state.level = level
    line = text.decode("utf-8", "replace").rstrip("\n")
    if line.strip(" ."):
        line = visible(line)  # it quotes the file
        number = _LEVELS.get(level, logging.DEBUG)
        _recent.append((number, line))
        # Its information is our detail: a user who sets the root logger to INFO wants no dump.
        log.log(number if number >= logging.WARNING else logging.DEBUG, "%s", line)


@contextmanager
def captured_log() -> Iterator[list[tuple[int, str]]]:
    """Collect what llama.cpp logs inside the block, as (level, line)."""
    _recent.clear()
    lines: list[tuple[int, str]] = []
    try:
        yield lines
    finally:
        lines.extend(_recent)


def last_error(lines: Sequence[tuple[int, str]]) -> str:
    """The last things llama.cpp complained about, on one line."""
    said = [line.strip() for level, line in lines if level >= logging.ERROR]
    return "; ".join(said[-2:])


C.llama_log_set(_on_log, ctypes.c_void_p(0))
# A thread that still logs when there is no Python left must not call it: libc's `abs` does nothing.
_SILENCE = ctypes.cast(ctypes.CDLL(None).abs, C.llama_log_callback)
atexit.register(C.llama_log_set, _SILENCE, ctypes.c_void_p(0))
C.llama_backend_init()


# --- arithmetic ----------------------------------------------------------------------------


def _ggml_function(name: str, result: Any, arguments: Sequence[Any]) -> Any:
    """One of ggml's vector functions for this CPU; None where the library keeps them to itself."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    for path in sorted(folder.glob("*ggml-cpu*")):
        with suppress(OSError, AttributeError):
            function = getattr(ctypes.CDLL(str(path)), name)
            function.restype, function.argtypes = result, arguments
            return function
    return None


_softmax_numerator = _ggml_function(
    "ggml_vec_soft_max_f32",
    ctypes.c_double,
    (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float),
)
_dot_product = _ggml_function(
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


# --- samplers ------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _all_ids(n_vocab: int) -> NDArray[np.int32]:
    return np.arange(n_vocab, dtype=np.int32)


class _ArrayFields(ctypes.Structure):
    """`llama_token_data_array` with a plain address, which is quick to read."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    ]


class Candidates:
    """The candidates of one row: what llama.cpp calls `llama_token_data_array`.

    Samplers shorten it, reorder it, and XTC even moves its start; `window` is what is left.
    """

    def __init__(self, n_vocab: int) -> None:
        self.table = np.empty(n_vocab, CANDIDATE)
        self._all_ids = _all_ids(n_vocab)
        self._start = self.table.ctypes.data
        self.array = C.llama_token_data_array()
        self.fields = _ArrayFields.from_buffer(self.array)
        self.ref = ctypes.byref(self.array)

    def load(self, row: NDArray[np.float32]) -> None:
        """Start again from a whole row of logits, in vocabulary order."""
        self.table["id"] = self._all_ids
        self.table["logit"] = row
        fields = self.fields
        fields.data, fields.size = self._start, len(self.table)
        fields.selected, fields.sorted = -1, False

    def load_some(self, ids: NDArray[np.integer], logits: NDArray[np.float32]) -> None:
        """Start again from some tokens of a row, in the order given."""
        n, fields = len(ids), self.fields
        self.table["id"][:n] = ids
        self.table["logit"][:n] = logits
        fields.data, fields.size = self._start, n
        fields.selected, fields.sorted = -1, False

    def saved(self) -> tuple[NDArray[np.void], bool]:
        """What there is now, for `restore`: a copy of the window, and whether it is sorted."""
        bytes_of_it = self.window.view(np.uint8)  # records one by one would take 20 times as long
        return bytes_of_it.copy().view(CANDIDATE), bool(self.fields.sorted)

    def restore(self, saved: tuple[NDArray[np.void], bool]) -> None:
        """Be again what `saved` gave."""
        window, is_sorted = saved
        self.table[: len(window)].view(np.uint8)[:] = window.view(np.uint8)
        self.fields.data, self.fields.size = self._start, len(window)
        self.fields.selected, self.fields.sorted = -1, is_sorted

    @property
    def size(self) -> int:
        return self.fields.size

    @property
    def window(self) -> NDArray[np.void]:
        first = (self.fields.data - self._start) // CANDIDATE.itemsize
        return self.table[first : first + self.fields.size]

    def keep(self, positions: NDArray[np.integer], *, is_sorted: bool) -> None:
        """Keep the candidates at `positions` of the window, in that order."""
        window = self.window
        window[: len(positions)] = window[positions]
        self.fields.size, self.fields.sorted = len(positions), is_sorted

    def n_possible(self) -> int:
        """How many candidates are not masked with minus infinity."""
        return int(np.count_nonzero(self.window["logit"] > -np.inf))


class NativeSampler:
    """One `llama_sampler`, freed with this object. `accept` exactly once per token."""

    __slots__ = ("_pointer",)

    def __init__(self, pointer: Any) -> None:
        if not pointer:
            raise ValueError("llama.cpp could not build this sampler from its settings.")
        self._pointer = pointer

    def apply(self, candidates: Candidates) -> None:
        C.llama_sampler_apply(self._pointer, candidates.ref)

    def accept(self, token: int) -> None:
        C.llama_sampler_accept(self._pointer, token)

    def clone(self) -> NativeSampler:
        return NativeSampler(C.llama_sampler_clone(self._pointer))

    def __del__(self) -> None:
        if getattr(self, "_pointer", None) and C is not None:
            C.llama_sampler_free(self._pointer)
            self._pointer = None


def sampler(name: str, *args: Any) -> NativeSampler:
    """Build llama.cpp's sampler `llama_sampler_init_<name>`."""
    return NativeSampler(getattr(C, f"llama_sampler_init_{name}")(*args))


def dry_sampler(
    vocab: Any,
    multiplier: float,
    base: float,
    allowed_length: int,
    last_n: int,
    breakers: Sequence[str],
) -> NativeSampler:
    """llama.cpp's DRY; it reads the whole vocabulary for its breakers, so clone, don't rebuild."""
    words = (ctypes.c_char_p * max(1, len(breakers)))(*(b.encode() for b in breakers))
    return sampler("dry", vocab, multiplier, base, allowed_length, last_n, words, len(breakers))


def logit_bias_sampler(n_vocab: int, biases: Sequence[tuple[int, float]]) -> NativeSampler:
    """llama.cpp's logit bias; it copies the pairs."""
    pairs = (C.llama_logit_bias * max(1, len(biases)))(*biases)
    return sampler("logit_bias", n_vocab, len(biases), pairs)

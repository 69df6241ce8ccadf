"""What this machine can do at most: bytes a second from its memory, and floating-point operations.

Both are measured with numpy, which is installed anyway: its maximum of an array reads memory as
fast as any of its loops, and its matrix product is a tuned BLAS.
"""

from __future__ import annotations

import glob
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mullama_lab.counted import size_in_words
from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.errors import MullamaError

SMALLEST_BUFFER = 256 << 20
TIMES_CACHE = 4
N_MATRIX = 1536
PASSES = 5


def buffer_bytes() -> int:
    """How much to read: four times the last caches, or 256 MiB if that is more.

    No more than a quarter of what is free; but of what is no larger than the caches, or 64 MiB, it
    would be their bandwidth.

    Raises:
        MullamaError: less than that is a quarter of what is free.
    """
    wanted = max(SMALLEST_BUFFER, TIMES_CACHE * _largest_caches())
    least, free = wanted // 4, total_and_free()[1]
    if free // 4 < least:
        raise MullamaError(
            f"{size_in_words(free)} are free: to measure the bandwidth of the memory, and not that "
            f"of a cache, takes {size_in_words(4 * least)}. Close something."
        )
    return min(wanted, free // 4)


def read_bandwidth(n_threads: int, n_bytes: int) -> float:
    """Bytes a second that so many threads read together; the best of five passes.

    Each takes the maximum of a float32 buffer of its own, all of them `n_bytes` together, which it
    wrote before: on a machine of several nodes memory is on the node that writes first.
    """
    n = n_bytes // n_threads // 4
    with ThreadPoolExecutor(n_threads) as pool:
        parts = list(pool.map(_written, [n] * n_threads))
        best = np.inf
        for _ in range(PASSES):
            start = perf_counter()
            list(pool.map(np.max, parts))
            best = min(best, perf_counter() - start)
    return 4 * n * n_threads / best


def matrix_throughput(n_threads: int) -> float:
    """Operations a second of a float32 matrix product; the best of five after the first."""
    a = np.random.default_rng(0).random((N_MATRIX, N_MATRIX), np.float32)
    b, out = a.T.copy(), np.empty_like(a)
    best = np.inf
    with threadpool_limits(n_threads, user_api="blas"):
        np.matmul(a, b, out=out)
        for _ in range(PASSES):
            start = perf_counter()
            np.matmul(a, b, out=out)
            best = min(best, perf_counter() - start)
    return 2 * N_MATRIX**3 / best


def _written(n: int) -> NDArray[np.float32]:
    return np.full(n, 1, np.float32)


def _largest_caches() -> int:
    """Bytes of the last cache of every core that has one of its own; 0 where Linux does not say."""
    found: dict[str, int] = {}
    with suppress(OSError, ValueError):
        for folder in glob.glob("/sys/devices/system/cpu/cpu*/cache/index3"):
            shared = (Path(folder) / "shared_cpu_list").read_text().strip()
            size = (Path(folder) / "size").read_text().strip()
            found[shared] = int(size.removesuffix("K")) << 10
    return sum(found.values())

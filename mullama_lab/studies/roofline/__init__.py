"""How near does a model come to what this machine can do?

Generating reads every weight, and what is in the cache, for one token: memory is its roof.
Processing a prompt reads the weights once for many tokens: arithmetic is its roof.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mullama_lab.counted import counted
from mullama_lab.engine import options
from mullama_lab.engine.decode_loop import DecodeLoop, Opening, Timed
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import whole
from mullama_lab.studies._test_names import MOST_TOKENS, name_of
from mullama_lab.studies._timed_rounds import (
    MOST_REPEATS,
    Item,
    must_open,
    rounds,
    warn_of_other_threads,
)
from mullama_lab.studies._together import Bar
from mullama_lab.studies.roofline import roofs
from mullama_lab.studies.roofline.weight_work import N_BATCH, prompt_operations, work_of

if TYPE_CHECKING:
    import pandas

__all__ = ["Phase", "Roofline", "roofline"]
__dir__ = __all__.copy  # what tab completion offers

N_UBATCH = 512  # llama-bench's, as N_BATCH is


@dataclass(frozen=True)
class Phase:
    """One way of computing beside its roof.

    Attributes:
        test: llama-bench's name.
        median_ts: tokens a second.
        per_token: bytes read, or operations, for one token.
        rate: the two multiplied.
        roof: what the machine can do, in the same unit.
        unit: "B" or "FLOP".
    """

    test: str
    median_ts: float
    per_token: float
    rate: float
    roof: float
    unit: str

    @property
    def share(self) -> float:
        """The part of the roof that is reached."""
        return self.rate / self.roof


@dataclass(frozen=True, eq=False)
class Roofline:
    """What was measured, and the arithmetic; printed, it is a text.

    Attributes:
        decode, prefill: the two phases.
        weight_bytes, cache_bytes: read for each token that is generated.
        n_threads: of all that was measured.
        buffer_bytes: what the bandwidth was measured over.
        unknown_window: tokens of a sliding window where the file does not tell which layers have
            it, so that all count as seeing everything; mostly 0.
    """

    decode: Phase
    prefill: Phase
    weight_bytes: int
    cache_bytes: int
    n_threads: int
    buffer_bytes: int
    unknown_window: int = 0

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each phase, with its share."""
        import pandas

        phases = {"decode": self.decode, "prefill": self.prefill}
        rows = {name: {**asdict(phase), "share": phase.share} for name, phase in phases.items()}
        return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("phase")

    def __str__(self) -> str:
        decode, prefill = self.decode, self.prefill
        by = counted(self.n_threads, "thread")
        window = (
            f"; counted as if every layer saw everything, for the file does not tell which have "
            f"its sliding window of {counted(self.unknown_window, 'token')}"
        ) * (self.unknown_window > 0)
        return "\n".join(
            [
                f"memory: {decode.roof / 1e9:.1f} GB/s read by {by} (the maximum of "
                f"{self.buffer_bytes >> 20} MiB of float32 with numpy, the best of "
                f"{roofs.PASSES})",
                f"matrix: {prefill.roof / 1e9:.1f} GFLOP/s by {by} (a float32 product of "
                f"{roofs.N_MATRIX} x {roofs.N_MATRIX} with numpy's BLAS, the best of "
                f"{roofs.PASSES})",
                f"decode {decode.test}: ({self.weight_bytes / 1e6:.2f} MB of weights + "
                f"{self.cache_bytes / 1e6:.2f} MB of cache) a token x {decode.median_ts:.2f} t/s "
                f"= {decode.rate / 1e9:.2f} GB/s",
                f"decode is at {decode.share:.0%} of memory bandwidth",
                f"prefill {prefill.test}: {prefill.per_token / 1e9:.4f} GFLOP a token x "
                f"{prefill.median_ts:.2f} t/s = {prefill.rate / 1e9:.1f} GFLOP/s",
                f"prefill is at {prefill.share:.0%} of float32 matrix throughput (quantised "
                f"weights are multiplied as 8-bit integers, which may be faster){window}",
            ]
        )

    __repr__ = __str__


def roofline(
    model: Model | str | Path,
    *,
    n_prompt: int = 512,
    n_gen: int = 128,
    depth: int = 0,
    threads: int | None = None,
    kv_type: str | tuple[str, str] = "f16",
    repeats: int = 5,
    progress: bool = True,
) -> Roofline:
    """Measure what the machine can do at most, and how much of that a model reaches.

    Bandwidth and matrix throughput are measured with numpy before and after the model, and the
    better of the two counts. What is read for a token are all weights (of experts the part that is
    used; of a table that is looked up, nothing) and the cache at the middle of what is generated.
    A prompt's operations are two for each weight and token, and four for each number of a head and
    each pair of tokens that attention compares. All of it is on the CPU.

        print(roofline("smollm2-135m"))

    Args:
        model: a Model, or what `Model.load` takes.
        n_prompt, n_gen: tokens of the two tests.
        depth: tokens in the cache before both.
        threads: None is a thread for each core.
        kv_type: of the cache, as in `model.session`.
        repeats: of each test.
        progress: show a bar when it takes longer than two seconds.

    Raises:
        ValueError: a value is out of range, or layers of the model are on a GPU.
        MullamaError: too little memory is free to measure its bandwidth.
    """
    if not isinstance(model, Model):
        with Model.load(model) as loaded:
            return roofline(
                loaded, n_prompt=n_prompt, n_gen=n_gen, depth=depth, threads=threads,
                kv_type=kv_type, repeats=repeats, progress=progress,
            )  # fmt: skip
    if n_layers := model.options.get("n_gpu_layers", 0):
        raise ValueError(
            f"n_gpu_layers={n_layers}: the roofs that are measured are the CPU's. "
            "Load the model without n_gpu_layers."
        )
    n_prompt, n_gen = (
        whole(name, n, 1, MOST_TOKENS) for name, n in (("n_prompt", n_prompt), ("n_gen", n_gen))
    )
    depth = whole("depth", depth, 0, MOST_TOKENS)
    cores = options.n_cores()
    n_threads = whole("threads", cores if threads is None else threads, 1, 512)
    kv_types = options.kv_types(kv_type)
    repeats = whole("repeats", repeats, 1, MOST_REPEATS)
    longest = whole("n_ctx", depth + max(n_prompt, n_gen), 1, MOST_TOKENS)
    opening = Opening(longest, 1, N_BATCH, N_UBATCH, "auto", kv_types)
    both = [Timed(n_prompt, 0, depth, n_threads), Timed(0, n_gen, depth, n_threads)]
    buffer_bytes = roofs.buffer_bytes()
    before = _measured_roofs(n_threads, buffer_bytes)
    pp, tg = _speeds([Item(model, opening, timed) for timed in both], repeats, progress)
    after = _measured_roofs(n_threads, buffer_bytes)
    bandwidth, throughput = map(max, before, after)
    work = work_of(model)
    cached = _cache_bytes(model, depth + max(1, n_gen // 2), kv_types, n_threads)
    a_token = work.bytes_read + cached
    operations = prompt_operations(model, work, n_prompt, depth) / n_prompt
    return Roofline(
        decode=Phase(name_of(0, n_gen, depth), tg, a_token, a_token * tg, bandwidth, "B"),
        prefill=Phase(
            name_of(n_prompt, 0, depth), pp, operations, operations * pp, throughput, "FLOP"
        ),
        weight_bytes=work.bytes_read,
        cache_bytes=cached,
        n_threads=n_threads,
        buffer_bytes=buffer_bytes,
        unknown_window=work.window if work.n_windowed is None else 0,
    )


def _measured_roofs(n_threads: int, buffer_bytes: int) -> tuple[float, float]:
    return roofs.read_bandwidth(n_threads, buffer_bytes), roofs.matrix_throughput(n_threads)


def _speeds(items: list[Item], repeats: int, progress: bool) -> list[float]:
    """Tokens a second of each, the median."""
    must_open(items)
    warn_of_other_threads(items[0].timed.n_threads)
    speeds: list[list[float]] = [[] for _ in items]
    with Bar("roofline", repeats * len(items), "test", shown=progress) as bar:
        for done, (place, ns) in enumerate(rounds(items, repeats), start=1):
            timed = items[place].timed
            speeds[place].append((timed.n_prompt + timed.n_gen) * 1e9 / ns)
            bar.show(done)
    return [statistics.median(some) for some in speeds]


def _cache_bytes(model: Model, n_tokens: int, kv_types: tuple[str, str], n_threads: int) -> int:
    """Of one sequence: what llama.cpp gives as its state."""
    with DecodeLoop(model) as loop:
        loop.open(Opening(n_tokens, 1, N_BATCH, N_UBATCH, "auto", kv_types))
        return loop.held_bytes(n_tokens, n_threads)

"""The buffers that llama.cpp allocates, as its log reports them.

It has no function in C that says what it allocated (`llama_memory_breakdown` is C++), but logs
each buffer when it makes it. The log rounds to 0.01 MiB, about 10 kB, and so do all sizes here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mullama_lab.counted import size_in_words
from mullama_lab.errors import ModelLoadError

if TYPE_CHECKING:
    import pandas

MIB = 1 << 20
BAR = 40  # characters that stand for the total
KINDS = {  # in the order to show them
    "weights": "weights",
    "kv": "KV cache",
    "state": "states",
    "compute": "compute",
    "output": "output",
}
_BUFFER = re.compile(
    r"\w+: +(?P<name>\S+) +(?P<what>model|KV|RS|compute|output|DSV4 \w+ state) buffer size ="
    r" *(?P<mib>[\d.]+) MiB"
)
_KIND_OF = {"model": "weights", "KV": "kv", "RS": "state", "compute": "compute"}
_CACHE = re.compile(r"llama_kv_cache: size = *([\d.]+) MiB \( *(\d+) cells, .*?/(\d+) seqs\)")
_LAYER = re.compile(r"llama_kv_cache: layer +\d+: dev = (\S+)")


@dataclass(frozen=True)
class Buffer:
    """One buffer of llama.cpp.

    Attributes:
        kind: "weights", "kv" (keys and values of the cache), "state" (of recurrent layers),
            "compute" (what a batch is computed in) or "output" (logits and vectors).
        name: as llama.cpp calls where it is, such as "CPU_Mapped" (weights that stay in the file)
            or "CPU_REPACK" (a copy of some in a layout that is faster).
        size_bytes: its size, to 0.01 MiB where the log said it.
    """

    kind: str
    name: str
    size_bytes: int

    @property
    def device(self) -> str:
        """Whose memory it takes: "CPU", or the name of a device, such as "CUDA0"."""
        if self.name.startswith("CPU") or self.name.endswith("_Host"):
            return "CPU"
        return self.name.partition("_")[0]


@dataclass(frozen=True, repr=False)
class Buffers:
    """Buffers of llama.cpp, and their sums.

    Attributes:
        buffers: each of them, weights first.
    """

    buffers: tuple[Buffer, ...]

    @property
    def weights_bytes(self) -> int:
        """Bytes of the model's weights, those in the file too where they are used from there."""
        return self._sum("weights")

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV cache: all its cells, in use or not."""
        return self._sum("kv")

    @property
    def state_bytes(self) -> int:
        """Bytes of the states of recurrent layers, of all sequences there may be; 0 for most."""
        return self._sum("state")

    @property
    def compute_bytes(self) -> int:
        """Bytes set aside to compute one n_ubatch in; only what a batch needed is resident."""
        return self._sum("compute")

    @property
    def output_bytes(self) -> int:
        """Bytes for the rows of logits; it grows later where more are wanted at once."""
        return self._sum("output")

    @property
    def total_bytes(self) -> int:
        """Bytes of all of them."""
        return sum(buffer.size_bytes for buffer in self.buffers)

    @property
    def by_device(self) -> Mapping[str, int]:
        """Bytes by the device whose memory they take: "CPU", or such as "CUDA0"."""
        sums: Counter[str] = Counter()
        for buffer in self.buffers:
            sums[buffer.device] += buffer.size_bytes
        return MappingProxyType(dict(sums))

    def __str__(self) -> str:
        """A line for each kind, its bar as long as its part of the total."""
        sizes = {label: self._sum(kind) for kind, label in KINDS.items() if self._sum(kind)}
        total = self.total_bytes
        lines = [
            f"{label:<8} {size_in_words(size):>9}  {'█' * round(BAR * size / total)}".rstrip()
            for label, size in sizes.items()
        ]
        return "\n".join([*lines, f"{'total':<8} {size_in_words(total):>9}"])

    def to_pandas(self) -> pandas.DataFrame:
        """One row a buffer: kind, device, name (llama.cpp's) and bytes; needs pandas."""
        import pandas as pd

        rows = [(b.kind, b.device, b.name, b.size_bytes) for b in self.buffers]
        return pd.DataFrame(rows, columns=pd.Index(["kind", "device", "buffer", "bytes"]))

    def _sum(self, kind: str) -> int:
        return sum(buffer.size_bytes for buffer in self.buffers if buffer.kind == kind)

    def _in_words(self) -> str:
        parts = [
            f"{label} {size_in_words(self._sum(kind))}"
            for kind, label in KINDS.items()
            if self._sum(kind)
        ]
        return ", ".join(parts) or "nothing"


def read(lines: Iterable[str]) -> tuple[Buffer, ...]:
    """The buffers that llama.cpp's log reports; empty ones are left out.

    Where it laid out a cache without memory behind it, the log still has the size of all of it
    and the device of each layer, between which it is divided then.
    """
    found = sorted(_logged(lines), key=lambda buffer: list(KINDS).index(buffer.kind))
    return tuple(buffer for buffer in found if buffer.size_bytes)


def must_be_heard(buffers: Iterable[Buffer], kind: str) -> None:
    """Raise where the log had no buffer of a kind that llama.cpp always logs.

    Raises:
        ModelLoadError: there is no buffer of that kind.
    """
    if all(buffer.kind != kind for buffer in buffers):
        raise ModelLoadError(
            "how much memory llama.cpp takes is not available: its log did not say "
            f"({KINDS[kind]}). Something else in this process may have called llama_log_set, or "
            "this version of llama.cpp words its log otherwise."
        )


def _logged(lines: Iterable[str]) -> Iterator[Buffer]:
    layers: Counter[str] = Counter()
    caches: list[Buffer] = []
    for line in lines:
        if match := _LAYER.match(line):
            layers[match[1]] += 1
        elif match := _BUFFER.match(line):
            kind = _KIND_OF.get(match["what"], match["what"].split()[-1])
            buffer = Buffer(kind, match["name"], round(float(match["mib"]) * MIB))
            if kind == "kv":
                caches.append(buffer)
            else:
                yield buffer
        elif match := _CACHE.match(line):
            if not any(buffer.size_bytes for buffer in caches):
                size, n = float(match[1]) * MIB, layers.total()
                caches = [Buffer("kv", name, round(size * k / n)) for name, k in layers.items()]
            yield from caches
            layers, caches = Counter(), []


def cell_bytes(lines: Iterable[str]) -> float:
    """Bytes that one token takes in the KV cache, in all layers; 0.0 without one."""
    found = filter(None, map(_CACHE.match, lines))
    return sum(float(m[1]) * MIB / (int(m[2]) * int(m[3])) for m in found)

"""Which device has which layers and tensors of a model, as llama.cpp's log says.

The log names the device of each layer, and each tensor that a pattern moved elsewhere; where all
the others are follows from llama.cpp's rules: what looks up tokens is on the CPU, what is behind
the last layer is where the output is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from gguf import GGML_QUANT_SIZES

from mullama_lab.counted import counted, size_in_words
from mullama_lab.engine.gguf.file import TensorInfo
from mullama_lab.engine.memory import Buffer
from mullama_lab.engine.native.placement import LAYER
from mullama_lab.errors import ModelFileError, ModelLoadError

if TYPE_CHECKING:
    import pandas

_ASSIGNED = re.compile(r"load_tensors: layer +(\d+) assigned to device ([^,]+),")
_OVERRIDDEN = re.compile(r"tensor (\S+) \(\d+ MiB \S+\) buffer type overridden to (\S+)")
_BEHIND = (  # how names begin of what llama.cpp counts to the output (`LLM_TENSOR_LAYER_OUTPUT`)
    "output",
    "enc.output_norm",
    "dec.output_norm",
    "cls.",
    "dense_2.",
    "dense_3.",
    "altup_",
)


@dataclass(frozen=True)
class PlacedTensor:
    """One tensor of a model, and where it is.

    Attributes:
        name: such as "blk.3.ffn_up.weight".
        layer: its number, which an encoder's and a decoder's share; None for what belongs to none.
        device: "CPU", or such as "CUDA0".
        home: the device of its layer, where it is unless a pattern says otherwise.
        size_bytes: in the file, and in the device's memory.
        is_overridden: whether a pattern of `override_tensor` found it.
    """

    name: str
    layer: int | None
    device: str
    home: str
    size_bytes: int
    is_overridden: bool


@dataclass(frozen=True, repr=False)
class Placed:
    """Which device has which layers and tensors; `model.placed` gives one.

        print(model.placed)
        model.placed.layers["CPU"]
        model.placed.to_pandas()

    Attributes:
        layers: by device, the numbers of the layers that are computed there.
        output: the device that computes the logits.
        tensors: those of the file, in its order. Where the output's weights are those of the
            tokens, a device that has the output has a copy of them, which is not among these.

    Source: llama.cpp's log when it loaded the model.
    """

    layers: Mapping[str, tuple[int, ...]]
    output: str
    tensors: tuple[PlacedTensor, ...]

    @classmethod
    def of(cls, tensors: Iterable[TensorInfo], said: Iterable[str]) -> Placed:
        """Of the tensors of a file, and what llama.cpp's log said when it loaded it.

        Raises:
            ModelFileError: a tensor is of a type that is newer than the gguf library.
            ModelLoadError: the log was not heard.
        """
        said = list(said)
        devices = {int(m[1]): m[2] for m in map(_ASSIGNED.match, said) if m}
        if not devices:
            raise ModelLoadError(
                "which device has which layers is not available: llama.cpp's log did not say. "
                "Something else in this process may have called llama_log_set, or this version "
                "of llama.cpp words its log otherwise."
            )
        moved = {m[1]: Buffer("", m[2], 0).device for m in map(_OVERRIDDEN.match, said) if m}
        behind = max(devices)  # the number of the output, behind the last layer
        layers: dict[str, tuple[int, ...]] = {}
        for number, device in sorted(devices.items()):
            if number != behind:
                layers[device] = (*layers.get(device, ()), number)
        return cls(
            MappingProxyType(layers),
            devices[behind],
            tuple(_placed(tensor, devices, moved) for tensor in tensors),
        )

    @property
    def moved(self) -> Mapping[str, str]:
        """The device of each tensor that is not where its layer is."""
        return {each.name: each.device for each in self.tensors if each.device != each.home}

    def __str__(self) -> str:
        """A line for each device."""
        found = dict.fromkeys([*self.layers, self.output, *(t.device for t in self.tensors)])
        return "\n".join(f"{device}: {self._in_words(device)}" for device in found)

    def __repr__(self) -> str:
        return f"<Placed: {str(self).replace(chr(10), '; ')}>"

    def to_pandas(self) -> pandas.DataFrame:
        """One row a tensor: tensor, layer, device, bytes, and whether a pattern placed it."""
        import pandas as pd

        rows = [(t.name, t.layer, t.device, t.size_bytes, t.is_overridden) for t in self.tensors]
        names = pd.Index(["tensor", "layer", "device", "bytes", "overridden"])
        return pd.DataFrame(rows, columns=names).astype({"layer": "Int64"})

    def _in_words(self, device: str) -> str:
        theirs = [tensor for tensor in self.tensors if tensor.device == device]
        numbers = self.layers.get(device, ())
        parts = [f"layers {_ranges(numbers)}"] if numbers else []
        parts += ["output"] if device == self.output else []
        size = size_in_words(sum(tensor.size_bytes for tensor in theirs))
        parts.append(f"{counted(len(theirs), 'tensor')} of {size}")
        if n := sum(tensor.is_overridden for tensor in theirs):
            parts.append(f"{n} of them by override_tensor")
        return ", ".join(parts)


def size_bytes(tensor: TensorInfo) -> int:
    """The bytes of a tensor.

    Raises:
        ModelFileError: it is of a type that is newer than the gguf library.
    """
    found = GGML_QUANT_SIZES.get(tensor.kind)  # type: ignore[call-overload]
    if found is None:
        raise ModelFileError(
            f"{tensor.name} is stored as type {tensor.kind}, whose size is not known here. "
            "Update the package gguf."
        )
    block, block_bytes = found
    return prod(tensor.shape) // block * block_bytes


def _placed(
    tensor: TensorInfo, devices: Mapping[int, str], moved: Mapping[str, str]
) -> PlacedTensor:
    found = LAYER.match(tensor.name)
    layer = int(found[2]) if found else None
    if layer is not None:
        home = devices.get(layer, "CPU")
    else:
        home = devices[max(devices)] if tensor.name.startswith(_BEHIND) else "CPU"
    return PlacedTensor(
        tensor.name,
        layer,
        moved.get(tensor.name, home),
        home,
        size_bytes(tensor),
        tensor.name in moved,
    )


def _ranges(numbers: Iterable[int]) -> str:
    """Rising numbers in brief.

    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)

"""A model as its file describes it, without its weights.

llama.cpp reads the header and the vocabulary, and lays out the network with no memory behind it
(`no_alloc`): contexts can be laid out on that too, and their buffers' sizes are those of a real
one. What it does not say then is the size of the weights, which the file's header has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

from gguf import GGML_QUANT_SIZES

from mullama_lab import hub
from mullama_lab.engine.gguf.check import check, parts
from mullama_lab.engine.gguf.file import TensorInfo, read_header
from mullama_lab.engine.memory import Buffer
from mullama_lab.engine.model.model import Model
from mullama_lab.engine.native import model as native
from mullama_lab.engine.native.amx import extra_layouts_are_safe
from mullama_lab.engine.native.layouts import layout_of
from mullama_lab.engine.native.log import said_of_sizes
from mullama_lab.engine.options import flag, whole
from mullama_lab.engine.probe import must_survive
from mullama_lab.engine.weight_files import WeightFiles
from mullama_lab.errors import ModelFileError

_ASSIGNED = re.compile(r"load_tensors: layer +(\d+) assigned to device ([^,]+),")
_LAYER = re.compile(r"blk\.(\d+)\.")
_LOOKED_UP = ("token_embd.weight", "per_layer_token_embd.weight", "position_embd.weight")


@contextmanager
def outline(
    source: str | Path, *, n_gpu_layers: int = 0, mmap: bool = True
) -> Iterator[tuple[Model, tuple[Buffer, ...]]]:
    """(the model without its weights, the buffers that its weights would be in).

    Nothing can be computed with it, which would end the process: contexts are laid out on it
    (`lay_out`).

    Args:
        source, n_gpu_layers, mmap: as for `Model.load`.

    Raises:
        HubError, ModelFileError, ModelLoadError: as `Model.load`.
    """
    n_gpu_layers = whole("n_gpu_layers", n_gpu_layers, -1, 1 << 20, " -1 means all.")
    mmap = flag("mmap", mmap)
    path = hub.resolve(source)
    file = check(path)
    if source not in hub.catalogue():
        must_survive(file)
    weight_files = WeightFiles(parts(path), mapped=False)
    with said_of_sizes() as said:
        handle = native.load_outline(file.path, n_gpu_layers=n_gpu_layers)
    with Model(handle, file, weight_files, vocab_only=False, n_gpu_layers=n_gpu_layers) as model:
        tensors = [tensor for part in parts(path) for tensor in read_header(part).tensors]
        yield model, weights(tensors, said, mapped=mmap)


def weights(
    tensors: Iterable[TensorInfo], said: Iterable[str], *, mapped: bool
) -> tuple[Buffer, ...]:
    """The buffers that weights would be in.

    Where the CPU has another layout for some, they are copied into it: with `mapped` they take
    memory twice, as their place in the file lies among that of others.

    Args:
        said: llama.cpp's log, which has the device of each layer.
        mapped: whether they are used from the file.

    Raises:
        ModelFileError: one is of a type that is newer than the gguf library.
    """
    devices = {int(m[1]): m[2] for m in map(_ASSIGNED.match, said) if m}
    of_output = devices.get(max(devices, default=0), "CPU")
    tensors = list(tensors)
    is_tied = all(tensor.name != "output.weight" for tensor in tensors)
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        size, layer = _size_bytes(tensor), _LAYER.match(tensor.name)
        device = devices.get(int(layer[1]), "CPU") if layer else "CPU"
        if tensor.name.startswith("output"):
            device = of_output
        is_output_too = tensor.name == "token_embd.weight" and is_tied
        if is_output_too and of_output != "CPU":
            sizes[of_output] += size
        copied = "" if device != "CPU" else _layout(tensor, is_multiplied=is_output_too)
        if copied:
            sizes[copied] += size
        if not copied or mapped or is_output_too:
            sizes["CPU_Mapped" if mapped and device == "CPU" else device] += size
    return tuple(Buffer("weights", name, size) for name, size in sizes.items())


def _layout(tensor: TensorInfo, *, is_multiplied: bool) -> str:
    if not extra_layouts_are_safe() or (tensor.name in _LOOKED_UP and not is_multiplied):
        return ""
    return layout_of(tensor.kind, tensor.shape)


def _size_bytes(tensor: TensorInfo) -> int:
    found = GGML_QUANT_SIZES.get(tensor.kind)  # type: ignore[call-overload]
    if found is None:
        raise ModelFileError(
            f"{tensor.name} is stored as type {tensor.kind}, whose size is not known here. "
            "Update the package gguf."
        )
    block, block_bytes = found
    return prod(tensor.shape) // block * block_bytes

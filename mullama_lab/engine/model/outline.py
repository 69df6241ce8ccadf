"""A model as its file describes it, without its weights.

llama.cpp reads the header and the vocabulary, and lays out the network with no memory behind it
(`no_alloc`): contexts can be laid out on that too, and their buffers' sizes are those of a real
one. What it does not say then is the size of the weights, which the file's header has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mullama_lab import hub
from mullama_lab.engine.gguf.check import CheckedFile, check, parts
from mullama_lab.engine.gguf.file import TensorInfo
from mullama_lab.engine.memory import Buffer
from mullama_lab.engine.model.placed import Placed
from mullama_lab.engine.native import model as native
from mullama_lab.engine.native.amx import extra_layouts_are_safe
from mullama_lab.engine.native.layouts import layout_of
from mullama_lab.engine.native.log import said_of_sizes
from mullama_lab.engine.options import flag
from mullama_lab.engine.placement import ON_THE_CPU, Placement
from mullama_lab.engine.probe import must_survive
from mullama_lab.engine.weight_files import WeightFiles

if TYPE_CHECKING:
    from mullama_lab.engine.model.model import Model

_LOOKED_UP = ("token_embd.weight", "per_layer_token_embd.weight", "position_embd.weight")


@contextmanager
def outline(
    kind: type[Model],
    source: str | Path,
    placement: Placement = ON_THE_CPU,
    *,
    mmap: bool = True,
) -> Iterator[tuple[Model, tuple[Buffer, ...]]]:
    """(the model without its weights, the buffers that its weights would be in).

    Nothing can be computed with it, which would end the process: contexts are laid out on it
    (`lay_out`).

    Args:
        kind: Model, which itself has outlines made.
        source, mmap: as for `Model.load`.
        placement: where the weights would go.

    Raises:
        HubError, ModelFileError, ModelLoadError: as `Model.load`.
        ValueError: a pattern of the placement finds no tensor.
    """
    mmap = flag("mmap", mmap)
    file = check(hub.resolve(source))
    if source not in hub.catalogue():
        must_survive(file)
    with outline_of(kind, file, placement, mmap=mmap) as found:
        yield found


@contextmanager
def outline_of(
    kind: type[Model], file: CheckedFile, placement: Placement, *, mmap: bool
) -> Iterator[tuple[Model, tuple[Buffer, ...]]]:
    """As `outline`, of a file that llama.cpp may be given."""
    weight_files = WeightFiles(parts(file.path), mapped=False)
    overrides = placement.overrides(tensor.name for tensor in file.tensors)
    with said_of_sizes() as said:
        handle = native.load_outline(file.path, placement, overrides)
    with kind(handle, file, weight_files, vocab_only=False, placement=placement) as model:
        yield model, weights(file.tensors, said, mapped=mmap)


def weights(
    tensors: Iterable[TensorInfo], said: Iterable[str], *, mapped: bool
) -> tuple[Buffer, ...]:
    """The buffers that weights would be in.

    Where the CPU has another layout for some, they are copied into it: with `mapped` they take
    memory twice, as their place in the file lies among that of others.

    Args:
        said: llama.cpp's log, which has the device of each layer, and of what patterns moved.
        mapped: whether they are used from the file.

    Raises:
        ModelFileError: one is of a type that is newer than the gguf library.
    """
    tensors = list(tensors)
    placed = Placed.of(tensors, said)
    is_tied = all(tensor.name != "output.weight" for tensor in tensors)
    sizes: Counter[str] = Counter()
    for tensor, at in zip(tensors, placed.tensors, strict=True):
        size, device = at.size_bytes, at.device
        is_output_too = tensor.name == "token_embd.weight" and is_tied
        if is_output_too and placed.output != "CPU" and not at.is_overridden:
            sizes[placed.output] += size
            is_output_too = False  # it is multiplied there, and here looked up alone
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

"""The projection of a file: dense layers that make a token's vector of what a network gives.

llama.cpp computes them for every token where it is asked for vectors: LFM2's one layer and
Gemma's two (`llm_graph_context::build_dense_out`). It copies as many numbers a token as
`embedding_length_out` says (`embedding_length` where nothing says it), whatever the layers give:
fewer would shift every vector into the next, and more end the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from mullama_lab.engine.gguf.file import TensorInfo

Layers: TypeAlias = tuple[tuple[int, int], ...]  # (numbers in, numbers out) of each

_NAMES = ("dense_2", "dense_3")


def layers_of(tensors: Iterable[TensorInfo]) -> Layers:
    """The layers of the projection in a file, in their order; none for most files."""
    shapes = {tensor.name: tensor.shape for tensor in tensors if tensor.name.startswith(_NAMES)}
    found: list[tuple[int, int]] = []
    for name in _NAMES:
        shape, bias = shapes.get(f"{name}.weight", ()), shapes.get(f"{name}.bias", ())
        if len(shape) == 2:
            found.append((shape[0], shape[1]))
        elif bias:
            found.append((bias[0], bias[0]))  # added alone
    return tuple(found)


def problem(layers: Layers, n_embd: int, width: int) -> str:
    """Why vectors of `width` numbers cannot come out of a network of `n_embd`; "" if they can."""
    last, name = n_embd, "the network"
    for n_in, n_out in layers:
        if n_in != last:
            return f"a layer of its projection takes {n_in} numbers, and {name} gives {last}"
        last, name = n_out, "the layer before"
    if last != width:
        what = "its projection" if layers else "its network, which no projection follows,"
        return f"it says that a vector has {width} numbers, and {what} gives {last}"
    return ""


def in_words(layers: Layers) -> str:
    """What a card says of a projection."""
    if not layers:
        return "none in the file"
    sizes: Sequence[int] = [layers[0][0], *(n_out for _, n_out in layers)]
    return "yes, " + " to ".join(map(str, sizes)) + " numbers"

"""llama.cpp's parameters for where the weights of a model go."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.native.devices import buffer_type
from mullama_lab.engine.native.library import C

if TYPE_CHECKING:
    from mullama_lab.engine.placement import Placement

SPLIT_MODES = {
    "none": C.LLAMA_SPLIT_MODE_NONE,
    "layer": C.LLAMA_SPLIT_MODE_LAYER,
    "row": C.LLAMA_SPLIT_MODE_ROW,
}

LAYER = re.compile(r"((?:enc\.|dec\.)?blk)\.(\d+)\.")  # a tensor of a layer begins so
_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # of which all names are that llama.cpp asks for


class Override(ctypes.Structure):
    """`llama_model_tensor_buft_override`, which llama-cpp-python leaves out."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def place(params: Any, placement: Placement, overrides: Mapping[str, str]) -> tuple[Any, ...]:
    """Set the parameters of loading a model; what they point to, to be kept while it is there.

    Args:
        params: `llama_model_params`.
        placement: a checked one.
        overrides: the device of each tensor whose device is not that of its layer.
    """
    params.n_gpu_layers = placement.n_gpu_layers
    params.split_mode = SPLIT_MODES[placement.split_mode]
    params.main_gpu = placement.main_gpu
    kept: list[Any] = []
    if placement.tensor_split:
        total = sum(placement.tensor_split)
        room = (ctypes.c_float * C.llama_max_devices())()  # it reads as many as there are devices
        room[: len(placement.tensor_split)] = [part / total for part in placement.tensor_split]
        params.tensor_split = ctypes.cast(room, ctypes.POINTER(ctypes.c_float))
        kept.append(room)
    if overrides:
        lines = [(text.encode(), buffer_type(name)) for text, name in patterns(overrides)]
        given = (Override * (len(lines) + 1))(*lines)  # the last one, of no pattern, ends them
        params.tensor_buft_overrides = ctypes.cast(given, ctypes.c_void_p)
        kept += [given, lines]
    return tuple(kept)


def patterns(overrides: Mapping[str, str]) -> list[tuple[str, str]]:
    """(regular expression, device) that find just these tensors: few, for llama.cpp tries each.

    >>> patterns({"blk.0.up.weight": "CPU", "blk.1.up.weight": "CPU", "output.weight": "CPU"})
    [('^blk[.](0|1)[.](up[.]weight)$', 'CPU'), ('^(output[.]weight)$', 'CPU')]
    """
    layers: dict[tuple[str, str, str], list[str]] = {}  # where a device has a tensor of that name
    others: dict[str, list[str]] = {}
    for name, device in overrides.items():
        if not _NAME.fullmatch(name):
            continue
        if found := LAYER.match(name):
            layers.setdefault((device, found[1], name[found.end() :]), []).append(found[2])
        else:
            others.setdefault(device, []).append(name)
    alike: dict[tuple[str, str, str], list[str]] = {}  # names overridden in the same layers
    for (device, stack, name), numbers in layers.items():
        alike.setdefault((device, stack, _either(numbers)), []).append(name)
    found = [
        (f"^{stack.replace('.', '[.]')}[.]{numbers}[.]{_either(names)}$", device)
        for (device, stack, numbers), names in alike.items()
    ]
    return found + [(f"^{_either(names)}$", device) for device, names in others.items()]


def _either(names: Iterable[str]) -> str:
    return f"({'|'.join(name.replace('.', '[.]') for name in names)})"

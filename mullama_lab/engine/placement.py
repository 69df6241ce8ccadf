"""Where the weights of a model go: how many layers on which device, and which tensors elsewhere.

Everything is checked here, against the devices that are there: llama.cpp ignores a number of no
device and a split of NaN in silence. It was tried without a GPU only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import numpy as np

from mullama_lab.engine.native.devices import Device, devices, takes_layers
from mullama_lab.engine.native.placement import SPLIT_MODES
from mullama_lab.engine.options import listed, one_of, whole
from mullama_lab.glyphs import brief

MOST_PATTERNS = 1000
LONGEST_PATTERN = 1000  # characters
N_LIKE_IT = 4  # names that a message offers

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Placement:
    """Where weights go; the names are those of `Model.load`, and of llama.cpp.

    Attributes:
        n_gpu_layers: how many layers go to the devices; -1 is all.
        split_mode: how they are divided: "layer", "row" or "none".
        main_gpu: the number of the device that has all of them where they are not divided.
        tensor_split: the part of each device; () leaves that to llama.cpp.
        override_tensor: (pattern, device) of tensors that go elsewhere than their layer.
    """

    n_gpu_layers: int = 0
    split_mode: str = "layer"
    main_gpu: int = 0
    tensor_split: tuple[float, ...] = ()
    override_tensor: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        *,
        n_gpu_layers: Any = 0,
        split_mode: Any = "layer",
        main_gpu: Any = 0,
        tensor_split: Any = None,
        override_tensor: Any = None,
    ) -> Placement:
        """Checked against the devices that llama.cpp sees.

        Raises:
            ValueError, TypeError: a value is out of range, names a device that is not there, or
                would do nothing beside the others.
        """
        placement = cls(
            whole("n_gpu_layers", n_gpu_layers, -1, 1 << 20, " -1 means all."),
            one_of("split_mode", split_mode, SPLIT_MODES),
            whole("main_gpu", main_gpu, 0, (1 << 31) - 1),
            _parts(tensor_split),
            _patterns(override_tensor),
        )
        if placement != cls(placement.n_gpu_layers):
            placement._must_be_possible(devices())
        return placement

    @property
    def options(self) -> Mapping[str, Any]:
        """What `Model.load` is given for the same: all that is no default, by name."""
        changed = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        if "tensor_split" in changed:
            changed["tensor_split"] = list(self.tensor_split)
        if "override_tensor" in changed:
            changed["override_tensor"] = dict(self.override_tensor)
        return MappingProxyType(changed)

    def overrides(self, tensors: Iterable[str]) -> Mapping[str, str]:
        """The device of each tensor that a pattern finds; the first that does decides.

        Args:
            tensors: the names of all that the file has.

        Raises:
            ValueError: a pattern finds none.
        """
        names = list(tensors) if self.override_tensor else []
        found: dict[str, str] = {}
        for pattern, device in self.override_tensor:
            matches = list(filter(re.compile(pattern).search, names))
            if not matches:
                raise ValueError(_finds_none(pattern, names))
            for name in matches:
                found.setdefault(name, device)
        return MappingProxyType(found)

    def _must_be_possible(self, seen: Iterable[Device]) -> None:
        seen = list(seen)
        gpus = [device.name for device in takes_layers(seen)]
        self._must_have_devices(gpus)
        targets = {"CPU", *gpus} if self.split_mode != "none" else {"CPU", gpus[self.main_gpu]}
        for pattern, device in self.override_tensor:
            if device in targets:
                continue
            known = ", ".join(["CPU", *gpus])
            if device in gpus:
                why = f"with split_mode='none' the model uses {gpus[self.main_gpu]} alone"
            elif gpus:
                why = f"there is no such device. There are {known}"
            else:
                why = "there is no such device. llama.cpp sees no device but the CPU here"
            raise ValueError(
                f"override_tensor={{{brief(pattern)}: {brief(device)}}}: {why}. Name one of "
                f"{', '.join(name for name in ['CPU', *gpus] if name in targets)}."
            )

    def _must_have_devices(self, gpus: list[str]) -> None:
        asked = {name: value for name, value in self.options.items() if name in ABOUT_DEVICES}
        for name, value in asked.items():
            given = f"{name}={brief(value)}: {ABOUT_DEVICES[name]}"
            if not gpus:
                raise ValueError(
                    f"{given}. llama.cpp sees no device but the CPU here, so it would do nothing. "
                    f"Leave {name} out, or install a llama-cpp-python that is built for your GPU."
                )
            if self.n_gpu_layers == 0:
                raise ValueError(
                    f"{given}, and n_gpu_layers=0 keeps all of them on the CPU. "
                    "Give n_gpu_layers=-1 too, for all."
                )
        there = ", ".join(f"{number} ({name})" for number, name in enumerate(gpus))
        if "main_gpu" in asked and self.main_gpu >= len(gpus):
            raise ValueError(
                f"main_gpu={self.main_gpu}: there is no such device. There is {there}."
            )
        if "main_gpu" in asked and self.split_mode == "layer":
            raise ValueError(
                f"main_gpu={self.main_gpu}: with split_mode='layer' every device has layers of "
                "its own, and none is the main one. Give split_mode='none' to use one alone."
            )
        if "tensor_split" in asked and len(self.tensor_split) != len(gpus):
            raise ValueError(
                f"tensor_split={brief(asked['tensor_split'])}: it has {len(self.tensor_split)} "
                f"numbers, and needs one for each of {there}."
            )
        if "tensor_split" in asked and self.split_mode == "none":
            raise ValueError(
                f"tensor_split={brief(asked['tensor_split'])}: with split_mode='none' nothing is "
                "divided. Leave one of the two out."
            )


ON_THE_CPU = Placement()
ABOUT_DEVICES = {  # options that do nothing where all layers are on the CPU
    "split_mode": "it says how layers are divided over devices",
    "main_gpu": "it is the number of the device that has what is not divided over devices",
    "tensor_split": "it says what part of the layers each device has",
}


def _parts(tensor_split: Any) -> tuple[float, ...]:
    if tensor_split is None:
        return ()
    given = brief(tensor_split)
    parts = listed("tensor_split", tensor_split, "numbers")
    kinds = (int, float, np.integer, np.floating)
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, kinds):
            raise TypeError(f"tensor_split={given}: {brief(part)} is no number.")
        if not 0 <= part <= 1e9 or not math.isfinite(part):
            raise ValueError(
                f"tensor_split={given}: {brief(part)} is no part. Each is from 0 to 1e9, and the "
                "device's part of the layers is its part of their sum: [3, 1] is three quarters "
                "and one."
            )
    if not any(parts):
        raise ValueError(
            f"tensor_split={given}: no device would have a part. Give one that is above 0, or "
            "None, which divides by the memory that is free."
        )
    return tuple(map(float, parts))


def _patterns(override_tensor: Any) -> tuple[tuple[str, str], ...]:
    if override_tensor is None:
        return ()
    if not isinstance(override_tensor, Mapping):
        raise TypeError(
            f"override_tensor={brief(override_tensor)}: it must be a mapping of patterns to names "
            "of devices, such as {'exps': 'CPU'}."
        )
    if len(override_tensor) > MOST_PATTERNS:
        raise ValueError(
            f"override_tensor has {len(override_tensor)} patterns, and may have {MOST_PATTERNS}. "
            r"One finds tensors of many layers: r'blk\.(1|2|3)\.ffn_.*_exps'."
        )
    for pattern, device in override_tensor.items():
        given = f"override_tensor={{{brief(pattern)}: {brief(device)}}}"
        if not isinstance(pattern, str) or not isinstance(device, str):
            raise TypeError(f"{given}: a pattern and the name of a device are texts.")
        if len(pattern) > LONGEST_PATTERN:
            raise ValueError(
                f"{given}: the pattern has {len(pattern)} characters, and may have "
                f"{LONGEST_PATTERN}."
            )
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"{given}: the pattern is no regular expression: {error}. It is searched for in "
                "the names of tensors; 'exps' finds those of experts."
            ) from None
    return tuple((str(pattern), str(device)) for pattern, device in override_tensor.items())


def _finds_none(pattern: str, names: Iterable[str]) -> str:
    """Each kind of tensor is offered once, that of its first layer."""
    kinds: dict[str, str] = {}
    for name in names:
        kinds.setdefault(_NUMBER.sub("0", name), name)
    parts = {part: name for name in kinds.values() for part in (name, *name.split("."))}
    near = get_close_matches(pattern, parts, n=3 * N_LIKE_IT, cutoff=0.4)
    likest = dict.fromkeys([*(parts[part] for part in near), *kinds.values()])
    shown = ", ".join(brief(name) for name in list(likest)[:N_LIKE_IT])
    return (
        f"override_tensor: {brief(pattern)} finds none of the tensors in this file. The likest of "
        f"its {len(kinds)} kinds are {shown}; `model.placed.to_pandas()` of the model, loaded "
        "without it, has all of them."
    )

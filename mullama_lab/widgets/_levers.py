"""Adapters and control vectors as levers: each with its scale, and whether it acts.

No widget and no lock. What acts together is a `Steering`, as a session has it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mullama_lab.counted import counted, size_in_words
from mullama_lab.counted import in_words as count_in_words
from mullama_lab.engine.gguf.file import read_header
from mullama_lab.engine.native.placement import LAYER
from mullama_lab.engine.steering.control_vector import KIND, ControlVector
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import LARGEST, LoraOrVector, Steering, name_of
from mullama_lab.errors import ModelFileError
from mullama_lab.glyphs import brief, one_line, visible
from mullama_lab.widgets._layer_choice import LayerChoice, ends_of

MOST_LEVERS = 32
MOST_SUMS = 1024
MOST_FILES = 1000  # of a folder that are looked through
MOST_NAMED = 12  # names and files that an error repeats
SLIDER = (-2.0, 2.0)  # the number box takes more


@dataclass(frozen=True)
class Lever:
    """An adapter or a control vector at a scale; `key` names it for good.

    Attributes:
        choice: the layers that `what` was chosen from; None where it has all that are known.
    """

    key: str
    what: LoraOrVector
    scale: float = 1.0
    on: bool = True
    choice: LayerChoice | None = None

    @property
    def name(self) -> str:
        """What to call it in a line."""
        choice = self.choice
        if choice is not None and choice.training is None:  # it may be some of its layers
            return name_of(choice.vector)
        return name_of(self.what)

    @property
    def layers(self) -> tuple[int, int] | None:
        """The first and last layer of a vector; None for an adapter."""
        return ends_of(self.what) if isinstance(self.what, ControlVector) else None

    @property
    def layer_choice(self) -> LayerChoice:
        """The layers that there are to choose from.

        Raises:
            ValueError: it is an adapter, which acts in those that it was trained for.
        """
        if isinstance(self.what, LoraAdapter):
            raise ValueError(f"{self.name} is an adapter: only a vector has layers to choose.")
        return self.choice or LayerChoice(self.what)

    def with_layers(self, layers: object) -> Lever:
        """The same with other layers of its vector."""
        choice = self.layer_choice
        return replace(self, what=choice.pick(*choice.checked(layers)), choice=choice)

    @property
    def about(self) -> str:
        """What it is: its kind, layers and size."""
        what = self.what
        if isinstance(what, ControlVector):
            norms = what.norms
            lengths = f"length {_span([round(norm, 2) for norm in norms.values()])}"
            return f"control vector · {_layers(norms)} · {what.n_embd} numbers each · {lengths}"
        layers = {int(found[2]) for found in map(LAYER.match, what.targets) if found}
        parts = [
            f"LoRA, rank {what.rank}, alpha {what.alpha:g}",
            f"{counted(len(what.targets), 'weight')} of {_layers(layers)}",
            f"{count_in_words(what.n_params)} numbers",
            size_in_words(what.size_bytes),
            what.task_name and f"task {what.task_name}",
        ]
        return one_line(visible(" · ".join(filter(None, parts))))

    def kept_as(self, name: str, *, over: bool) -> Lever:
        """The same, kept in the library by a name, in the layers that it has.

        Args:
            over: whether it may take the place of one of that name.

        Raises:
            ValueError: it was not learnt here; and as `Training.keep`.
        """
        training = self.choice.training if self.choice else None
        if training is None or self.layers is None:
            raise ValueError(
                f"{self.name} was not learnt here, so nothing is known of how well it does. "
                "vector.save(path) writes it to a file."
            )
        return replace(self, what=training.keep(name, *self.layers, replace=over))


Levers: TypeAlias = tuple[Lever, ...]
Kind: TypeAlias = type[LoraAdapter] | type[ControlVector]


def read_file(path: str | Path) -> LoraOrVector:
    """The adapter or the control vector in a file, or the vector of a name in the library.

    A file comes first. Errors are those of their `load`; where a name is neither, it says which
    there are.
    """
    if not os.path.exists(path) and os.path.basename(path) == str(path):
        names = list(ControlVector.library())
        if str(path) in names:
            return ControlVector.named(str(path))
        raise ModelFileError(_no_such(str(path), names))
    kind = read_header(path).metadata.get("general.architecture")
    return ControlVector.load(path) if kind == KIND else LoraAdapter.load(path)


def file_in_words(path: str | Path) -> str:
    """What to call a file in a line, with its size; a name of the library as it is."""
    name = one_line(visible(Path(path).name))
    try:
        return f"{name}, {size_in_words(os.path.getsize(path))}"
    except (OSError, ValueError):
        return name


def _no_such(name: str, names: list[str]) -> str:
    """That a name is no file and no vector, and those that there are, a file of it first."""
    said = f"{brief(name)} does not exist, as a file or as a name."
    here = sorted(islice(chain(Path().glob("*.gguf"), Path().glob("*/*.gguf")), MOST_FILES))
    files = [str(one) for one in here if name in (one.name, one.stem)]
    if files:
        return f"{said} Did you mean {files[0]}?"
    known = [", ".join(map(str, some[:MOST_NAMED])) for some in (names, here)]
    return " ".join([said, *(f"{a}: {b}." for a, b in zip(("Names", "Files here"), known) if b)])


def checked_scale(value: object) -> float:
    """A scale that float32 can hold, or a ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"scale is {brief(value)}; it must be a number.")
    if not abs(value) <= LARGEST:
        raise ValueError(f"scale is {brief(value)}; it must be a finite number.")
    return float(value)


def with_on(
    levers: Levers, kind: Kind, wanted: Mapping[Any, float], new_key: Callable[[], str]
) -> Levers:
    """Have just these of a kind on, at their scales.

    Each that is new has a lever, and the oldest that are off go where there would be too many.
    """
    kept = [
        replace(one, on=one.what in wanted, scale=wanted.get(one.what, one.scale))
        if isinstance(one.what, kind)
        else one
        for one in levers
    ]
    known = [one.what for one in kept]
    new = [(what, scale) for what, scale in wanted.items() if what not in known]
    off = [one.key for one in kept if not one.on]
    gone = off[: max(0, len(kept) + len(new) - MOST_LEVERS)]
    kept = [one for one in kept if one.key not in gone]
    return (*kept, *(Lever(new_key(), what, scale) for what, scale in new))


def steering_of(levers: Iterable[Lever]) -> Steering:
    """What those that are on make together; ValueError for vectors of different models."""
    made = Steering()
    for one in levers:
        made = made.plus(one.what, one.scale) if one.on else made
    return made


class Sums:
    """Which vectors, at which scales, made the vectors that levers made last."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[ControlVector, float]] = {}  # by fingerprint

    def note(self, made: ControlVector | None, levers: Iterable[Lever]) -> None:
        """Note what made a vector, if there is one."""
        if made is None:
            return
        on = [lever for lever in levers if lever.on]
        self._parts.pop(made.fingerprint, None)
        self._parts[made.fingerprint] = {
            one.what: one.scale for one in on if isinstance(one.what, ControlVector)
        }
        if len(self._parts) > MOST_SUMS:
            del self._parts[next(iter(self._parts))]

    def parts_of(
        self, vector: ControlVector | None, levers: Levers
    ) -> Mapping[ControlVector, float]:
        """What made a vector, with the scales; one that nothing made is of `at_a_scale`."""
        if vector is None:
            return {}
        return self._parts.get(vector.fingerprint) or at_a_scale(vector, levers)


def at_a_scale(vector: ControlVector, levers: Levers) -> Mapping[ControlVector, float]:
    """A vector as one of levers at a scale; by itself at 1 where it is none, or has a lever."""
    known = [one.what for one in levers if isinstance(one.what, ControlVector)]
    for base in [] if vector in known else known:
        if scale := _multiple(vector, base):
            return {base: scale}
    return {vector: 1.0}


def _multiple(vector: ControlVector, base: ControlVector) -> float | None:
    """The scale at which a vector is another one, bit for bit; None where there is none."""
    rows, ours, norms = vector.directions, base.directions, base.norms
    layer = max(norms, key=lambda one: norms[one])
    place = int(np.abs(ours[layer]).argmax())
    if rows.keys() != ours.keys() or vector.n_embd != base.n_embd or not ours[layer][place]:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.float32(float(rows[layer][place]) / float(ours[layer][place]))
        # What was rounded in float32 leaves the scale within one place of what it seems to be.
        scales = [
            np.nextafter(near, end) for end in (-np.float32(np.inf), near, np.float32(np.inf))
        ]
        same = [
            scale
            for scale in scales
            if all(np.array_equal(rows[one], row * scale) for one, row in ours.items())
        ]
    written = [str(scale) for scale in same if abs(scale) <= LARGEST]
    return float(min(written, key=len)) if written else None


def in_words(levers: Iterable[Lever]) -> str:
    """What acts, in a few words; "" where nothing does."""
    acting = (one for one in levers if steering_of([one]).epoch)
    return ", ".join(f"{one.name} × {one.scale:g}".replace("× -", "× −") for one in acting)


def place_of(which: str | int, levers: Levers) -> int:
    """The place of a lever, by its key, its name or its place; ValueError where it is none."""
    if isinstance(which, int) and not isinstance(which, bool):
        if -len(levers) <= which < len(levers):
            return which % len(levers)
        raise ValueError(f"there is no card {brief(which)}; there are {len(levers)}, from 0")
    found = [i for i, one in enumerate(levers) if which in (one.key, one.name)]
    if not found:
        names = ", ".join(one.name for one in levers) or "none"
        raise ValueError(f"no card is {brief(which)}; there are {names}")
    if len(found) > 1:
        raise ValueError(f"{len(found)} cards are {brief(which)}; say which by its place: {found}")
    return found[0]


def changed(levers: Levers, place: int, **changes: object) -> Levers:
    """One lever with another scale, or switched on or off."""
    return (*levers[:place], replace(levers[place], **changes), *levers[place + 1 :])


def _layers(layers: Iterable[int]) -> str:
    found = sorted(layers)
    return f"{counted(len(found), 'layer')} ({_span(found)})" if found else "no layer"


def _span(values: Iterable[float]) -> str:
    low, high = min(values := list(values)), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"

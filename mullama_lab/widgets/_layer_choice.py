"""A control vector of which some layers are chosen, and what is known of each of them.

Values only; no widget. It takes a `Training` as it comes and knows nothing of how one is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from mullama_lab.counted import counted
from mullama_lab.engine.options import whole
from mullama_lab.engine.steering.control_vector import LAYER_MOST, ControlVector
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.studies.control_vectors import Training

    Layered: TypeAlias = ControlVector | Training


@dataclass(frozen=True)
class LayerChoice:
    """All the layers that there are to choose from.

    Attributes:
        vector: of all layers.
        training: that it comes from, which knows how well each layer does; None if nobody knows.
    """

    vector: ControlVector
    training: Training | None = None

    @classmethod
    def of(cls, what: Layered) -> LayerChoice:
        """The choice that a vector or a training gives; TypeError for what is neither."""
        if isinstance(what, ControlVector):
            return cls(what)
        if is_training(what):
            return cls(what.vector, what)
        raise TypeError(f"{brief(what)} is neither a ControlVector nor a Training.")

    @property
    def first_choice(self) -> tuple[int, int]:
        """What is chosen before anybody does: all layers, or those that do well."""
        return ends_of(self.vector) if self.training is None else self.training.band

    def pick(self, first: int, last: int) -> ControlVector:
        """The vector of some of the layers; a training spreads its strength over them.

        Raises:
            ValueError: there is no layer there.
        """
        if self.training is not None:
            return self.training.pick(first, last)
        return (
            self.vector
            if (first, last) == ends_of(self.vector)
            else self.vector.layers(first, last)
        )

    def checked(self, layers: object) -> tuple[int, int]:
        """The first and last layer there are between two that were named.

        Raises:
            ValueError: they are not two whole numbers from low to high, or there is no layer there.
            TypeError: they are no numbers.
        """
        if not isinstance(layers, (tuple, list)) or len(layers) != 2:
            raise ValueError(f"layers={brief(layers)}: name the first and the last, as (10, 20).")
        first, last = (whole("a layer", layer, 1, LAYER_MOST) for layer in layers)
        if first > last:
            raise ValueError(f"layers={brief(layers)}: the first comes before the last.")
        there = [layer for layer in self.vector.directions if first <= layer <= last]
        if not there:
            low, high = ends_of(self.vector)
            raise ValueError(
                f"there is no layer from {first} to {last}; there are {low} to {high}."
            )
        return there[0], there[-1]

    def rows(self) -> dict[str, Any]:
        """What a page draws: `layers` and `norms`, and of a training `separation`, `accuracy`."""
        norms, training = self.vector.norms, self.training
        rows: dict[str, Any] = {
            "layers": list(norms),
            "norms": list(norms.values()),
            "n_held_out": 0,
        }
        if training is not None:
            apart = training.separation.tolist()
            rows["separation"] = [one if math.isfinite(one) else None for one in apart]
            rows["accuracy"] = training.accuracy.tolist()
            rows["n_held_out"] = training.n_held_out
        return rows


def is_training(what: object) -> TypeGuard[Training]:
    """Whether it is what `studies.control_vectors.train` gives."""
    return isinstance(getattr(what, "vector", None), ControlVector) and hasattr(what, "separation")


def ends_of(vector: ControlVector) -> tuple[int, int]:
    """The first and the last layer of a vector."""
    layers = list(vector.directions)
    return layers[0], layers[-1]


def in_words(layers: Sequence[int], rows: dict[str, Any]) -> str:
    """Which layers are chosen, and how well they do together on average.

    >>> in_words((1, 2), {"layers": [1, 2, 5], "norms": [1.0, 2.0, 3.0], "n_held_out": 0})
    'layers 1 to 2 of 1 to 5'
    """
    first, last = layers
    there = rows["layers"]
    chosen = f"layer {first}" if first == last else f"layers {first} to {last}"
    said = f"{chosen} of {there[0]} to {there[-1]}"
    if not rows["n_held_out"]:
        return said
    own = [i for i, layer in enumerate(there) if first <= layer <= last]
    accuracy = sum(rows["accuracy"][i] for i in own) / len(own)
    said += f": {accuracy:.0%} of {counted(rows['n_held_out'], 'held-out pair')} in order"
    apart = [rows["separation"][i] for i in own]
    if None in apart:
        return said
    return f"{said}, {sum(apart) / len(apart):.1f} standard deviations apart"

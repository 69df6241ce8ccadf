"""How many layers of a model fit on the devices that are there, in what memory is free now."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from mullama_lab.counted import size_in_words
from mullama_lab.engine.gguf.check import CheckedFile
from mullama_lab.engine.memory import Buffers
from mullama_lab.engine.model.outline import outline_of
from mullama_lab.engine.native.devices import devices, takes_layers
from mullama_lab.engine.placement import Placement
from mullama_lab.engine.session.fit import LEFT_FREE, largest_that
from mullama_lab.engine.session.opening import lay_out
from mullama_lab.engine.session.settings import Settings
from mullama_lab.errors import ModelLoadError
from mullama_lab.warned import warn

if TYPE_CHECKING:
    from mullama_lab.engine.model.model import Model

log = logging.getLogger(__name__)


def fitted(kind: type[Model], file: CheckedFile, placement: Placement, *, mmap: bool) -> Placement:
    """A placement with the most n_gpu_layers with which a model and a session of it fit; logged.

    Where there is no device to put a layer on these are 0, and a warning says so.

    Args:
        kind: Model, which itself asks.

    Raises:
        ValueError: it does not fit, however its layers are placed.
    """
    found = devices()
    free = {device.name: device.free_bytes for device in found}
    room = {name: int((1 - LEFT_FREE) * size) for name, size in free.items()}
    owners = [device.name for device in takes_layers(found)]

    def with_layers(n: int) -> Placement:
        """Without any there is nothing to divide, and no word of how may be left."""
        if n == 0:
            return Placement(override_tensor=placement.override_tensor)
        return replace(placement, n_gpu_layers=n)

    @cache
    def placed(n: int) -> tuple[int, Mapping[str, int]]:
        return by_device(kind, file, with_layers(n), mmap=mmap)

    def fits(n: int) -> bool:
        """Whether it does on the devices, of whose memory more layers take more."""
        return all(placed(n)[1].get(name, 0) <= room[name] for name in owners)

    n_layers = placed(0)[0] + 1 if owners else 0  # the output is one more
    chosen = largest_that(fits, n_layers)
    taken = placed(chosen)[1]
    said = ", ".join(
        f"{size_in_words(size)} of the {size_in_words(free.get(name, 0))} that are free on {name}"
        for name, size in taken.items()
    )
    if any(size > room.get(name, 0) for name, size in taken.items()):
        raise ValueError(
            f"fit=True: {file.path.name} does not fit. With n_gpu_layers={chosen} its weights and "
            f"a session of the usual settings take {said}, of which a tenth is left to others. "
            "Close other models, or use a file of fewer bits a weight."
        )
    log.info("fit=True: n_gpu_layers=%s of %s: %s", chosen, n_layers, said)
    if not owners:
        warn(
            f"fit=True had nothing to choose for {file.path.name}: llama.cpp sees no device but "
            f"the CPU, where all of its layers are. It fits: {said}."
        )
    return with_layers(chosen)


def by_device(
    kind: type[Model], file: CheckedFile, placement: Placement, *, mmap: bool
) -> tuple[int, Mapping[str, int]]:
    """(layers there are, bytes by device of the weights and a session of the usual settings)."""
    with outline_of(kind, file, placement, mmap=mmap) as (model, weights):
        try:
            settled = Settings().settled(model)
        except ModelLoadError:  # it makes vectors of texts
            return model.n_layer, Buffers(weights).by_device
        return model.n_layer, Buffers(weights + lay_out(model._handle, settled)).by_device

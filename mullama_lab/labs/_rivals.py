"""The same documents in other indexes, to see which ranks change: other storage, other encoders.

One rival is chosen at a time, or none. It knows no view and no thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.index.index import Storage
from mullama_lab.engine.multivector.ragged import STORAGES
from mullama_lab.glyphs import brief
from mullama_lab.labs._reading import Reading


class Rivals:
    """What an index can be compared with.

    Args:
        own: the index that is compared.
        encoders: other encoders, by name.

    Attributes:
        encoders: other encoders, by name.
        names: what can be chosen: other storage types, then the encoders.
        chosen: one of them, or "".
    """

    def __init__(self, own: Reading, encoders: Mapping[str, MultiVectorEncoder]) -> None:
        self._own = own
        if not isinstance(encoders, Mapping):
            raise TypeError(f"rivals={brief(encoders)}: it must be a dict of encoders by name.")
        self.encoders = dict(encoders)
        self.names = [*(s for s in STORAGES if s != own.index.storage), *self.encoders]
        self.chosen = ""
        self._readings: dict[str, Reading] = {}

    @property
    def reading(self) -> Reading | None:
        """The chosen rival's index and what it has still to read; None while none is chosen."""
        return self._readings.get(self.chosen)

    def choose(self, name: str) -> None:
        """Choose one, or none (empty).

        Raises:
            ValueError: there is no such rival.
        """
        if not isinstance(name, str) or name not in ("", *self.names):
            raise ValueError(f"{brief(name)} is none of {', '.join(self.names)}.")
        if name and name not in self._readings:
            encoder = self.encoders.get(name, self._own.encoder)
            index = MultiVectorIndex(encoder, storage=_storage(name))
            self._readings[name] = Reading(encoder, index)
        self.chosen = name

    def catch_up(self) -> None:
        """Give the chosen rival the documents of the lab's own index, and take out others."""
        reading, index = self.reading, self._own.index
        if reading is None or reading.n_total == len(index):
            return
        ids = index.ids
        reading.keep_only(ids)
        # Vectors that were rounded for storage are not exact: encode the text again then.
        exact = reading.encoder is self._own.encoder and index.storage == "float32"
        missing = {name: index.get(name) for name in ids if name not in reading.index}
        reading.add({name: kept if exact else kept.text for name, kept in missing.items()})


def _storage(name: str) -> Storage:
    """The storage that a rival's name says; that of another encoder is exact."""
    return cast(Storage, name) if name in STORAGES else "float32"

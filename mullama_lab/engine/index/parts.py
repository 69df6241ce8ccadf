"""The documents of an index, in parts: where each of them is, and which a search goes through.

What is in a part never changes. A new part is joined with those before it while they are of like
size. Whoever changes something here does it alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.index.part import Name, Part, Run, is_name, joined, runs_of
from mullama_lab.engine.multivector.ragged import Chosen
from mullama_lab.errors import UnknownDocument
from mullama_lab.glyphs import brief

MOST_JOINED = 1 << 20  # tokens of a part that grows by joining
SEARCHED = 1 << 14  # documents whose contributions are held at a time


class Parts:
    """The parts of an index.

    Attributes:
        where: the part and the place in it of each document, in the order in which they came.
        all: the parts; they may still hold documents that were removed.
    """

    def __init__(self) -> None:
        self.where: dict[Name, tuple[Part, int]] = {}
        self.all: list[Part] = []
        self._chosen: list[tuple[Chosen, NDArray[np.int64]]] | None = None

    @property
    def n_tokens(self) -> int:
        """The tokens of all documents."""
        return sum(int(part.vectors.lengths[place]) for part, place in self.where.values())

    def __contains__(self, name: object) -> bool:
        return is_name(name) and name in self.where

    def place(self, name: Name) -> tuple[Part, int]:
        """The part of a document, and its place there; `UnknownDocument` if there is none."""
        found = self.where.get(name) if is_name(name) else None
        if found is None:
            raise UnknownDocument(
                f"there is no document {brief(name)} in the index; it was never added, or was "
                "removed. index.ids has those that are there."
            )
        return found

    def runs(self) -> list[Run]:
        """All documents, as runs."""
        return runs_of(self.where.values())

    def must_be_whole(self) -> None:
        """Refuse to read on when a file was altered that a part is in: `IndexFileError`."""
        for part in tuple(self.all):  # another thread may add one
            if part.file is not None:
                part.file.must_be_whole()

    def take(self, part: Part) -> None:
        """Add a part as it is."""
        self.all.append(part)
        for place, name in enumerate(part.names):
            self.where[name] = part, place
        self.changed()

    def add(self, part: Part) -> None:
        """Add a part, and join those of like size: so there are few, each copied few times."""
        self.take(part)
        while len(self.all) > 1:
            older, newer = self.all[-2:]
            both = older.n_tokens + newer.n_tokens
            if older.file or older.n_tokens > 2 * newer.n_tokens or both > MOST_JOINED:
                break
            del self.all[-2:]
            if runs := [*self._live(older), *self._live(newer)]:
                self.take(joined(runs))
        self.changed()

    def remove(self, names: Iterable[Name]) -> None:
        """Take documents out; the parts stay as they are."""
        for name in names:
            self.where.pop(name, None)
        self.changed()

    def _live(self, part: Part) -> list[Run]:
        """The documents of a part that are still in the index, as runs."""
        places = [
            place
            for place, name in enumerate(part.names)
            if self.where.get(name, (None, -1)) == (part, place)
        ]
        return runs_of((part, place) for place in places)

    def changed(self) -> None:
        """Choose anew when next asked."""
        self._chosen = None

    def chosen(self) -> list[tuple[Chosen, NDArray[np.int64]]]:
        """The documents that are there, part by part, each with its place in `where`."""
        if self._chosen is None:
            found: dict[int, list[tuple[int, int]]] = {}
            for order, (part, place) in enumerate(self.where.values()):
                found.setdefault(id(part), []).append((place, order))
            chosen = []
            for part in self.all:
                pairs = np.array(sorted(found.get(id(part), [])), np.int64).reshape(-1, 2)
                for start in range(0, len(pairs), SEARCHED):
                    places, orders = pairs[start : start + SEARCHED].T
                    chosen.append((Chosen(part.vectors, places), orders))
            self._chosen = chosen
        return self._chosen

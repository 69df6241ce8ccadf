"""A part of an index: some documents in arrays, which never change.

Vectors are kept as float32, float16 or int8. An int8 vector has a scale: its largest number by
127. What storing costs is measured on each vector as it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.index.file import MappedFile
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.engine.multivector.ragged import Ragged
from mullama_lab.errors import IndexFileError
from mullama_lab.glyphs import brief

Name: TypeAlias = "str | int"
Run: TypeAlias = "tuple[Part, int, int]"  # a part, and from which document to which

LARGEST_HALF = 65504.0
BLOCK = 1 << 13  # rows measured together


@dataclass(frozen=True)
class StorageLoss:
    """How far stored vectors are from those that were added.

    Attributes:
        n_tokens: how many were measured.
        worst_cosine, mean_cosine: between a vector and what is read back; 1 is no loss.
        largest_error: of any one number.
    """

    n_tokens: int = 0
    worst_cosine: float = 1.0
    mean_cosine: float = 1.0
    largest_error: float = 0.0

    def __add__(self, other: StorageLoss) -> StorageLoss:
        n = self.n_tokens + other.n_tokens
        both = self.mean_cosine * self.n_tokens + other.mean_cosine * other.n_tokens
        return StorageLoss(
            n,
            min(self.worst_cosine, other.worst_cosine),
            both / n if n else 1.0,
            max(self.largest_error, other.largest_error),
        )


class Pieces:
    """The bytes of tokens, each different one once."""

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self.all = list(pieces)
        self._places = {piece: place for place, piece in enumerate(self.all)}

    def at(self, place: int) -> bytes:
        """The bytes at a place; IndexError where there are none."""
        if place < 0:
            raise IndexError(f"a token has the piece {place}")
        return self.all[place]

    def places(self, pieces: Iterable[bytes]) -> list[int]:
        """Where they are; those that are new are added."""
        found = []
        for piece in pieces:
            place = self._places.get(piece)
            if place is None:
                place = self._places[piece] = len(self.all)
                self.all.append(piece)
            found.append(place)
        return found


@dataclass(frozen=True, eq=False)
class Part:
    """Some documents: their vectors, and what else a MultiVector has.

    Attributes:
        names: the id of each document.
        vectors: of all of them.
        ids, pieces, spans: of each token; pieces are places in the index's `Pieces`.
        texts: the UTF-8 of all texts; document i is text_offsets[i] to text_offsets[i + 1].
        file: where the arrays are, if they are in a file; it is asked about before a read.
    """

    names: Sequence[Name]
    vectors: Ragged
    ids: NDArray[np.int32]
    pieces: NDArray[np.int32]
    spans: NDArray[np.int32]
    texts: NDArray[np.uint8]
    text_offsets: NDArray[np.int64]
    file: MappedFile | None = None

    @property
    def n_tokens(self) -> int:
        return self.vectors.n_tokens

    def rows(self, start: int, end: int) -> slice:
        """The tokens of documents `start` to `end`."""
        offsets = self.vectors.offsets
        return slice(int(offsets[start]), int(offsets[end]))

    def text_bytes(self, start: int, end: int) -> NDArray[np.uint8]:
        """The texts of documents `start` to `end`."""
        return self.texts[int(self.text_offsets[start]) : int(self.text_offsets[end])]

    def document(self, place: int, pieces: Pieces) -> MultiVector:
        """One document, its vectors as read back; a copy, which lives on when its file does not.

        Raises:
            IndexFileError: a file has something there that no index saves.
        """
        try:
            return self._document(place, pieces)
        except (IndexError, ValueError, OverflowError) as error:
            if self.file is None:
                raise
            raise IndexFileError(
                f"document {brief(self.names[place])} of {self.file.path} is not what an index "
                f"saves: {error}. The file was made by another program; make the index again."
            ) from error

    def _document(self, place: int, pieces: Pieces) -> MultiVector:
        rows = self.rows(place, place + 1)
        text = self.text_bytes(place, place + 1).tobytes()
        return MultiVector(
            vectors=self.vectors.document(place).copy(),
            ids=self.ids[rows].copy(),
            pieces=tuple(pieces.at(i) for i in self.pieces[rows].tolist()),
            spans=self.spans[rows].copy(),
            text=text.decode("utf-8", "surrogatepass"),
            kind="document",
        )


def stored(
    documents: Sequence[MultiVector], names: Sequence[Name], storage: str, pieces: Pieces
) -> tuple[Part, StorageLoss]:
    """Documents as a part, and what was lost.

    Raises:
        ValueError: a number is too large for float16.
    """
    ragged = Ragged.of(documents)
    vectors, scales, loss = _coded(ragged.vectors, storage)
    texts = [document.text.encode("utf-8", "surrogatepass") for document in documents]
    part = Part(
        names=list(names),
        vectors=Ragged.unchecked(vectors, ragged.offsets, scales),
        ids=np.concatenate([document.ids for document in documents]),
        pieces=np.array(
            [place for document in documents for place in pieces.places(document.pieces)], np.int32
        ),
        spans=np.concatenate([document.spans for document in documents]),
        texts=np.frombuffer(b"".join(texts), np.uint8),
        text_offsets=offsets_of([len(text) for text in texts]),
    )
    return part, loss


def joined(runs: Sequence[Run]) -> Part:
    """Runs of documents, each from one part, copied into one part."""
    rows = [part.rows(start, end) for part, start, end in runs]

    def column(name: str) -> NDArray[Any]:
        return np.concatenate(
            [getattr(run[0], name)[some] for run, some in zip(runs, rows, strict=True)]
        )

    lengths = [part.vectors.lengths[start:end] for part, start, end in runs]
    text_lengths = [np.diff(part.text_offsets[start : end + 1]) for part, start, end in runs]
    parts = [part.vectors for part, _, _ in runs]
    scales = [part.scales[some] for part, some in zip(parts, rows) if part.scales is not None]
    return Part(
        names=[name for part, start, end in runs for name in part.names[start:end]],
        vectors=Ragged.unchecked(
            np.concatenate([part.vectors[some] for part, some in zip(parts, rows)]),
            offsets_of(np.concatenate(lengths)),
            np.concatenate(scales) if scales else None,
        ),
        ids=column("ids"),
        pieces=column("pieces"),
        spans=column("spans"),
        texts=np.concatenate([part.text_bytes(start, end) for part, start, end in runs]),
        text_offsets=offsets_of(np.concatenate(text_lengths)),
    )


def runs_of(places: Iterable[tuple[Part, int]]) -> list[Run]:
    """Documents as runs of neighbours."""
    runs: list[Run] = []
    for part, place in places:
        if runs and runs[-1][0] is part and runs[-1][2] == place:
            runs[-1] = part, runs[-1][1], place + 1
        else:
            runs.append((part, place, place + 1))
    return runs


def is_name(name: object) -> bool:
    """Whether something may be the id of a document."""
    return isinstance(name, (str, int, np.integer)) and not isinstance(name, bool)


def checked_name(name: Any) -> Name:
    """An id as it is kept; TypeError if it is none."""
    if not is_name(name):
        kind = type(name).__name__
        raise TypeError(f"the id {brief(name)} is {kind}: give a string or a number.")
    return name if isinstance(name, str) else int(name)


def offsets_of(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of some lengths begins, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _coded(
    vectors: NDArray[Any], storage: str
) -> tuple[NDArray[Any], NDArray[np.float32] | None, StorageLoss]:
    codes = np.empty(vectors.shape, storage)
    scales = np.empty(len(vectors), np.float32) if storage == "int8" else None
    loss = StorageLoss()
    for start in range(0, len(vectors), BLOCK):
        rows = slice(start, start + BLOCK)
        exact = vectors[rows].astype(np.float32, copy=False)
        if scales is None:
            if storage == "float16":
                _must_fit(exact)
            codes[rows] = exact
            read = codes[rows].astype(np.float32, copy=False)
        else:
            scales[rows] = np.abs(exact).max(axis=1) / np.float32(127)
            safe = np.where(scales[rows] > 0, scales[rows], 1)[:, None]
            codes[rows] = np.clip(np.rint(exact / safe), -127, 127)
            read = codes[rows] * scales[rows, None]
        loss += _loss(exact, read)
    return codes, scales, loss


def _must_fit(vectors: NDArray[np.float32]) -> None:
    largest = float(np.abs(vectors).max(initial=0.0))
    if largest > LARGEST_HALF:
        raise ValueError(
            f"a vector has the number {largest:g}; float16 holds at most {LARGEST_HALF:g}. "
            'Normalise the vectors, or use storage="float32" or "int8".'
        )


def _loss(exact: NDArray[np.float32], read: NDArray[np.float32]) -> StorageLoss:
    if (exact == read).all():
        return StorageLoss(len(exact))
    # By the difference, which float32 holds well; a cosine near 1 it does not.
    difference = exact - read
    a, b, d = (
        np.einsum("ij,ij->i", part, part).astype(np.float64) for part in (exact, read, difference)
    )
    lengths = np.sqrt(a * b)
    across = np.maximum(d - (np.sqrt(a) - np.sqrt(b)) ** 2, 0.0)
    cosines = np.where(lengths > 0, 1 - across / np.where(lengths > 0, 2 * lengths, 1), d == 0)
    return StorageLoss(
        len(exact), float(cosines.min()), float(cosines.mean()), float(np.abs(difference).max())
    )

"""Ragged: the token vectors of many documents in one array, without padding.

A document is a run of rows. Stored as int8, each row has a scale; its vector is scale times the
numbers. Reading gives float32 whatever is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.multivector.multivector import MultiVector
from mullama_lab.engine.options import must_not_be_endless

Rows: TypeAlias = NDArray[np.float32]  # (n_tokens, dim)

STORAGES = ("float32", "float16", "int8")
BLOCK = 1 << 16  # rows looked at together


@dataclass(frozen=True, eq=False)
class Ragged:
    """Documents of different lengths, one after the other.

    Args:
        vectors: (n_tokens, dim) of float32, float16 or int8.
        offsets: int64 of shape (n_documents + 1,); document i is rows offsets[i] to offsets[i+1].
            They are copied, so that nothing altered later leads a search astray.
        scales: float32 of shape (n_tokens,) where vectors are int8, else None.

    Raises:
        ValueError: shapes or types do not fit, or a number is NaN or infinite.

    >>> documents = Ragged.of([np.eye(2), np.ones((3, 2))])
    >>> len(documents), documents.n_tokens, documents.dim
    (2, 5, 2)
    """

    vectors: NDArray[Any]
    offsets: NDArray[np.int64]
    scales: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        self._set()
        check_finite(self.vectors, "the documents' vectors")
        if self.scales is not None:
            check_finite(self.scales, "the documents' scales")

    @classmethod
    def unchecked(
        cls,
        vectors: NDArray[Any],
        offsets: NDArray[np.int64],
        scales: NDArray[np.float32] | None = None,
    ) -> Ragged:
        """The same without reading the vectors to look for NaN: they were checked before."""
        ragged = cls.__new__(cls)
        for name, value in (("vectors", vectors), ("offsets", offsets), ("scales", scales)):
            object.__setattr__(ragged, name, value)
        ragged._set()
        return ragged

    @classmethod
    def of(cls, documents: Sequence[MultiVector | NDArray[Any]]) -> Ragged:
        """Copy MultiVectors or arrays into one array; float16 only if all of them are."""
        parts = [vectors_of(document, f"document {i}") for i, document in enumerate(documents)]
        if not parts:
            raise ValueError("there are no documents; give at least one.")
        check_dims(parts, parts[0].shape[1], "document 0")
        lengths = [len(part) for part in parts]
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return cls.unchecked(np.concatenate(parts), offsets)

    def _set(self) -> None:
        vectors = _in_memory(np.asarray(self.vectors))
        if vectors.ndim != 2 or vectors.shape[1] == 0 or vectors.dtype.name not in STORAGES:
            raise ValueError(
                f"vectors of {vectors.dtype} and shape {vectors.shape}: they must be (n_tokens, "
                f"dim) of {', '.join(STORAGES)}."
            )
        offsets = rising(self.offsets, len(vectors), "rows of the vectors")
        scales = self.scales
        if (vectors.dtype == np.int8) != (scales is not None):
            raise ValueError("int8 vectors need a scale a row, others have none.")
        if scales is not None:
            scales = _in_memory(np.asarray(scales, np.float32))
            if scales.shape != (len(vectors),):
                raise ValueError(f"scales of shape {scales.shape} for {len(vectors)} rows.")
        for name, value in (("vectors", vectors), ("offsets", offsets), ("scales", scales)):
            object.__setattr__(self, name, value)

    @property
    def n_tokens(self) -> int:
        return self.vectors.shape[0]

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many tokens each document has."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        return (
            f"<Ragged {counted(len(self), 'document')}, "
            f"{counted(self.n_tokens, 'token')} of {self.dim}, {self.vectors.dtype}>"
        )

    def rows(self, start: int, end: int) -> Rows:
        """Some rows as float32; a view where they are stored so."""
        rows = self.vectors[start:end].astype(np.float32, copy=False)
        return rows if self.scales is None else rows * self.scales[start:end, None]

    def document(self, place: int) -> Rows:
        """The vectors of one document as float32."""
        return self.rows(int(self.offsets[place]), int(self.offsets[place + 1]))


class Chosen:
    """Some documents of a Ragged, in some order, without copying them.

    Attributes:
        firsts, lengths: the first row and the number of rows of each.
    """

    def __init__(self, ragged: Ragged, places: NDArray[np.int64] | None = None) -> None:
        chosen = slice(None) if places is None else places
        self.ragged = ragged
        self.dim = ragged.dim
        self.firsts = ragged.offsets[:-1][chosen]
        self.lengths = ragged.lengths[chosen]

    def rows(self, document: int) -> Rows:
        first = int(self.firsts[document])
        return self.ragged.rows(first, first + int(self.lengths[document]))


class Listed:
    """Documents each in an array of its own."""

    def __init__(self, documents: Sequence[MultiVector | NDArray[Any]], dim: int) -> None:
        parts = [vectors_of(document, f"document {i}") for i, document in enumerate(documents)]
        check_dims(parts, dim, "the query")
        self.parts = [part.astype(np.float32, copy=False) for part in parts]
        self.dim = dim
        self.lengths = np.array([len(part) for part in parts], np.int64)

    def rows(self, document: int) -> Rows:
        return self.parts[document]


def vectors_of(tokens: Any, name: str) -> NDArray[Any]:
    """The vectors of a MultiVector, or an array checked as one checks itself."""
    if isinstance(tokens, MultiVector):
        return tokens.vectors
    must_not_be_endless(name, tokens, "vectors")
    try:
        vectors = np.asarray(tokens)
    except ValueError as error:
        raise ValueError(f"{name} is no array of vectors: {error}") from None
    if vectors.dtype.kind not in "fiu":
        raise TypeError(f"{name} is {type(tokens).__name__}: give a MultiVector or its vectors.")
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(f"{name} has the shape {vectors.shape}; it must be (n_tokens, dim).")
    if vectors.dtype != np.float16:
        vectors = np.ascontiguousarray(vectors, np.float32)
    check_finite(vectors, name)
    return np.ascontiguousarray(vectors)


def rising(offsets: Any, end: int, of: str) -> NDArray[np.int64]:
    """A copy of where each of some runs begins and the last ends, which nobody can alter.

    Args:
        end: the last of them; they rise, or stay, from 0 to it.
        of: what is counted, for the message.

    Raises:
        ValueError: they are no such whole numbers.

    >>> rising([0, 2, 2, 5], 5, "rows").tolist()
    [0, 2, 2, 5]
    """
    must_not_be_endless("offsets", offsets, of)
    given = np.asarray(offsets)
    fits = given.dtype.kind in "iu" and given.ndim == 1 and given.size > 0
    # Compared, not subtracted: the difference of two numbers may be more than their type holds.
    if not fits or given[0] != 0 or given[-1] != end or (given[1:] < given[:-1]).any():
        raise ValueError(
            f"offsets of {given.dtype} and shape {given.shape}: they must be whole numbers that "
            f"rise from 0 to the {end} {of}, one more than there are documents."
        )
    copy = given.astype(np.int64)
    copy.flags.writeable = False
    return copy


def _in_memory(array: NDArray[Any]) -> NDArray[Any]:
    """The array as machine code reads it: in order, aligned, its bytes this machine's way.

    Where it is so already, a view: its shape and type are then nobody else's to alter.
    """
    kind = array.dtype.newbyteorder("=")
    return np.require(array, kind, ["C_CONTIGUOUS", "ALIGNED"]).view()


def check_dims(parts: Sequence[NDArray[Any]], dim: int, like: str) -> None:
    """Refuse vectors of another length than `dim`, which is that of `like`."""
    for i, part in enumerate(parts):
        if part.shape[1] != dim:
            raise ValueError(
                f"document {i} has vectors of {part.shape[1]} numbers, {like} of {dim}; all must "
                "come from one encoder."
            )


def check_finite(numbers: NDArray[Any], name: str) -> None:
    """Refuse NaN and infinities, and say where the first is."""
    if numbers.dtype.kind != "f":
        return
    for start in range(0, len(numbers), BLOCK):
        block = numbers[start : start + BLOCK]
        if not np.isfinite(block).all():
            place = start + int(np.argwhere(~np.isfinite(block))[0, 0])
            raise ValueError(
                f"{name} has a NaN or an infinity at token {place}. Vectors must be finite "
                "numbers; find out where they were made, or drop that token."
            )

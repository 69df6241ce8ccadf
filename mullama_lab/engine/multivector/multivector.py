"""A MultiVector: one text as vectors, one for each token.

It is a value: arrays and text, no native memory and no model. What makes it is a
MultiVectorEncoder, what compares two is `maxsim`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.options import exact, must_not_be_endless
from mullama_lab.glyphs import brief

Vectors: TypeAlias = NDArray[np.floating[Any]]  # (n_tokens, dim), float32 or float16
Kind: TypeAlias = Literal["query", "document"]

KINDS: tuple[Kind, ...] = ("query", "document")

_FIELDS = {"kind", "text", "ids", "pieces", "spans", "dim", "dtype", "vectors"}


@dataclass(frozen=True, eq=False)
class MultiVector:
    """One text as a vector for each of its tokens.

    Two are equal only if they are the same object; compare `vectors` for their numbers.

    Args:
        vectors: float32 (or float16) of shape (n_tokens, dim), each of length 1 unless the
            encoder was told not to normalise.
        ids: token ids, int32 of shape (n_tokens,).
        pieces: the bytes of each token as the vocabulary has them.
        spans: int32 of shape (n_tokens, 2): where in `text` the token's characters begin and
            end; -1, -1 for a token that stands for no text, such as [CLS].
        text: what was encoded.
        kind: "query" or "document".

    Raises:
        ValueError: the arrays do not fit each other, or a vector has a NaN or an infinity.
    """

    vectors: Vectors
    ids: NDArray[np.int32]
    pieces: tuple[bytes, ...]
    spans: NDArray[np.int32]
    text: str
    kind: Kind

    def __post_init__(self) -> None:
        must_not_be_endless("vectors", self.vectors, "vectors")
        vectors = np.asarray(self.vectors)
        if vectors.dtype != np.float16:
            vectors = np.asarray(vectors, np.float32)
        n_tokens = _checked(vectors, self.kind)
        ids = exact("ids", self.ids, np.int32)
        spans = exact("spans", self.spans, np.int32).reshape(-1, 2)
        pieces = tuple(bytes(piece) for piece in self.pieces)
        counts = {"ids": ids.size, "pieces": len(pieces), "spans": len(spans)}
        for name, count in counts.items():
            if count != n_tokens:
                raise ValueError(f"{count} {name} for {n_tokens} vectors: give one for each.")
        for name, value in (("vectors", vectors), ("ids", ids), ("spans", spans)):
            value = np.ascontiguousarray(value)
            if value is getattr(self, name):
                value = value.view()  # the caller's array stays writable
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "pieces", pieces)

    @property
    def n_tokens(self) -> int:
        """How many vectors there are."""
        return self.vectors.shape[0]

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        return self.vectors.shape[1]

    @property
    def is_special(self) -> NDArray[np.bool_]:
        """Which tokens stand for no text, shape (n_tokens,)."""
        return self.spans[:, 0] < 0

    @property
    def token_texts(self) -> tuple[str, ...]:
        """Each token as a person reads it: its characters in `text`, or its own name."""
        return tuple(
            self.text[start:end] if start >= 0 else piece.decode("utf-8", "replace")
            for (start, end), piece in zip(self.spans.tolist(), self.pieces)
        )

    def select(self, keep: Sequence[int] | NDArray[Any]) -> MultiVector:
        """The same text with some tokens only: positions, or a mask of shape (n_tokens,)."""
        must_not_be_endless("keep", keep, "positions")
        try:
            positions = np.arange(self.n_tokens)[np.asarray(keep)]
        except (IndexError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"keep={brief(keep)}: {error}. Give positions, or a mask.") from None
        if positions.ndim != 1:
            raise ValueError(f"keep={brief(keep)}: it must be a list of positions, or a mask.")
        return MultiVector(
            vectors=self.vectors[positions],
            ids=self.ids[positions],
            pieces=tuple(self.pieces[i] for i in positions),
            spans=self.spans[positions],
            text=self.text,
            kind=self.kind,
        )

    def __len__(self) -> int:
        return self.n_tokens

    def __repr__(self) -> str:
        shown = self.text if len(self.text) <= 40 else self.text[:39] + "…"
        return (
            f"<MultiVector {self.kind} {shown!r}: {counted(self.n_tokens, 'token')} of {self.dim}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything in it as plain Python values, which JSON can hold."""
        return {
            "kind": self.kind,
            "text": self.text,
            "ids": self.ids.tolist(),
            "pieces": [piece.hex() for piece in self.pieces],
            "spans": self.spans.tolist(),
            "dim": self.dim,
            "dtype": self.vectors.dtype.name,
            "vectors": self.vectors.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MultiVector:
        """What `to_dict` gave, as a MultiVector.

        Raises:
            ValueError: a value is missing or does not fit.
        """
        if not isinstance(values, Mapping):
            raise TypeError(
                f"a MultiVector is made from a dict, not {brief(values)}. See to_dict()."
            )
        missing = _FIELDS - set(values)
        if missing:
            raise ValueError(f"a MultiVector needs {', '.join(sorted(missing))}. See to_dict().")
        dtype = np.float16 if values["dtype"] == "float16" else np.float32
        return cls(
            vectors=np.array(values["vectors"], dtype).reshape(-1, values["dim"]),
            ids=values["ids"],
            pieces=tuple(bytes.fromhex(piece) for piece in values["pieces"]),
            spans=values["spans"],
            text=values["text"],
            kind=values["kind"],
        )


def _checked(vectors: NDArray[Any], kind: str) -> int:
    if kind not in KINDS:
        raise ValueError(f'kind={brief(kind)}: it must be "query" or "document".')
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(
            f"vectors of shape {vectors.shape}: the shape must be (n_tokens, dim), dim at least 1."
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise ValueError(
            f"the vector of token {row} has a NaN or an infinity. Vectors must be finite numbers; "
            "find out where they were made, or drop that token."
        )
    return vectors.shape[0]

"""Hits: what a search found, and the best of what is offered to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.index.part import Name
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.engine.multivector.maxsim import ScoreKind

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Hits:
    """What a search found, best first.

    Attributes:
        query: what was asked.
        kind: how it was scored.
        ids: of the documents.
        scores: float32, one a document.
        contributions: float32 (n_query, documents): what each query token adds to each score.

    Iterating gives (id, score).
    """

    query: MultiVector
    kind: ScoreKind
    ids: tuple[Name, ...]
    scores: NDArray[np.float32]
    contributions: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[Name, float]]:
        return iter(zip(self.ids, self.scores.tolist(), strict=True))

    def __repr__(self) -> str:
        best = "".join(f", best {name!r} {score:.4f}" for name, score in list(self)[:1])
        return f"<Hits {len(self)} of {self.kind}{best}>"

    def to_pandas(self) -> pd.DataFrame:
        """A row a document: rank, document, score."""
        import pandas as pd

        ranks = np.arange(1, len(self) + 1)
        return pd.DataFrame({"rank": ranks, "document": list(self.ids), "score": self.scores})


class Best:
    """The best documents so far, of those that were offered."""

    def __init__(self, k: int, n_query: int) -> None:
        self._k = k
        self.places = np.zeros(0, np.int64)
        self.scores = np.zeros(0, np.float32)
        self.contributions = np.zeros((n_query, 0), np.float32)

    def offer(
        self,
        places: NDArray[np.int64],
        scores: NDArray[np.float32],
        contributions: NDArray[np.float32],
    ) -> None:
        """Documents with their places among all, by which equal scores are ordered."""
        if len(scores) > self._k:  # no other can be among the best, also of all
            least = np.partition(scores, -self._k)[-self._k]
            some = np.flatnonzero(scores >= least)
            places, scores, contributions = places[some], scores[some], contributions[:, some]
        places = np.concatenate([self.places, places])
        scores = np.concatenate([self.scores, scores])
        order = np.lexsort((places, -scores))[: self._k]
        self.places, self.scores = places[order], scores[order]
        both = np.concatenate([self.contributions, contributions], axis=1)
        self.contributions = np.ascontiguousarray(both[:, order])

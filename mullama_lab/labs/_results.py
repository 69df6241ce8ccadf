"""What a search found, on a board, and one document of it in a grid.

It knows the two views and what they are about, no thread and no way to read documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from mullama_lab.counted import counted
from mullama_lab.engine.index.hits import Hits
from mullama_lab.engine.index.part import Name
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.labs._reading import Reading
from mullama_lab.labs._rivals import Rivals
from mullama_lab.widgets import Hit, RankBoard, SimilarityGrid

Found: TypeAlias = Callable[[Reading, str], Hits]


class Results:
    """The last result of a search, and its ranks beside those of the one before or of a rival.

    Args:
        own: the index that is searched, and what it has still to read.
        found: searches one of the indexes for a text.
        stopped: whether reading is stopped.

    Attributes:
        hits: the last result, None before the first.
        query: what was asked for it.
    """

    def __init__(
        self,
        board: RankBoard,
        grid: SimilarityGrid,
        own: Reading,
        rivals: Rivals,
        *,
        found: Found,
        stopped: Callable[[], bool],
    ) -> None:
        self.board, self.grid = board, grid
        self.hits: Hits | None = None
        self.query = ""
        self._own, self._rivals, self._found, self._stopped = own, rivals, found, stopped
        self._before: Hits | None = None  # of the query before

    def take(self, text: str, hits: Hits) -> None:
        """Show what was found for a text, and open the first."""
        if text != self.query:
            self._before, self.query = self.hits, text
        self.show(hits)
        if hits.ids:
            self.open(hits.ids[0])

    def show(self, hits: Hits) -> None:
        """Show hits for the same text."""
        self.hits = hits
        self.show_parts(hits.query, hits.ids, list(hits.contributions.T))

    def show_parts(
        self, query: MultiVector, ids: Sequence[Name], parts: Sequence[Any], off: Sequence[int] = ()
    ) -> None:
        """Show documents with what each query token adds to them.

        Args:
            off: places of query tokens that are left out.
        """
        baseline, before = self._baseline()
        index = self._own.index
        documents = [index.get(name) for name in ids]
        hits = [
            Hit(str(name), part, document.text, document, before.get(name, 0))
            for name, part, document in zip(ids, parts, documents, strict=True)
        ]
        with self.board.hold_sync():
            self.board.show(query, hits, total=len(index), baseline=baseline, off=off)
            self.board.selected = self._place_of_opened()
            self.show_state()

    def open(self, name: Name) -> None:
        """Show a document of the index in the grid."""
        document = self._own.index.get(name)
        self.show_in_grid(str(name), document)

    @property
    def opened(self) -> Name | None:
        """The document of the index that was opened instead of the best one."""
        first = self.hits.ids[:1] if self.hits is not None else ()
        names = [name for name in self._own.index.ids if str(name) == self.grid.title]
        return names[0] if names and names[0] not in first else None

    def show_in_grid(self, name: str, document: MultiVector) -> None:
        """Show a document in the grid."""
        if self.hits is None:
            raise ValueError("nothing was searched for yet; lab.search(text) does.")
        self.grid.show(self.hits.query, document, title=name)
        self.grid.off = self.board.off
        self.board.selected = self._place_of_opened()

    def show_state(self) -> None:
        """Show how far reading is, and what is to be said about it."""
        reading = self._own
        rival = self._rivals.reading
        if rival is not None and not reading.n_left:
            reading = rival
        with self.board.hold_sync():
            self.board.total = len(self._own.index)
            self.board.progress = [len(reading.index), reading.n_total]
            self.board.note = self._note()
            if not reading.n_left:
                self.board.state = "ready" if self.hits is not None else "empty"
            elif self._stopped():
                self.board.state = "stopped"
            else:
                self.board.state = "comparing" if reading is rival else "indexing"

    def _baseline(self) -> tuple[str, dict[Name, int]]:
        """What ranks are compared with (its name), and the ranks there."""
        name, rival = self._rivals.chosen, self._rivals.reading
        if rival is not None and len(rival.index):
            hits = self._found(rival, self.query)
        else:
            hits, name = self._before, "the query before"
        if hits is None:
            return "", {}
        return name, {document: rank for rank, document in enumerate(hits.ids, 1)}

    def _place_of_opened(self) -> int:
        """Where the document in the grid is on the board; -1 if it is not."""
        names = [hit.name for hit in self.board.hits]
        return names.index(self.grid.title) if self.grid.title in names else -1

    def _note(self) -> str:
        """What is to be said about the encoder and the index."""
        encoder, cut = self._own.encoder, self._own.cut
        parts = list(encoder.notes)
        if cut:
            were = "was" if len(cut) == 1 else "were"
            parts.append(
                f"{len(cut)} of {counted(len(self._own.index), 'document')} {were} "
                f"cut at {encoder.window} tokens, the first is {cut[0]}"
            )
        return " · ".join(parts)

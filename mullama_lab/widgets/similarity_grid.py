"""SimilarityGrid: one query against one document, cell by cell.

The matrix goes to the browser once, in binary, when it asks; switching query tokens, words and
scales happens there. Python has the same numbers, and they are the engine's: with all tokens on,
`score` is `maxsim.score` to the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import numpy as np
import traitlets
from numpy.typing import NDArray

from mullama_lab.engine.multivector import MultiVector, maxsim
from mullama_lab.engine.multivector.scales import SCALES, raw_ends
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _columns, _front_end, _grid_forms, _tokens_in_text
from mullama_lab.widgets._view import View, whole_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SimilarityGrid"]
__dir__ = __all__.copy  # what tab completion offers

UNITS = ("pieces", "words")
MOST_CELLS = 4_194_304
MOST_BYTES = 1_000_000  # of one message


class SimilarityGrid(View):
    """The similarity of each query token (row) and each document token (column).

    The best cell of a row is what its token adds to the score (MaxSim), and the sum of those is
    the score. Marks in the document's text show where the best matches are.

    Args:
        query, document: two MultiVectors of one encoder; `grid.show(query, document)` later.
        scale: "raw" is one scale for all rows, 0 to 1 for unit vectors; "by query" stretches each
            row from its lowest to its highest value, and says so.
        unit: "pieces" of the vocabulary, or "words".
        title: a line above the grid.

    Attributes:
        off: places of query tokens that are left out of the score.
    """

    _esm = _front_end.module("similarity_grid")
    _css = _front_end.style("similarity_grid")
    from_browser = ("off", "scale", "unit")

    n_query = traitlets.Int(-1, help="Query tokens; -1 when nothing is shown.").tag(sync=True)
    n_document = traitlets.Int(-1, help="Document tokens.").tag(sync=True)
    epoch = traitlets.Int(0, help="Counts the pairs shown.").tag(sync=True)
    scale = traitlets.Enum(SCALES, "raw", help="What the colours are measured on.").tag(sync=True)
    unit = traitlets.Enum(UNITS, "pieces", help="What a row and a column are.").tag(sync=True)
    off = traitlets.List(traitlets.Int(), help="Query tokens left out.").tag(sync=True)
    title = traitlets.Unicode("", help="A line above the grid.").tag(sync=True)
    note = traitlets.Unicode("", help="What is to be said about the encoder.").tag(sync=True)

    def __init__(
        self,
        query: MultiVector | None = None,
        document: MultiVector | None = None,
        *,
        scale: str = "raw",
        unit: str = "pieces",
        title: str = "",
        note: str = "",
    ) -> None:
        self._query: MultiVector | None = None
        self._document: MultiVector | None = None
        self._matrix: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        super().__init__(scale=scale, unit=unit, title=title, note=note)
        if query is not None or document is not None:
            self.show(query, document)

    def show(
        self, query: MultiVector | None, document: MultiVector | None, *, title: str | None = None
    ) -> None:
        """Show another pair; None and None show nothing. The same query keeps its switches."""
        if query is None and document is None:
            self._set(None, None, np.zeros((0, 0), np.float32), title)
            return
        self._set(query, document, _similarities(query, document), title)

    def _set(self, query: Any, document: Any, matrix: NDArray[np.float32], title: Any) -> None:
        same = (
            self._query is not None
            and query is not None
            and np.array_equal(self._query.ids, query.ids)
        )
        off = self.off if same else []
        self._query, self._document, self._matrix = query, document, matrix
        with self.hold_sync():
            self.off = []
            self.n_query, self.n_document = (-1, -1) if query is None else matrix.shape
            self.off = off
            if title is not None:
                self.title = title
            self.epoch += 1

    # The numbers

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The similarities, shape (query tokens, document tokens); read only."""
        view = self._matrix.view()
        view.flags.writeable = False
        return view

    @property
    def contributions(self) -> NDArray[np.float64]:
        """What each query token adds to the score; 0 for those that are off."""
        best = self._matrix.max(axis=1, initial=-np.inf).astype(np.float64)
        best[~np.isfinite(best) | np.isin(np.arange(len(best)), self.off)] = 0.0
        return best

    @property
    def score(self) -> float:
        """`maxsim.total` of `contributions`: the MaxSim of the query tokens that are on."""
        return maxsim.total(self.contributions)

    @property
    def best(self) -> NDArray[np.int64]:
        """The document token that each query token matches best; -1 in an empty document."""
        rows, columns = self._matrix.shape
        return self._matrix.argmax(axis=1) if columns else np.full(rows, -1)

    def to_pandas(self) -> pd.DataFrame:
        """Every similarity; query tokens by document tokens, each with its place and text."""
        import pandas as pd

        query, document = (
            [] if tokens is None else list(enumerate(_tokens_in_text.labels(tokens)))
            for tokens in (self._query, self._document)
        )
        return pd.DataFrame(
            self._matrix.copy(),
            index=pd.MultiIndex.from_tuples(query, names=["query", "token"]),
            columns=pd.MultiIndex.from_tuples(document, names=["document", "token"]),
        )

    def to_code(self) -> str:
        """Python that shows the same, once `encoder` is there."""
        query, document = self._query, self._document
        return _grid_forms.code(
            None if query is None or document is None else (query.text, document.text),
            off=self.off,
            scale=self.scale,
            unit=self.unit,
            title=self.title,
            note=self.note,
        )

    def __repr__(self) -> str:
        if self.n_query < 0:
            return "SimilarityGrid()"
        return _grid_forms.headline(self.n_query, self.n_document)

    @traitlets.validate("off")
    def _only_query_tokens(self, proposal: Any) -> list[int]:
        places = sorted(set(proposal["value"]))
        if places and not 0 <= places[0] <= places[-1] < max(0, self.n_query):
            raise traitlets.TraitError(
                f"off is {brief(proposal['value'])}; query tokens go from 0 to {self.n_query - 1}"
            )
        return places

    # Requests

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        if op not in ("texts", "matrix"):
            return super()._on_request(op, args)
        if self._query is None or self._document is None:
            raise ValueError("no query and document are shown; show(query, document) does")
        if op == "texts":
            ends = raw_ends(self._matrix, self._query, self._document)
            return {"epoch": self.epoch, "scale": list(ends)}, self._texts()
        return self._rows(whole_number(args, "from", low=0, high=max(0, self.n_query - 1)))

    def _texts(self) -> list[bytes]:
        query, document = self._query, self._document
        assert query is not None and document is not None
        names, _ = _tokens_in_text.in_text(query)
        special = (_tokens_in_text.special(query), _tokens_in_text.special(document))
        strings = (names, *_tokens_in_text.in_text(document), *special)
        return [
            *(part for texts in strings for part in _columns.pieces(list(map(_utf8, texts)))),
            _tokens_in_text.words(query).astype("<i4").tobytes(),
            _tokens_in_text.words(document).astype("<i4").tobytes(),
        ]

    def _rows(self, start: int) -> tuple[dict[str, Any], list[bytes]]:
        many = max(1, MOST_BYTES // max(1, 4 * self._matrix.shape[1]))
        part = self._matrix[start : start + many]
        return {"epoch": self.epoch, "rows": len(part)}, [part.astype("<f4").tobytes()]

    # Forms without a browser half

    def _plain_text(self) -> str:
        return _grid_forms.plain(self._match(), title=self.title, note=self.note)

    def _static_html(self) -> Element:
        return _grid_forms.static(self._match(), title=self.title, note=self.note)

    def _match(self) -> _grid_forms.Match | None:
        if self._query is None or self._document is None:
            return None
        return _grid_forms.Match(
            query=self._query,
            document=self._document,
            off=self.off,
            contributions=self.contributions.tolist(),
            best=self.best.tolist(),
            score=self.score,
        )


def _similarities(query: Any, document: Any) -> NDArray[np.float32]:
    """Every query token against every document token, or a ValueError that says what is wrong."""
    for tokens, side in ((query, "query"), (document, "document")):
        if not isinstance(tokens, MultiVector):
            raise TypeError(f"the {side} is {brief(tokens)}; give a MultiVector.")
    if query.dim != document.dim:
        raise ValueError(
            f"the query has vectors of {query.dim} numbers, the document of {document.dim}; "
            "both must come from one encoder."
        )
    cells = len(query) * len(document)
    if cells > MOST_CELLS:
        raise ValueError(
            f"{len(query)} × {len(document)} tokens are {cells} cells; a grid shows at most "
            f"{MOST_CELLS}. Cut the document into passages."
        )
    if not len(query):
        return np.zeros((0, len(document)), np.float32)
    return maxsim.similarity(query, document)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")

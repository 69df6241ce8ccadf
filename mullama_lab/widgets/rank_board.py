"""RankBoard: results of a search, and what each query token adds to the score of each.

One binary matrix, documents by query tokens, goes to the browser; switching tokens off ranks
again there. What a search does is decided by whoever listens to `on_search`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import numpy as np
import traitlets
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.multivector import MultiVector, maxsim
from mullama_lab.engine.multivector.scales import BARS
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _board_forms, _columns, _front_end, _tokens_in_text
from mullama_lab.widgets._view import Undo, View, whole_number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Hit", "RankBoard"]
__dir__ = __all__.copy  # what tab completion offers

STATES = ("empty", "indexing", "comparing", "searching", "ready", "stopped", "failed")
MOST_HITS = 1000
MOST_QUERY = 4000  # characters
MOST_TEXT = 300  # characters of a document in the list


@dataclass(frozen=True, eq=False)
class Hit:
    """One document of a result.

    Attributes:
        name: what it is called.
        contributions: what each query token adds to its score, shape (query tokens,).
        text: its beginning is shown.
        document: its vectors, or a function that gets them, to say which tokens matched.
        before: its rank in what it is compared with, from 1; 0 if it was not there.
    """

    name: str
    contributions: NDArray[np.float32]
    text: str = ""
    document: MultiVector | Callable[[], MultiVector] | None = None
    before: int = 0


class RankBoard(View):
    """Documents in the order of their scores; each bar is the sum of what the query tokens add.

    Switch query tokens off and the board ranks again and marks what moved. Choose two documents
    as A and B to see which tokens put one ahead of the other.

    Args:
        title: a line above the board.
        searchable: whether the board has a search box; what it does is said by `on_search`.

    Attributes:
        off: places of query tokens that are left out of the scores.
        bars: "difference" leaves out what each token adds to every document of the list; "whole"
            shows scores from 0, as it is of one document by itself.
        pair: the two documents compared, as places in `hits`.
        selected: the document opened last, as a place in `hits`; -1 for none.
    """

    _esm = _front_end.module("rank_board")
    _css = _front_end.style("rank_board")
    _work_states = ("indexing", "comparing", "searching")
    from_browser = ("bars", "off", "pair", "selected")

    query = traitlets.Unicode("", help="The query, as typed.").tag(sync=True)
    n_query = traitlets.Int(0, help="Its tokens.").tag(sync=True)
    total = traitlets.Int(0, help="Documents there are.").tag(sync=True)
    epoch = traitlets.Int(0, help="Counts the results shown.").tag(sync=True)
    off = traitlets.List(traitlets.Int(), help="Query tokens left out.").tag(sync=True)
    bars = traitlets.Enum(BARS, "difference", help="What the length of a bar is.").tag(sync=True)
    pair = traitlets.List(traitlets.Int(), help="The two documents compared.").tag(sync=True)
    selected = traitlets.Int(-1, help="The document opened last.").tag(sync=True)
    state = traitlets.Enum(STATES, "empty", help="What is going on.").tag(sync=True)
    progress = traitlets.List(traitlets.Int(), [0, 0], help="Documents read, in all.").tag(
        sync=True
    )
    baseline = traitlets.Unicode("", help="What the moves are measured against.").tag(sync=True)
    rivals = traitlets.List(traitlets.Unicode(), help="What one can compare with.").tag(sync=True)
    rival = traitlets.Unicode("", help="Which of them; empty for none.").tag(sync=True)
    note = traitlets.Unicode("", help="What is to be said about the encoder.").tag(sync=True)
    problem = traitlets.Unicode("", help="What went wrong.").tag(sync=True)
    title = traitlets.Unicode("", help="A line above the board.").tag(sync=True)
    searchable = traitlets.Bool(False, help="Whether there is a search box.").tag(sync=True)

    def __init__(self, *, title: str = "", searchable: bool = False) -> None:
        self._hits: list[Hit] = []
        self._tokens: MultiVector | None = None
        super().__init__(title=title, searchable=searchable)

    def show(
        self,
        query: MultiVector,
        hits: Sequence[Hit],
        *,
        total: int | None = None,
        baseline: str = "",
        off: Sequence[int] = (),
    ) -> None:
        """Show the results of a search.

        Args:
            query: the tokens that the contributions belong to.
            hits: documents, best first.
            total: how many documents there are; None if `hits` has all.
            baseline: what `before` of the hits is the rank in; empty for no comparison.
            off: query tokens to leave out at once.

        Raises:
            ValueError: contributions of a wrong shape, or NaN or infinite ones.
        """
        hits = list(hits)
        _check(len(query), hits)
        with self.hold_sync():
            self.off, self.pair, self.selected = [], [], -1
            self._tokens, self._hits = query, hits
            self.n_query = len(query)
            self.off = list(off)
            self.total = len(hits) if total is None else total
            self.query = query.text[:MOST_QUERY]
            self.baseline = baseline
            self.problem = ""
            self.state = "ready"
            self.epoch += 1

    def clear(self, *, total: int = 0) -> None:
        """Show no results."""
        with self.hold_sync():
            self.off, self.pair, self.selected = [], [], -1
            self._tokens, self._hits = None, []
            self.n_query, self.total, self.state, self.problem = 0, total, "empty", ""
            self.epoch += 1

    def fail(self, message: str | Exception) -> None:
        """Say why there are no new results; the last ones stay."""
        self.problem = str(message)
        self.state = "failed"

    # The numbers

    @property
    def hits(self) -> list[Hit]:
        """The documents as they were given."""
        return list(self._hits)

    @property
    def contributions(self) -> NDArray[np.float64]:
        """Shape (documents, query tokens); 0 where a query token is off."""
        rows = [hit.contributions for hit in self._hits]
        values = np.array(rows, np.float64).reshape(len(rows), self.n_query)
        values[:, self.off] = 0.0
        return values

    @property
    def scores(self) -> list[float]:
        """`maxsim.total` of each row of `contributions`."""
        return _scores(self.contributions)

    @property
    def order(self) -> list[int]:
        """Places in `hits`, best first; equal scores keep their order."""
        return _order(self.scores)

    def to_pandas(self) -> pd.DataFrame:
        """Documents in their order: score, and what each query token adds."""
        import pandas as pd

        names = [] if self._tokens is None else _tokens_in_text.labels(self._tokens)
        columns = [f"{i} {name}" for i, name in enumerate(names)]
        parts = self.contributions
        scores = _scores(parts)
        order = _order(scores)
        table = pd.DataFrame(parts[order], columns=columns)
        table.insert(0, "score", [scores[k] for k in order])
        table.index = pd.Index([self._hits[k].name for k in order], name="document")
        return table

    def to_code(self) -> str:
        """Python that searches for the same, once `lab` is there."""
        return _board_forms.code(self.query, off=self.off, bars=self.bars)

    # Listening

    def on_search(self, callback: Callable[[str], object]) -> Undo:
        """Call `callback(text)` when somebody searches; returns what undoes it."""
        return self._listen("search", callback)

    def on_stop(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when somebody presses Stop."""
        return self._listen("stop", callback)

    def on_go_on(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when somebody wants what was stopped to go on."""
        return self._listen("go_on", callback)

    def on_compare(self, callback: Callable[[str], object]) -> Undo:
        """Call `callback(name)` when somebody chooses one of `rivals`, or "" for none."""
        return self._listen("compare", callback)

    def on_open(self, callback: Callable[[Hit], object]) -> Undo:
        """Call `callback(hit)` when somebody opens a document."""
        return self._listen("open", callback)

    def on_rank_all(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when all documents are to be ranked by the tokens that are on."""
        return self._listen("rank_all", callback)

    def _ask(self, event: str, *about: Any) -> dict[str, Any]:
        self._must_be_heard(event)
        self._tell(event, *about)
        return {}

    @traitlets.validate("off", "pair")
    def _only_what_is_there(self, proposal: Any) -> list[int]:
        name, places = proposal["trait"].name, list(proposal["value"])
        many = self.n_query if name == "off" else len(self._hits)
        wrong = [place for place in places if not 0 <= place < many]
        if wrong or (name == "pair" and len(places) not in (0, 2)):
            raise traitlets.TraitError(
                f"{name} is {brief(places)}; "
                + ("two documents, or none, " if name == "pair" else "query tokens ")
                + f"go from 0 to {many - 1}"
            )
        return sorted(set(places)) if name == "off" else places

    @traitlets.validate("selected")
    def _only_a_place(self, proposal: Any) -> int:
        most = len(self._hits) - 1
        if not -1 <= proposal["value"] <= most:
            raise traitlets.TraitError(
                f"selected is {brief(proposal['value'])}; documents go from 0 to {most}, -1 is none"
            )
        return proposal["value"]

    # Requests

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        if op == "board":
            return self._board()
        if op in ("open", "matches"):
            return self._about(op, args)
        if op == "search":
            text = args.get("text")
            if not isinstance(text, str) or len(text) > MOST_QUERY:
                raise ValueError(f"a query must be a text of at most {MOST_QUERY} characters")
            return self._ask("search", text)
        if op in ("stop", "go_on", "rank_all"):
            return self._ask(op)
        if op == "compare":
            name = args.get("name")
            if name not in ("", *self.rivals):
                raise ValueError(f"{name!r} is none of {', '.join(self.rivals) or 'no rivals'}")
            return self._ask("compare", name)
        return super()._on_request(op, args)

    def _about(self, op: str, args: dict[str, Any]) -> Any:
        most = len(self._hits) - 1
        if op == "open":
            k = whole_number(args, "row", low=0, high=most)
            self.selected = k
            self._tell("open", self._hits[k])
            return {}
        sides = [whole_number(args, side, low=0, high=most) for side in ("a", "b")]
        matched = [texts for k in sides for texts in self._matched(self._hits[k])]
        return {}, [part for texts in matched for part in _strings(texts)]

    def _board(self) -> tuple[dict[str, Any], list[bytes]]:
        tokens, special = [], []
        if self._tokens is not None:
            tokens = _tokens_in_text.in_text(self._tokens)[0]
            special = _tokens_in_text.special(self._tokens)
        values = np.array([hit.contributions for hit in self._hits], "<f4")
        before = [hit.before for hit in self._hits] if self.baseline else []
        names = [hit.name for hit in self._hits]
        texts = [" ".join(hit.text[:MOST_TEXT].split()) for hit in self._hits]
        return {"epoch": self.epoch, "rows": len(self._hits)}, [
            *_strings(tokens),
            *_strings(names),
            *_strings(texts),
            values.tobytes(),
            np.array(before, "<i4").tobytes(),
            *_strings(special),
        ]

    def _matched(self, hit: Hit) -> tuple[list[str], list[str]]:
        """The document's token that each query token matches best, and what it is if special."""
        found = hit.document
        document = found if isinstance(found, MultiVector) or found is None else found()
        if document is None or self._tokens is None or not len(document):
            return [], []
        places = (self._tokens.vectors @ document.vectors.T).argmax(axis=1).tolist()
        texts, special = _tokens_in_text.texts(document), _tokens_in_text.special(document)
        return [texts[place] for place in places], [special[place] for place in places]

    # Forms without a browser half

    def __repr__(self) -> str:
        if not self._hits:
            return f"RankBoard({self.state})"
        return f"RankBoard({len(self._hits)} of {counted(self.total, 'document')})"

    def _plain_text(self) -> str:
        return _board_forms.plain(self._results())

    def _static_html(self) -> Element:
        return _board_forms.static(self._results())

    def _results(self) -> _board_forms.Results:
        parts = self.contributions
        order = _order(_scores(parts))
        done, all_documents = self.progress
        return _board_forms.Results(
            title=self.title,
            note=self.note,
            problem=self.problem,
            state=self.state,
            progress=(done, all_documents),
            query=self.query,
            token_labels=[] if self._tokens is None else _tokens_in_text.labels(self._tokens),
            special=[] if self._tokens is None else _tokens_in_text.special(self._tokens),
            off=self.off,
            total=self.total,
            names=[self._hits[k].name for k in order],
            contributions=parts[order],
        )


def _scores(parts: NDArray[np.float64]) -> list[float]:
    return [maxsim.total(row) for row in parts]


def _order(scores: Sequence[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda k: (-scores[k], k))


def _strings(texts: Sequence[str]) -> list[bytes]:
    return _columns.pieces([text.encode("utf-8", "replace") for text in texts])


def _check(n_query: int, hits: Sequence[Hit]) -> None:
    if len(hits) > MOST_HITS:
        raise ValueError(f"{len(hits)} documents; a board shows at most {MOST_HITS}, the best.")
    for hit in hits:
        values = np.asarray(hit.contributions)
        if values.shape != (n_query,):
            raise ValueError(
                f"the contributions of {hit.name!r} have shape {values.shape}; "
                f"the query has {n_query} tokens, so it must be ({n_query},)."
            )
        if not np.isfinite(values).all():
            raise ValueError(
                f"a contribution to {hit.name!r} is not finite; are there NaN in its vectors?"
            )

"""RetrievalLab: ask documents something, and see which tokens made the answer.

The lab joins a RankBoard and a SimilarityGrid with one index and holds no vectors of its own.
Documents are read in the background, some at a time; a query that comes meanwhile is answered
from those that are there, and once more at the end. Switching query tokens off happens in the
browser, in both views at once.

One thread does everything that takes time, in the order it was asked. Callbacks of the views
arrive on any thread; they put work in its queue and return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mullama_lab.counted import counted
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.index.hits import Hits
from mullama_lab.engine.index.index import Storage
from mullama_lab.engine.index.part import Name
from mullama_lab.engine.multivector import maxsim
from mullama_lab.engine.options import listed, whole
from mullama_lab.glyphs import brief
from mullama_lab.labs._job_queue import JobQueue
from mullama_lab.labs._lab import CLOSED, Lab, must_be_text
from mullama_lab.labs._reading import Reading
from mullama_lab.labs._results import Results
from mullama_lab.labs._rivals import Rivals
from mullama_lab.studies import late_interaction, retrieval_quality
from mullama_lab.widgets import RankBoard, SimilarityGrid
from mullama_lab.widgets._kept import SharedTrait, Shelf, weakly
from mullama_lab.widgets._session_code import called, model_code
from mullama_lab.widgets._view import Undo

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RetrievalLab"]
__dir__ = __all__.copy  # what tab completion offers

USUAL_K = 50
Documents: TypeAlias = "Iterable[str] | Mapping[Name, str] | MultiVectorIndex"


class RetrievalLab(Lab):
    """A bench for late interaction: search box, results, and the grid of the one that is open.

        lab = RetrievalLab(encoder, {"dedent": "Remove any common ...", "fill": "..."})
        hits = lab.search("take the indentation away")
        lab.compare("int8")          # which ranks change with smaller vectors?

    It is there at once and reads the documents in the background; `wait()` waits for that.

    Args:
        encoder: makes vectors of documents and queries.
        documents: texts, or name -> text; or an index of this encoder, to search as it is.
        storage: how vectors are kept: "float32", "float16" or "int8".
        k: how many documents are found at most.
        rivals: other encoders to compare with, by name.
        title: a line above the results.

    Attributes:
        index: the MultiVectorIndex that is searched.
        board, grid: the two views.
        hits: the last result, None before the first.
        query: what was asked for it.
    """

    def __init__(
        self,
        encoder: MultiVectorEncoder,
        documents: Documents = (),
        *,
        storage: Storage = "float32",
        k: int = USUAL_K,
        rivals: Mapping[str, MultiVectorEncoder] | None = None,
        title: str = "",
    ) -> None:
        if not isinstance(encoder, MultiVectorEncoder):
            raise TypeError(
                f"RetrievalLab takes a MultiVectorEncoder, not {brief(encoder)}. Write "
                "RetrievalLab(encoder, documents), or RetrievalLab(index.encoder, index)."
            )
        k = whole("k", k, 1, 1 << 31)
        given = isinstance(documents, MultiVectorIndex)
        self.encoder, self.k = encoder, k
        self.index = documents if given else MultiVectorIndex(encoder, storage=storage)
        self._own = Reading(encoder, self.index)
        self._rivals = Rivals(self._own, {} if rivals is None else rivals)
        self._asked: Future[Hits] | None = None  # the newest search from the browser
        self._stopped = False
        self._reading = False
        self._problem: BaseException | None = None  # what ended the reading early
        self._jobs = JobQueue("retrieval-lab", weakly(self._job_failed))
        self.board = RankBoard(title=title, searchable=True)
        self.board.rivals = self._rivals.names
        self.grid = SimilarityGrid()
        # The list beside the matrix, in sight together: `.mll-lab-fill` of rank_board.css.
        pair = Shelf([self.board, self.grid], "mll-lab-pair")
        super().__init__([pair], "mll-lab", "mll-lab-fill")
        self._results = Results(
            self.board,
            self.grid,
            self._own,
            self._rivals,
            found=self._found,
            stopped=lambda: self._stopped,
        )
        self._undo += [self._jobs.close, *self._listen()]
        self.add(() if given else documents)

    def _listen(self) -> list[Undo]:
        board, results = self.board, self._results
        both = SharedTrait(board, self.grid, "off")
        return [
            board.on_search(self._ask),
            board.on_stop(self.stop),
            board.on_go_on(self.go_on),
            board.on_compare(lambda name: self._jobs.later(self._choose, name)),
            board.on_open(
                lambda hit: self._jobs.later(results.show_in_grid, hit.name, hit.document)
            ),
            board.on_rank_all(lambda: self._jobs.later(self._rank_all)),
            both.close,
        ]

    # Driving it: what the browser does, from Python.

    @property
    def hits(self) -> Hits | None:
        """The last result, None before the first."""
        return self._results.hits

    @property
    def query(self) -> str:
        """What was asked for it."""
        return self._results.query

    @property
    def progress(self) -> tuple[int, int]:
        """Documents read, and all that there are."""
        return len(self.index), self._own.n_total

    def add(self, documents: Iterable[str] | Mapping[Name, str]) -> None:
        """Read more documents, in the background; those without a name are numbered on.

        Raises:
            ValueError: a name is there already.
            TypeError: a document is no text.
        """
        if isinstance(documents, str):
            raise TypeError(f"documents is one text, {documents[:40]!r}; give a list of texts.")
        named = documents if isinstance(documents, Mapping) else None
        texts: list[Any] = listed(
            "documents", documents if named is None else list(named.values()), "texts"
        )

        def add() -> None:
            names = range(self._own.n_total, self._own.n_total + len(texts))
            self._own.add(dict(zip(names if named is None else named, texts, strict=True)))

        self._jobs.now(add)
        self.go_on()

    def search(self, text: str) -> Hits:
        """Search when all documents are read, show the result and give it.

        Raises:
            ValueError: the query is empty.
            ContextFull: it is longer than the encoder's window.
        """
        self.wait()
        return self._jobs.now(self._search, text)

    def wait(self) -> None:
        """Wait until all documents are read and shown, or reading was stopped.

        Ctrl-C stops the reading. What ended it early is raised, once.
        """
        try:
            while True:
                self._jobs.now(lambda: None)  # what was asked before this is done then
                if not self._reading:
                    break
        except KeyboardInterrupt:
            self.stop()
            raise
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def stop(self) -> None:
        """Read no further for now; what was read can be searched."""
        self._stopped = True

    def go_on(self) -> None:
        """Read on after a stop."""
        self._stopped = False
        self._jobs.later(self._begin)

    def compare(self, rival: str, queries: Sequence[str] | None = None) -> pd.DataFrame:
        """Which documents change places with other storage or another encoder.

        The board then shows the moves against it; `lab.compare("")` ends that.

        Args:
            rival: "float32", "float16" or "int8", or one of the lab's `rivals`.
            queries: None is the query that is shown.

        Returns:
            A row for each document that moved within the first `k`: query (its place), document,
            before (its rank with the rival, 0 if not among the first), after (its rank here).
        """
        self.wait()
        self._jobs.now(self._choose, rival)
        self.wait()
        asked = [text for text in (queries or [self.query]) if text]

        def names(reading: Reading) -> list[list[str]]:
            return [[str(name) for name in self._found(reading, text).ids] for text in asked]

        def moved() -> pd.DataFrame:
            against = self._rivals.reading
            sides = [[], []] if against is None else [names(against), names(self._own)]
            return retrieval_quality.moved(*sides, top=self.k)

        return self._jobs.now(moved)

    def look_at(self, name: Name) -> None:
        """Show a document in the grid."""
        self._jobs.now(self._results.open, name)

    def explain(self, a: Name, b: Name) -> pd.DataFrame:
        """Why one document beats another for the query that is shown: a row per query token."""
        if self.hits is None:
            raise ValueError("nothing was searched for yet; lab.search(text) does.")
        query = self.hits.query
        return self._jobs.now(
            lambda: late_interaction.explain(query, self.index.get(a), self.index.get(b))
        )

    def set(self, **settings: Any) -> None:
        """Change what is shown: `lab.set(off=[0, 3])`, and bars, scale, unit.

        Raises:
            ValueError: there is no such setting, or its value is out of range; nothing changes
                then.
        """
        board, grid = (self.board,), (self.grid,)
        known = {"off": (self.board, self.grid), "bars": board, "scale": grid, "unit": grid}
        self._set(settings, known)

    def to_pandas(self) -> pd.DataFrame:
        """The documents found, best first: score, and what each query token adds."""
        return self.board.to_pandas()

    def to_code(self) -> str:
        """Python that does the same without a browser, once `documents` are there.

        And `rivals`, where the lab was given some.
        """
        usual = {"storage": "float32", "k": USUAL_K, "title": ""}
        mine = {"storage": self.index.storage, "k": self.k, "title": self.board.title}
        changed = {name: value for name, value in mine.items() if value != usual[name]}
        opened, traits = self._results.opened, self.grid.traits()
        seen = {
            name: value
            for name in ("scale", "unit")
            if (value := getattr(self.grid, name)) != traits[name].default_value
        }
        given = ["encoder", "documents", *["rivals=rivals"] * bool(self._rivals.encoders)]
        lines = [
            "import mullama_lab as ml\n",
            model_code(self.encoder.model),
            f"encoder = {called('ml.MultiVectorEncoder', 'model', **self.encoder.options)}",
            f"lab = {called('ml.labs.RetrievalLab', *given, **changed)}",
            *([self.board.to_code()] if self.hits is not None else []),
            *([f"lab.look_at({opened!r})"] if opened is not None else []),
            *([called("lab.set", **seen)] if seen else []),
            *([f"lab.compare({self.board.rival!r})"] if self.board.rival else []),
        ]
        return "\n".join(lines)

    def close(self, why: str = CLOSED) -> None:
        """Read no further and let go of the views. The encoder stays open."""
        must_be_text("why", why)
        self.stop()
        super().close(why)

    def _job_failed(self, error: BaseException) -> None:
        self.board.fail(str(error))

    # Reading: each step asks for the next one, so that what is asked meanwhile comes between

    def _begin(self) -> None:
        if not self._reading:
            self._reading = True
            self._results.show_state()
            self._step()()

    def _step(self) -> Callable[[], None]:
        """A job that reads some documents and holds the lab no longer than it asks it something."""
        following, done, failed = map(
            weakly, (self._next_reading, self._step_done, self._reading_failed)
        )

        def step() -> None:
            try:
                reading = following()
                if reading is not None:
                    reading.read_some()
                done(reading)
            except BaseException as error:
                failed(error)
                raise

        return step

    def _step_done(self, reading: Reading | None) -> None:
        """Read on; or, after the last step, search again."""
        if not self._stopped and self._next_reading() is not None:
            self._results.show_state()
            self._jobs.later(self._step())
            return
        if self.hits is not None and reading is not None:
            self._results.show(self._found(self._own, self.query))
        self._reading = False
        self._results.show_state()

    def _reading_failed(self, error: BaseException) -> None:
        self._reading, self._problem, self._stopped = False, error, True

    def _next_reading(self) -> Reading | None:
        """What has something left to read: the lab's index first, then the rival's."""
        if self._stopped:
            return None
        if self._own.n_left:
            return self._own
        self._rivals.catch_up()
        rival = self._rivals.reading
        return rival if rival is not None and rival.n_left else None

    # Searching

    def _ask(self, text: str) -> None:
        self.board.state = "searching"
        if self._asked is not None:
            self._asked.cancel()  # nobody waits for an older search that has not begun
        self._asked = self._jobs.later(self._search, text)

    def _search(self, text: str) -> Hits:
        hits = self._found(self._own, text)
        self._results.take(text, hits)
        return hits

    def _found(self, reading: Reading, text: str) -> Hits:
        return reading.index.search(reading.encoder.encode_query(text), self.k)

    def _rank_all(self) -> None:
        """Find the best of all documents by the query tokens that are on."""
        if self.hits is None:
            return
        query, off = self.hits.query, list(self.board.off)
        on = np.setdiff1d(np.arange(len(query)), off)
        if not len(on):
            raise ValueError("all query tokens are off; switch one on.")
        ids = self.index.search(query.select(on), self.k).ids
        parts = [maxsim.contributions(query, self.index.get(name)) for name in ids]
        self._results.show_parts(query, ids, parts, off)

    def _choose(self, name: str) -> None:
        """Measure moves against a rival, or (empty) against the query before."""
        self._rivals.choose(name)
        self.board.rival = name
        self._stopped = False
        self._begin()
        if not self._reading and self.hits is not None:
            self._results.show(self.hits)

    def __repr__(self) -> str:
        done, total = self.progress
        read = (
            counted(total, "document")
            if done == total
            else f"{done} of {counted(total, 'document')} read"
        )
        return f"RetrievalLab({self.encoder.name}, {read})"

"""The panel of the bench: tokens a second of the model at work, by test and threads.

A benchmark waits until no session of this process generates. What begins beside it all the same
is said, for it is in the times.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.gauges import Gauges
from mullama_lab.errors import SessionError, Stopped
from mullama_lab.labs._desk import Desk
from mullama_lab.labs._panel import Panel
from mullama_lab.studies.bench import BenchFailed, BenchResult, BenchStopped, bench
from mullama_lab.warned import heard
from mullama_lab.widgets import BenchBoard
from mullama_lab.widgets._kept import weakly

STEP = 0.01  # of the work, between two messages to the page
REST = 0.2  # seconds from one look at the sessions to the next
BESIDE = (
    "A text was generated meanwhile, which slows what is measured beside it. Run the benchmark "
    "again when nothing is generated."
)


class BenchPanel(Panel):
    """Measures the model at work when its board is asked to, on a thread of its own.

    Attributes:
        result: what the board shows; None before anything was measured.
    """

    key, title = "bench", "Bench"

    def __init__(self, desk: Desk) -> None:
        self.board = BenchBoard()
        self.views = (self.board,)
        self.result: BenchResult | None = None
        self._model: Model | None = None
        self._is_beside = False  # a text was generated meanwhile
        self._work = LatestOnly("bench", weakly(self._failed))
        weakref.finalize(desk, self._work.close).atexit = False
        self.board.on_run(weakly(self._start))
        self.board.on_stop(weakly(self._stop))

    def begin(self, session: Session) -> None:
        self._model = session.model

    def end(self) -> None:
        self.stop()
        self._work.settle()
        self._model = self.result = None
        self.board.show(None, "idle")
        self.board.fail("")

    def close(self) -> None:
        self._work.close()

    def follow(self, run: Run) -> None:
        self._note_beside()

    def stop(self) -> None:
        self._work.drop()
        if not self._work.is_busy and self.board._is_at_work:
            self.board.show(self.result, "stopped")

    def settle(self) -> None:
        self._work.settle()

    def code(self, lab: str) -> str:
        names = ("tests", "threads", "repeats")
        return "\n".join(
            f"{lab}.bench_board.{name} = {getattr(self.board, name)!r}" for name in names
        )

    # Inside.

    def _start(self, board: BenchBoard) -> None:
        if self._model is None:
            raise SessionError("no model is open to measure. Choose one first.")
        if self._work.is_busy:
            raise ValueError("a benchmark is going on. Stop it first.")
        model, settings, work = self._model, board.settings, self._work
        begin, tell, end = weakly(self._begun), weakly(self._told), weakly(self._ended)
        self.result = None
        board.fail("")
        board.show(None, "waiting")

        def told(result: BenchResult, share: float) -> bool:
            tell(result, share)
            return work.is_current()

        def measure() -> None:  # holds no board, and so no lab
            while _any_generates():
                if not work.is_current(REST):
                    raise Stopped("stopped before it began.")
            begin()
            with heard() as warned:
                try:
                    end(bench(model, progress=told, **settings), "finished", warned)
                except BenchStopped as stopped:
                    end(stopped.result, "stopped", warned)
                except BenchFailed as failed:
                    end(failed.result, "failed", [failed.why, *warned])

        work.submit(measure)

    def _stop(self, _: BenchBoard) -> None:
        self.stop()

    def _begun(self) -> None:
        self._is_beside = False
        self.board.show(None, "running")

    def _note_beside(self) -> None:
        if self.board.state == "running" and not self._is_beside:
            self._is_beside = True
            self.board.fail(BESIDE)

    def _told(self, result: BenchResult, share: float) -> None:
        if _any_generates():
            self._note_beside()
        if share - self.board.share >= STEP:
            self.result = result
            self.board.show(result, "running", share=share)

    def _ended(self, result: BenchResult, state: str, warned: Sequence[str]) -> None:
        self.result = result if result.rows else None
        share = 1.0 if state == "finished" else self.board.share
        self.board.show(self.result, state, share=share)
        if said := [*([BESIDE] if self._is_beside else []), *warned]:
            self.board.fail(" ".join(said))

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Stopped):
            self.board.show(self.result, "stopped")
            return
        self.board.show(self.result, "failed")
        self.board.fail(error)


def _any_generates() -> bool:
    """Whether a session of this process does, or is about to."""
    sessions = [session for model in Model.opened() for session in model.sessions]
    shown = [Gauges(session).read() for session in sessions]
    return any(one.n_active or one.n_waiting for one in shown)

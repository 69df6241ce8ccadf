"""A control vector learnt on a thread of its own, and what a form says of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.session import Session
from mullama_lab.errors import SessionError, Stopped
from mullama_lab.studies.control_vectors import Training, train
from mullama_lab.widgets import VectorTrainer
from mullama_lab.widgets._kept import weakly

STEP = 0.01  # of the work, between two messages to the page


class Learning:
    """Learns one vector at a time from the pairs in a form, and hands it on.

    Args:
        learnt: called with what was learnt, on a thread; what it raises is said in the form.
        owner: while it lives, this goes on.
    """

    def __init__(
        self, form: VectorTrainer, learnt: Callable[[Training], object], owner: object
    ) -> None:
        self.form, self._learnt = form, learnt
        self._session: Session | None = None
        self._work = LatestOnly("learning", weakly(self._failed))
        weakref.finalize(owner, self._work.close).atexit = False
        form.on_learn(weakly(self._start))
        form.on_stop(weakly(self._stop))

    def begin(self, session: Session) -> None:
        """Learn on the model of a session from now on."""
        self._session = session

    def end(self) -> None:
        """Learn nothing more on it; what is under way has ended then."""
        self.stop()
        self._work.settle()
        self._session = None

    def stop(self) -> None:
        """End what is under way, after the text that is being read."""
        self._work.drop()
        if not self._work.is_busy and self.form.state == "running":
            self.form.show("stopped")

    def settle(self) -> None:
        """Wait for its end; for code, not for callbacks."""
        self._work.settle()

    def close(self) -> None:
        """End it for good."""
        self._work.close()

    def _start(self, form: VectorTrainer) -> None:
        if self._session is None:
            raise SessionError("no model is open to learn on. Choose one first.")
        if self._work.is_busy:
            raise ValueError("a vector is being learnt. Stop it first.")
        session, pairs, name = self._session, form.pairs, form.name.strip()
        work, tell, show = self._work, weakly(self._tell), weakly(self._show)
        form.show("running")

        def told(share: float) -> bool:
            tell(share)
            return work.is_current()

        def learn() -> None:  # holds no form, and so no lab
            trained = train(pairs, on=session, name=name, progress=told)
            if not work.is_current():
                raise Stopped("stopped after the last text.")
            show(trained)

        work.submit(learn)

    def _stop(self, _: VectorTrainer) -> None:
        self.stop()

    def _tell(self, share: float) -> None:
        if share - self.form.share >= STEP:
            self.form.share = share

    def _show(self, trained: Training) -> None:
        self._learnt(trained)
        self.form.show("finished", share=1.0, said=f"Learnt {trained.summary()}.")

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Stopped):
            self.form.show("stopped")
            return
        self.form.show("failed")
        self.form.fail(error)

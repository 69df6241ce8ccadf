"""A session on its way to being open: fetched, loaded and opened on a thread of its own.

It is told of its progress, and may be stopped, without a word on the screen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from mullama_lab import hub
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.errors import LoadCancelled
from mullama_lab.warned import heard
from mullama_lab.widgets._session_code import opening_code, session_code

TOLD_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class Wanted:
    """What is to be opened.

    Args:
        source: what `Model.load` takes; or a Model, on which a session is opened; or a Session.
        n_ctx: tokens the session's context has room for; None as in `model.session`.
        n_gpu_layers: as in `Model.load`.
    """

    source: Any
    n_ctx: int | None = None
    n_gpu_layers: int = 0

    @property
    def label(self) -> str:
        """What it is called until its model says its own name."""
        if isinstance(self.source, Session):
            return self.source.model.name
        return self.source.name if isinstance(self.source, Model) else str(self.source)

    @property
    def code(self) -> str:
        """The Python that opens it."""
        if isinstance(self.source, Session):
            return session_code(self.source)
        room = {} if self.n_ctx is None else {"n_ctx": self.n_ctx}
        if isinstance(self.source, Model):
            return opening_code(self.source.source, self.source.options, room)
        layers = {"n_gpu_layers": self.n_gpu_layers} if self.n_gpu_layers else {}
        return opening_code(str(self.source), layers, room)


@dataclass(frozen=True, eq=False)
class Opened:
    """A session, and what was opened for it.

    Attributes:
        is_own: whether the session was opened, not shared.
        loaded: whether its model was loaded for it.
    """

    session: Session
    is_own: bool = False
    loaded: bool = False

    def close(self) -> None:
        """Close what was opened; a model on which others have opened sessions stays."""
        if self.is_own:
            self.session.close()
        if self.loaded and not self.session.model.sessions:
            self.session.model.close()


class Loading:
    """One attempt to open what is wanted.

    Args:
        tell: called with it on its thread, ten times a second, and once when it has ended.

    Attributes:
        phase: "fetching", "loading" or "opening".
        progress: how much is done of how much: bytes when fetching, thousandths when loading.
        opened: what came of it. error: why nothing did. warnings: what was warned of meanwhile.
    """

    def __init__(self, wanted: Wanted, tell: Callable[[Loading], object]) -> None:
        self.wanted = wanted
        self.phase = "fetching"
        self.progress = (0, 0)
        self.opened: Opened | None = None
        self.error: Exception | None = None
        self.warnings: list[str] = []
        self._tell = tell
        self._told = 0.0
        self._stopped = False
        self._ended = usable_in_forks(threading.Event())
        threading.Thread(target=self._work, name="mullama_lab loading", daemon=True).start()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped; what had been opened by then is closed."""
        return self._stopped

    def stop(self) -> None:
        """Open nothing any more; returns at once."""
        self._stopped = True

    def opened_or_stop(self) -> Opened:
        """Wait for its end, and for all who are told of it; Ctrl-C stops it.

        Raises:
            LoadCancelled: it was stopped. What else kept it from opening is raised too.
        """
        try:
            while not self._ended.wait(WAIT_STEP):  # in steps: not every interrupt ends a wait
                pass
        except BaseException:
            self.stop()
            raise
        if self.error is not None:
            raise self.error
        assert self.opened is not None
        return self.opened

    def _work(self) -> None:
        try:
            with heard() as self.warnings:
                self.opened = self._open()
            self._must_go_on()
            self._tell(self)
        except Exception as error:
            self._fail(error)
        finally:
            self._ended.set()

    def _fail(self, error: Exception) -> None:
        opened, self.opened, self.error = self.opened, None, error
        if opened is not None:
            opened.close()
        self._tell(self)

    def _open(self) -> Opened:
        wanted = self.wanted
        if isinstance(wanted.source, Session):
            wanted.source.must_be_open()
            return Opened(wanted.source)
        if isinstance(wanted.source, Model):
            return Opened(self._session(wanted.source), is_own=True)
        model = self._loaded(wanted)
        try:
            return Opened(self._session(model), is_own=True, loaded=True)
        except BaseException:
            model.close()
            raise

    def _loaded(self, wanted: Wanted) -> Model:
        hub.resolve(wanted.source, progress=self._heard)
        self._enter("loading", 1000)
        return Model.load(
            wanted.source,
            n_gpu_layers=wanted.n_gpu_layers,
            progress=lambda done: self._heard(round(1000 * done), 1000),
        )

    def _session(self, model: Model) -> Session:
        self._enter("opening", 0)
        return model.session(n_ctx=self.wanted.n_ctx)

    def _enter(self, phase: str, total: int) -> None:
        self._must_go_on()
        self.phase, self.progress = phase, (0, total)
        self._tell(self)

    def _must_go_on(self) -> None:
        if self._stopped:
            raise LoadCancelled(f"loading {self.wanted.label} was stopped.")

    def _heard(self, done: int, total: int) -> bool:
        self.progress = (done, total)
        if monotonic() - self._told > TOLD_EVERY:
            self._told = monotonic()
            self._tell(self)
        return not self._stopped

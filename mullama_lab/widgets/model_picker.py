"""ModelPicker: choose a model or a session, and see it load.

A choice is fetched, loaded and opened on a thread of its own; the newest choice wins. Those who
said `on_load` are called on that thread; what they refuse is said here, and the choice is closed.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.engine.model import Model
from mullama_lab.engine.options import whole
from mullama_lab.engine.session import Session
from mullama_lab.errors import ClosedError, LoadCancelled
from mullama_lab.glyphs import brief, one_line, visible
from mullama_lab.hub import DEFAULT_MODEL
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._kept import CLOSED, weakly
from mullama_lab.widgets._loading import Loading, Opened, Wanted
from mullama_lab.widgets._offers import Before, offers, source_of
from mullama_lab.widgets._session_code import session_code
from mullama_lab.widgets._view import Undo, View, short_text, whole_number

__all__ = ["ModelPicker"]
__dir__ = __all__.copy  # what tab completion offers

STATES = ("idle", "fetching", "loading", "opening", "stopping", "stopped", "failed", "open")
MOST_CTX = 1 << 24
MOST_LAYERS = 1 << 20
MOST_SOURCE = 4000  # characters
MOST_MESSAGE = 2000


class ModelPicker(View):
    """The catalogue, a path or an address, and what is open already; Load opens a session.

        picker = ModelPicker()
        picker.on_load(lambda opened: print(opened.session.n_ctx))
        session = picker.load("smollm2-135m", n_ctx=2048)

    Attributes:
        opened: what was picked last, with `session`, and `close()` for what was opened for it.
        at_work: the session that is at work where the picker stands; it is marked, and not held.
        n_runs: how many runs there are of its model; the picker says what becomes of them.
        before: models that were at work there, which are offered again with their runs.
    """

    _esm = _front_end.module("model_picker")
    _css = _front_end.style("model_picker")
    _work_states = ("fetching", "loading", "opening", "stopping")

    rows = traitlets.List(traitlets.Dict()).tag(sync=True)
    """What is offered: key, kind ("session", "model", "before", "catalogue"), name, and facts."""
    chosen = traitlets.Unicode(DEFAULT_MODEL).tag(sync=True)
    """The key of the row that was picked last, "" for a path or an address."""
    source = traitlets.Unicode("").tag(sync=True)
    """The path or address that was picked last."""
    n_ctx = traitlets.Int(0).tag(sync=True)
    """Room for tokens; 0 takes what the model was trained with, at most 4096."""
    n_gpu_layers = traitlets.Int(0).tag(sync=True)
    """Layers on the GPU, -1 for all."""
    state = traitlets.Enum(STATES, "idle").tag(sync=True)
    """What is going on with the choice."""
    progress = traitlets.List(traitlets.Int(), [0, 0]).tag(sync=True)
    """How much is done of how much: bytes while it is fetched, thousandths while it loads."""
    what = traitlets.Unicode("").tag(sync=True)
    """What is being loaded, or is open."""
    message = traitlets.Unicode("").tag(sync=True)
    """Why nothing was opened, or what was warned of."""
    may_leave = traitlets.Bool(False).tag(sync=True)
    """Whether there is something to go back to without a choice."""

    def __init__(self) -> None:
        self.opened: Opened | None = None
        self.at_work = None
        self.n_runs = 0
        self.before: Sequence[Before] = ()
        self._code = Wanted(DEFAULT_MODEL).code
        self._loading: Loading | None = None
        self._is_over = False
        self._lock = threading.RLock()  # what is on its way
        self._handing_over = threading.Lock()  # one choice after the other, the newest last
        super().__init__()
        self.refresh()

    # From Python

    @property
    def session(self) -> Session | None:
        """The session that was picked last; None before the first."""
        return None if self.opened is None else self.opened.session

    @property
    def model(self) -> Model | None:
        """The model of that session."""
        return None if self.session is None else self.session.model

    @property
    def at_work(self) -> Session | None:
        """The session that is at work where the picker stands; None for none."""
        return None if self._at_work is None else self._at_work()

    @at_work.setter
    def at_work(self, session: Session | None) -> None:
        self._at_work = None if session is None else weakref.ref(session)

    def on_load(self, callback: Callable[[Opened], object]) -> Undo:
        """Call `callback(opened)` when a choice is open, on another thread than the main one.

        Whoever takes it closes it: `opened.close()` closes what was opened for it. What the
        callback raises is said in the picker.
        """
        return self._listen("load", callback)

    def on_leave(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when a person goes back without a choice."""
        return self._listen("leave", callback)

    def refresh(self) -> None:
        """Look again at what is open and what is cached."""
        at_work = self.at_work
        here = None if at_work is None else at_work.model.source
        kept = {one.source: one.n_runs for one in self.before}
        rows = []
        for offer in offers(self.before).values():
            source, row = source_of(offer), dict(offer.row)
            if source == here:
                row |= {"at_work": offer.source is at_work, "same": True, "runs": self.n_runs}
            elif source in kept:
                row["runs"] = kept[source]
            rows.append(row)
        self.rows = rows

    def choose(self, source: str | Model | Session) -> None:
        """Mark a row, before a person does; nothing happens where none is of that source."""
        self.chosen = self._key_of(source) or self.chosen

    def start(
        self,
        source: str | Path | Model | Session,
        *,
        n_ctx: int | None = None,
        n_gpu_layers: int = 0,
    ) -> Loading:
        """Begin to open a choice and return at once; see `load`."""
        if not isinstance(source, (str, Path, Model, Session)):
            raise TypeError(
                f"{brief(source)} is no model: give a catalogue name, a path, "
                '"hf:owner/repo/file.gguf", or an open Model or Session.'
            )
        if n_ctx is not None:
            n_ctx = whole("n_ctx", n_ctx, 1, MOST_CTX)
        n_gpu_layers = whole("n_gpu_layers", n_gpu_layers, -1, MOST_LAYERS, " -1 means all.")
        with self._lock:
            if self._is_over:
                raise ClosedError(self.closed or CLOSED)
            self.stop()
            wanted = Wanted(source, n_ctx, n_gpu_layers)
            with self.hold_sync():
                self._note_choice(wanted)
            self._loading = Loading(wanted, weakly(self._hear))
            return self._loading

    def load(
        self,
        source: str | Path | Model | Session,
        *,
        n_ctx: int | None = None,
        n_gpu_layers: int = 0,
    ) -> Session:
        """Open a choice, in place of one that is on its way, and return its session.

        Ctrl-C or Stop ends it.

        Args:
            source: a catalogue name, a path, "hf:owner/repo/file.gguf"; or a Model, on which a
                session is opened; or a Session, which is shared.
            n_ctx: tokens its context has room for; None is what the model was trained with, at
                most 4096.
            n_gpu_layers: layers to put on the GPU, -1 for all.

        Raises: as `Model.load` and `model.session`.
        """
        return self.start(source, n_ctx=n_ctx, n_gpu_layers=n_gpu_layers).opened_or_stop().session

    def stop(self) -> None:
        """As the button: open nothing any more."""
        with self._lock:
            if self._loading is not None:
                self._loading.stop()
                if not self._is_over:
                    self.state = "stopping"

    def close(self, why: str = CLOSED) -> None:
        """Stop what is on its way; what was opened stays open."""
        with self._lock:
            self._is_over = True
            self.stop()
        super().close(why)

    def to_code(self) -> str:
        """Python that opens what was chosen last without a browser."""
        return f"import mullama_lab as ml\n\n{self._code}"

    # What happens

    def _note_choice(self, wanted: Wanted) -> None:
        source = wanted.source
        self.chosen = key = self._key_of(source)
        self.source = "" if key else str(source)
        self.n_ctx, self.n_gpu_layers = wanted.n_ctx or 0, wanted.n_gpu_layers
        self.what, self._code = _shown(wanted.label), wanted.code
        self.message, self.state, self.progress = "", "fetching", [0, 0]

    def _key_of(self, source: object) -> str:
        """The key of the row of a source, "" if there is none."""
        rows = offers(self.before).items()
        return next((key for key, o in rows if o.source is source or key == source), "")

    def _hear(self, loading: Loading) -> None:
        """Something is new of a choice, on its thread."""
        if loading.opened is not None:
            self._hand_over(loading, loading.opened)
            return
        with self._lock:
            if loading is not self._loading or self._is_over:
                return
            if loading.error is not None:
                self._say_failed(loading.error)
            elif not loading.stopped:
                with self.hold_sync():
                    self.state, self.progress = loading.phase, list(loading.progress)

    def _hand_over(self, loading: Loading, opened: Opened) -> None:
        """Give what was opened to those who said `on_load`, if nothing newer was asked for.

        What it raises closes it.
        """
        with self._handing_over:
            with self._lock:
                if loading is not self._loading or self._is_over:
                    raise LoadCancelled(f"{loading.wanted.label} was given up for another choice.")
            self._tell("load", opened)
            self.opened = opened
        with self._lock:
            if loading is self._loading and not self._is_over:
                self._loading = None
                self._code = session_code(opened.session)
                self.refresh()
                with self.hold_sync():
                    self.message = _shown(" ".join(loading.warnings))
                    self.state = "open"

    def _say_failed(self, error: Exception) -> None:
        self._loading = None
        stopped = isinstance(error, LoadCancelled)
        with self.hold_sync():
            self.message = "" if stopped else _shown(str(error) or type(error).__name__)
            self.state = "stopped" if stopped else "failed"

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op == "refresh":
            self.refresh()
        elif op == "load":
            self._request_load(args)
        elif op == "stop":
            self.stop()
        elif op == "leave":
            self._tell("leave")
        else:
            return super()._on_request(op, args)
        return {}

    def _request_load(self, args: dict[str, Any]) -> None:
        n_ctx = whole_number(args, "n_ctx", low=0, high=MOST_CTX)
        layers = whole_number(args, "n_gpu_layers", low=-1, high=MOST_LAYERS)
        source: str | Model | Session | object = args.get("source")
        if args.get("key"):
            offer = offers(self.before).get(short_text(args, "key"))
            if offer is None:
                self.refresh()
                raise ValueError("that is not open any more. Choose another one.")
            source = offer.source
        elif not isinstance(source, str) or not 0 < len(source.strip()) <= MOST_SOURCE:
            raise ValueError("write a path to a GGUF file, or hf:owner/repo/file.gguf.")
        else:
            source = source.strip()
        self.start(source, n_ctx=n_ctx or None, n_gpu_layers=layers)  # type: ignore[arg-type]

    # Without a browser

    def __repr__(self) -> str:
        about = f", {self.what}" if self.what else ""
        return f"ModelPicker({self.state}{about})"

    def _table(self) -> list[list[str]]:
        return [[row["name"], row["kind"], _facts(row)] for row in self.rows]

    def _plain_text(self) -> str:
        rows = [row for row in self._table() if row[1] == "catalogue"]
        said = [self.message] if self.message else []
        return "\n".join([repr(self), *said, *_static.in_columns(rows)])

    def _static_html(self) -> Element:
        e = _static.element
        table = _static.table(["name", "", "what"], self._table(), title="What is offered")
        said = e("div", self.message) if self.message else None
        return e("div", e("b", "Model "), e("span", self.what), said, table, style=_static.FONT)


def _facts(row: dict[str, Any]) -> str:
    if row["kind"] == "session":
        said = f": {row['text']}" if row["text"] else ""
        return f"session {row['number']}, {row['tokens']} of {row['n_ctx']} tokens{said}"
    return f"{row['what']}, {row['size'] / 1e6:.0f} MB"


def _shown(text: str) -> str:
    return one_line(visible(text))[:MOST_MESSAGE]

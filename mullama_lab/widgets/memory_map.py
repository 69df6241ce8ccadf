"""MemoryMap: what holds how many bytes, of llama.cpp's buffers, of the cache and of the process.

The session tells when it has nothing left to do, and its runs when anything is new of them; a
thread of the view looks then. Nothing is asked from the browser.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.counted import size_in_words
from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.options import instance
from mullama_lab.engine.session import Session
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._kept import CLOSED, weakly
from mullama_lab.widgets._memory_parts import wholes_of
from mullama_lab.widgets._view import View, what_failed

if TYPE_CHECKING:
    from mullama_lab.engine.loop.run import Run
    from mullama_lab.engine.memory import Memory

__all__ = ["MemoryMap"]
__dir__ = __all__.copy  # what tab completion offers

REST = 0.25  # seconds between two looks
DURING_A_RUN = 4.0  # seconds: a look takes Python some 80 ms, which the run would have
COLOURS = (  # translucent, for any page
    *("59,130,196", "217,119,6", "46,139,87", "176,69,127"),
    *("109,91,196", "194,73,47", "18,138,138", "133,122,21"),
)
GREYS = {"shared": 0.7, "others": 0.4, "free": 0.12}  # how dense


class MemoryMap(View):
    """What holds how many bytes: `session.memory` as a picture that follows the session.

        view = ml.widgets.MemoryMap(session)
        session.generate("Once upon a time")      # the cache fills before your eyes
        view.memory.kv_bytes

    It looks whenever the session has done what it was asked for, and every four seconds of a long
    run. The sizes of a process differ from run to run, so the plain form leaves them out.

    Args:
        session: whose memory to show; None shows an empty map.

    Raises:
        ClosedError: the session was closed.
        ModelLoadError: llama.cpp's log, which has the sizes, was not heard.
        TypeError: it is no Session.
    """

    _esm = _front_end.module("memory_map")
    _css = _front_end.style("memory_map")

    name = traitlets.Unicode("", help="What the model is called.").tag(sync=True)
    wholes = traitlets.List(
        traitlets.Dict(), [], help="Buffers, cache and process, each with its parts."
    ).tag(sync=True)
    problem = traitlets.Unicode("", help="Why it is not known how it is now.").tag(sync=True)

    def __init__(self, session: Session | None = None) -> None:
        self._lock = usable_in_forks(threading.RLock())
        self._session: Session | None = None
        self._memory: Memory | None = None
        self._looked_at = 0.0
        self._undo: list[Callable[[], None]] = []
        self._latest = LatestOnly("mullama-memory", weakly(self._failed), rest=REST)
        super().__init__()
        if session is not None:
            self.put_to(session)

    def put_to(self, session: Session | None) -> None:
        """Show the memory of another session from now on; None shows none."""
        memory = None if session is None else instance("session", session, Session).memory
        with self._lock, self.hold_sync():
            self.put_to_soon(session)
            if memory is not None:
                self._show(memory)

    def put_to_soon(self, session: Session | None) -> None:
        """As `put_to`, but return at once: what there is to show, or why there is nothing, comes.

        It raises nothing of the session's, so that a callback can call it.
        """
        with self._lock, self.hold_sync():
            self._let_go()
            self._session, self._memory = session, None
            self.wholes, self.name, self.problem = [], "", ""
            if session is None:
                return
            self.name = session.model.name
            self._undo = [
                session.on_rest(weakly(self._look_soon)),
                session.on_start(weakly(self._follow)),
            ]
            for run in session.runs:
                self._follow(run)
        self._look_soon()

    @property
    def memory(self) -> Memory | None:
        """The Memory that is shown, None before there is one."""
        return self._memory

    def settle(self) -> None:
        """Wait until what is known to have changed is shown; for code, not for callbacks."""
        self._latest.settle()

    def close(self, why: str = CLOSED) -> None:
        self._let_go()
        self._latest.close()
        super().close(why)

    # Inside.

    def _let_go(self) -> None:
        """Be told nothing more of the session."""
        while self._undo:
            self._undo.pop()()
        self._latest.drop()

    def _follow(self, run: Run) -> None:
        run.on_news(weakly(self._goes_on))

    def _goes_on(self) -> None:
        """A run has a token more: look, if that is long ago."""
        if monotonic() - self._looked_at > DURING_A_RUN:
            self._looked_at = monotonic()
            self._look_soon()

    def _look_soon(self) -> None:
        self._latest.submit(weakly(self._look))

    def _look(self) -> None:
        session = self._session
        if session is None:
            return
        memory = session.memory
        with self._lock:
            if session is self._session:
                self._show(memory)

    def _show(self, memory: Memory) -> None:
        self._looked_at = monotonic()
        with self.hold_sync():
            self.problem = ""
            self.wholes = wholes_of(memory)
            self._memory = memory

    def _failed(self, error: Exception) -> None:
        """Say why, unless it was put to another session."""
        if self._latest.is_current():
            self.problem = what_failed(error)

    # Without a browser

    def __repr__(self) -> str:
        if self._memory is None:
            return "MemoryMap()"
        held, used = (size_in_words(n) for n in (self._memory.total_bytes, self._memory.used_bytes))
        return f"MemoryMap({self.name}, {held} in buffers, {used} of the cache in use)"

    def _rows(self, *, of_process: bool) -> Iterator[list[str]]:
        """A row a part: of what, which, how large."""
        for whole in self.wholes if of_process else self.wholes[:-1]:
            for part in whole["parts"]:
                yield [whole["title"], part["label"], part["words"]]

    def _wait_to_show(self, seconds: float) -> None:
        shows = ("wholes", "problem", "name")
        self._wait_for(lambda: self.wholes or self.problem or not self.name, seconds, *shows)

    def _plain_text(self) -> str:
        rows = list(self._rows(of_process=False))
        text = _static.table_as_text(repr(self), ["of", "part", "size"], rows)
        return f"{self.problem}\n{text}" if self.problem else text

    def _static_html(self) -> Element:
        e = _static.element
        rows = list(self._rows(of_process=True))
        return e(
            "div",
            e("b", "Memory "),
            e("span", self.name or "of nothing yet"),
            e("div", self.problem) if self.problem else None,
            *[_picture(whole) for whole in self.wholes],
            _static.table(["of", "part", "size"], rows, title="Part by part"),
            style=_static.FONT,
        )


def _picture(whole: dict[str, Any]) -> Element:
    """A whole as a bar of its parts."""
    e, total = _static.element, whole["total"] or 1
    segments = []
    for part in whole["parts"]:
        look = part["look"]
        grey = GREYS.get(look)
        colour = f"rgba({COLOURS[look]},.65)" if grey is None else f"rgba(128,128,128,{grey})"
        style = f"background:{colour};height:10px;width:{part['bytes'] / total:.2%}"
        segments.append(e("div", style=style, title=f"{part['label']}: {part['words']}"))
    said = ", ".join(filter(None, [f"{whole['title']}: {whole['words']}", whole["note"]]))
    frame = "display:flex;max-width:480px;border:1px solid rgba(128,128,128,.5)"
    return e("div", e("div", said, style=_static.QUIET), e("div", *segments, style=frame))

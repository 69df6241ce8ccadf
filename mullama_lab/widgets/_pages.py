"""The pages that show a view or a lab, and the static forms that they save with their notebooks.

The JupyterLab extension of this package opens a channel for each output that has a live view, and
asks for the forms of the view as it is. They are made once nothing has changed for a moment and
nothing is going on, and sent where they are others than those sent last. Then the page must ask
again, so nothing is made for a page that is gone, nor for one without the extension.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from ipywidgets.widgets import widget as registry

from mullama_lab.engine.latest_only import LatestOnly

TARGET = "mullama-lab.still-forms"
"""What the extension calls its channels."""
REST = 0.5  # seconds without a change


class Part(Protocol):
    """A widget that lies in what is shown, or is it."""

    @property
    def _is_at_work(self) -> bool: ...


class Shown(Part, Protocol):
    """What an output shows."""

    @property
    def model_id(self) -> str: ...

    def _all_parts(self) -> Iterable[Part]: ...

    def _still_forms(self) -> dict[str, str]: ...


@dataclass(eq=False)
class _Page:
    """One output of one page: which forms it got last, as a hash, and whether it wants others."""

    channel: Any
    home: weakref.ref[Pages]
    got: int | None = None
    asks: bool = True

    def ask(self, _: object) -> None:
        self.asks = True
        if (pages := self.home()) is not None:
            pages.look_soon()

    def leave(self, _: object) -> None:
        if (pages := self.home()) is not None:
            pages.forget(self)


class Pages:
    """The pages that show one view or lab; it is held by that, and does not hold it.

    Whoever notes a change may be any thread, also one that generates: the forms are made on a
    thread of their own.
    """

    def __init__(self, shown: Shown) -> None:
        self._shown = weakref.ref(shown)
        self._pages: set[_Page] = set()
        self._changed_at = monotonic()
        self._waits = False  # whether a look is to come
        self._looks = LatestOnly("mullama-pages", lambda error: None)

    def add(self, channel: Any) -> None:
        """A page shows it from now on, and asks for the forms."""
        keep_subshell(channel)
        page = _Page(channel, weakref.ref(self))
        channel.on_msg(page.ask)
        channel.on_close(page.leave)
        self._pages.add(page)
        self.look_soon()

    def forget(self, page: _Page) -> None:
        """It shows it no longer."""
        self._pages.discard(page)

    def changed(self, part: Part) -> None:
        """Something has changed of a widget, which may lie in what is shown."""
        shown = self._shown()
        if shown is not None and self._asking() and any(one is part for one in shown._all_parts()):
            self._changed_at = monotonic()
            self.look_soon()

    def look_soon(self) -> None:
        """Make the forms once nothing has changed for a moment."""
        if not self._waits:
            self._waits = True
            self._looks.submit(self._look)

    def _look(self) -> None:
        while (left := self._changed_at + REST - monotonic()) > 0:
            if not self._looks.is_current(left):
                return
        self._waits = False  # first of all: what changes from here on is looked at again
        shown, asking = self._shown(), self._asking()
        if shown is None or not asking or any(part._is_at_work for part in shown._all_parts()):
            return  # what is at work changes something when it ends
        forms = shown._still_forms()
        now = hash(tuple(forms.items()))
        for page in asking:
            if page.got != now:
                page.got, page.asks = now, False
                page.channel.send(forms)

    def _asking(self) -> list[_Page]:
        return [page for page in tuple(self._pages) if page.asks]


_on_pages: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_all: tuple[weakref.ref[Pages], ...] = ()  # replaced as a whole: any thread may go through it
_lock = threading.Lock()


def offer(shown: Shown) -> None:
    """Let the pages that are to show something ask for its forms."""
    _on_pages[shown.model_id] = shown
    if (channels := registry.comm.get_comm_manager()) is not None:
        channels.register_target(TARGET, _opened)


def changed(part: Part) -> None:
    """Tell the pages that show a widget, or what it lies in, that it has changed."""
    for ref in _all:
        if (pages := ref()) is not None:
            pages.changed(part)


def keep_subshell(channel: Any) -> None:
    """Let the browser choose which shell answers it.

    ipykernel 7.4 sends the messages of a channel to the shell that published last on it:
    the main shell, where they wait until the running cell ends.
    """
    if hasattr(channel, "_reply_subshell_for"):
        channel._reply_subshell_for = lambda data, default: default


def _opened(channel: Any, message: dict[str, Any]) -> None:
    """A page opened a channel: it has a live view of what it names, or means to."""
    global _all
    data = message["content"].get("data")
    model_id = data.get("model_id") if isinstance(data, dict) else None
    shown = _on_pages.get(model_id) if isinstance(model_id, str) else None
    if shown is None:
        channel.close()
        return
    with _lock:
        if shown._shown_on is None:
            shown._shown_on = Pages(shown)
            _all = (*(ref for ref in _all if ref() is not None), weakref.ref(shown._shown_on))
    shown._shown_on.add(channel)

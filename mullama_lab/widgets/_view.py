"""What every view has: answers to the browser's requests, and three forms of display.

A subclass sets `_esm` and `_css` (see `_front_end`), and provides `_static_html`,
`_plain_text` and, when its browser half asks for something, `_on_request`.
Everything that arrives from the browser is untrusted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Container, Sequence
from typing import Any, ClassVar
from xml.etree.ElementTree import Element

import anywidget
import traitlets

from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _pages, _static
from mullama_lab.widgets._kept import Kept

log = logging.getLogger(__name__)
# A library is quiet until its user configures logging; a worker thread must never print.
logging.getLogger("mullama_lab").addHandler(logging.NullHandler())

Undo = Callable[[], None]
MOST_WORDS = 2000  # characters of what an error says

LIVE_OR_STILL = "application/vnd.mullama-lab.view+json"
"""Tells the JupyterLab extension of this package that an output has a live view and a static form.

Once the kernel is gone it shows the static one; other hosts pass over it.
"""


class WrongValue(traitlets.TraitError, ValueError):
    """What a trait cannot be: a ValueError to who sets it, and a TraitError to traitlets."""


class _Unsent(threading.local):
    """Traits that one thread changed inside `hold_sync` and has not sent yet."""

    def __init__(self) -> None:
        self.holding = False
        self.names: set[str] = set()


class View(Kept, anywidget.AnyWidget):
    """A live view with a static and a plain form.

    Display gives all three at once: the view where a browser half can run, `text/html`
    without script where it cannot, and a deterministic `text/plain`.
    """

    _work_states: ClassVar[Container[str]] = ()
    """What its trait `state` is while something goes on, such as a run."""

    closed = traitlets.Unicode("", help="Why nothing answers any more; empty while it does.").tag(
        sync=True
    )

    def __init__(self, **traits: Any) -> None:
        self._unsent = _Unsent()
        self._listeners: dict[str, dict[object, Callable[..., object]]] = {}
        try:
            super().__init__(**traits)
        except traitlets.TraitError as error:
            raise WrongValue(str(error)) from None
        _pages.keep_subshell(self.comm)

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except traitlets.TraitError as error:
            raise WrongValue(str(error)) from None
        except OverflowError:  # traitlets makes floats of whole numbers
            raise WrongValue(f"{name}={brief(value)}: the number is too large.") from None

    # `hold_sync`: ipywidgets has one set of unsent traits for all threads, here each has its own.

    @property
    def _holding_sync(self) -> bool:
        return self._unsent.holding

    @_holding_sync.setter
    def _holding_sync(self, holding: bool) -> None:
        self._unsent.holding = holding

    @property
    def _states_to_send(self) -> set[str]:
        return self._unsent.names

    # What a subclass provides

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        """Answer one request: a dict, or (dict, buffers). What it raises becomes the answer."""
        raise ValueError(f"{type(self).__name__} has no request {op!r}")

    def _static_html(self) -> Element:
        """The view as elements (`_static.element`): no script, styles inline."""
        return _static.element("pre", self._plain_text())

    def _plain_text(self) -> str:
        """The view as text: rounded, no addresses, no times."""
        return repr(self)

    def _wait_to_show(self, seconds: float) -> None:
        """Wait until it shows anything, for some seconds at most, if its first is on its way."""

    # What it does with them

    def _wait_for(self, shows: Callable[[], object], seconds: float, *names: str) -> None:
        """Wait until `shows()`, which traits of these names decide, for some seconds at most."""
        is_shown = threading.Event()

        def look(_: object = None) -> None:
            if shows():
                is_shown.set()

        self.observe(look, names)
        look()
        is_shown.wait(seconds)
        self.unobserve(look, names)

    def snapshot(self) -> None:
        """Put the static form in the notebook, where it stays when the kernel is gone."""
        from IPython.display import display

        display(self._still_forms(), raw=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def _repr_mimebundle_(self, **_: Any) -> Any:
        if self.comm is None:
            return self._still_forms(), {}
        self._live_on()
        _pages.offer(self)
        return all_forms(super()._repr_mimebundle_(), self._still_forms())

    def _still_forms(self) -> dict[str, str]:
        return still_forms([self])

    @property
    def _is_at_work(self) -> bool:
        return getattr(self, "state", "") in self._work_states

    def _say_closed(self, why: str) -> None:
        self.closed = why

    # Listeners

    def _listen(self, event: str, callback: Callable[..., object]) -> Undo:
        """Call `callback` at each `_tell(event, ...)`; returns what undoes it, also twice."""
        must_be_function(f"on_{event}", callback)
        listeners, key = self._listeners.setdefault(event, {}), object()
        listeners[key] = callback

        def undo() -> None:
            listeners.pop(key, None)

        return undo

    def _tell(self, event: str, *about: Any) -> list[object]:
        """Call the listeners of an event, in the order in which they registered.

        Returns what each of them returned.
        """
        return [callback(*about) for callback in tuple(self._listeners.get(event, {}).values())]

    def _must_be_heard(self, event: str) -> None:
        """Raise ValueError where nobody listens to an event."""
        if not self._listeners.get(event):
            raise ValueError(
                f"nothing listens to {event}. Say what it does with on_{event}(function)."
            )

    # What comes from the browser

    def _handle_custom_msg(self, content: Any, buffers: list[memoryview]) -> None:
        self._receive(self, content, buffers)
        super()._handle_custom_msg(content, buffers)

    def _receive(self, _: Any, content: Any, buffers: list[memoryview]) -> None:
        if not isinstance(content, dict) or content.get("kind") != "request":
            return
        request_id = content.get("id")
        if not isinstance(request_id, str) or len(request_id) > 64:
            log.warning("%s: a request without a usable id", type(self).__name__)
            return
        args = {key: value for key, value in content.items() if key not in ("kind", "id", "op")}
        reply, data = self._answer(content.get("op"), args)
        self.send({**reply, "kind": "reply", "id": request_id}, list(data))

    def _answer(self, op: Any, args: dict[str, Any]) -> tuple[dict[str, Any], Sequence[bytes]]:
        if op == "ping":
            return {"ok": True}, ()
        try:
            result = self._on_request(str(op), args)
        except (MullamaError, ValueError, TypeError) as error:
            log.info("%s: %s refused: %s", type(self).__name__, op, error)
            return {"ok": False, "error": str(error)}, ()
        except Exception as error:
            log.exception("%s: %s failed", type(self).__name__, op)
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}, ()
        reply, data = result if isinstance(result, tuple) else (result, ())
        return {**(reply or {}), "ok": True}, data


def all_forms(live: Any, still: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a cell shows and saves: the live view, and what stands in its place without a kernel.

    Args:
        live: what a widget's `_repr_mimebundle_` returned.
    """
    data, metadata = live if isinstance(live, tuple) else (live or {}, {})
    return {**data, LIVE_OR_STILL: {}, **still}, metadata


def still_forms(views: Sequence[View], first: str = "") -> dict[str, str]:
    """The static and the plain form of some views, one below the other.

    Args:
        first: a line that the static form begins with.
    """
    gap = "margin-bottom:12px"
    parts = [view._static_html() for view in views]
    if first:
        parts.insert(0, _static.element("div", first, style=f"{_static.FONT};{_static.QUIET}"))
    whole = (
        parts[0]
        if len(parts) == 1
        else _static.element("div", *[_static.element("div", part, style=gap) for part in parts])
    )
    return {
        "text/plain": "\n\n".join(view._plain_text() for view in views),
        "text/html": _static.to_html(whole),
    }


def whole_number(args: dict[str, Any], name: str, *, low: int, high: int) -> int:
    """A whole number out of a request, or a ValueError that names the range."""
    value = args.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(
            f"{name} is {brief(value)}; it must be a whole number from {low} to {high}"
        )
    return value


def what_failed(error: str | BaseException) -> str:
    """What an error says, or what it is where it says nothing; its beginning if that is long."""
    if not isinstance(error, (str, BaseException)):
        raise TypeError(f"{brief(error)} is no error and no text that says what failed.")
    return str(error)[:MOST_WORDS] or type(error).__name__


def short_text(args: dict[str, Any], name: str) -> str:
    """A text of 1 to 64 characters out of a request, such as a key."""
    value = args.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise ValueError(f"{name} is {brief(value)}; it must be a text of 1 to 64 characters")
    return value


def true_or_false(args: dict[str, Any], name: str) -> bool:
    """A truth value out of a request."""
    value = args.get(name)
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {brief(value)}; it must be true or false")
    return value


def must_be_function(name: str, callback: object) -> None:
    """A TypeError for what cannot be called."""
    if not callable(callback):
        raise TypeError(f"{name} takes a function, not {brief(callback)}")

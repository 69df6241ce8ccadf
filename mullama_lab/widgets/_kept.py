"""How long a widget lives: as long as somebody holds it or a cell shows it.

ipywidgets keeps every widget until it is closed, with all that its callbacks hold. Of a `Kept`
its registry has a weak reference: it dies with its last reference, and its layout with it. What a
cell shows is held until that cell runs again, for then its output was cleared.

A closed widget stays on the page where it was shown and says why: taking its comm away, as
ipywidgets does, would take it from the page without a word.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NoReturn

import ipywidgets
import traitlets
from IPython.utils.generics import complete_object
from ipywidgets.widgets import widget as registry

from mullama_lab.widgets import _cells, _pages

log = logging.getLogger(__name__)

CLOSED = "This view was closed. Run the cell again to go on."
GONE = "Nothing in Python holds this view any more. Run the cell again to go on."

OFFERED = ("add_class", "close", "layout", "observe", "remove_class", "unobserve")
"""What tab completion offers of that which every widget has."""


class Kept(ipywidgets.Widget):
    """A widget that nothing but its holders and the cells that show it keep alive."""

    from_browser: ClassVar[Iterable[str]] = ()
    """The traits that the browser half sets; each of them is checked, no other one is taken."""

    _was_shown = False
    _shown_on: _pages.Pages | None = None  # which ask for its static form
    _layout: ipywidgets.Layout | None = None  # made with it

    def __init__(self, *args: Any, **traits: Any) -> None:
        super().__init__(*args, **traits)
        self._layout = getattr(self, "layout", None)

    @traitlets.observe("comm")
    def _comm_changed(self, change: Any) -> None:
        """In place of ipywidgets', where the registry and the comm hold the widget."""
        if change["new"] is not None:
            self._model_id = self.model_id
            change["new"].on_msg(weakly(self._handle_msg))
            registry._instances[self.model_id] = _Registered(self)  # type: ignore[assignment]

    def notify_change(self, change: Any) -> None:
        super().notify_change(change)
        _pages.changed(self)

    @property
    def _is_at_work(self) -> bool:
        """Whether something goes on that it shows, such as a run, and will show the end of."""
        return False

    def _live_on(self) -> None:
        """Live on while the cell that runs shows it: until that runs again, or `close`."""
        here = _cells.current_run()
        if here is None or self.comm is None:
            return
        self._note_shown()
        _no_longer_shown(_shown.add(here, self))

    def _note_shown(self) -> None:
        """Note that it is on a page, with what lies in it."""
        for part in self._all_parts():
            part._was_shown = True

    def close(self, why: str = CLOSED) -> None:
        """Let go of it; where it is on a page it stays and says why nothing answers any more."""
        if self.comm is None:
            return
        _shown.discard(lambda shown: shown is self)
        layout, self._layout = self._layout, None
        if self._was_shown:
            self._say_closed(why)
            _leave_on_page(self, layout)
        else:
            super().close()
            vars(self).pop("_repr_mimebundle_", None)  # ipywidgets hides it behind None
            if layout is not None:
                layout.close()

    def __del__(self) -> None:
        if self.comm is not None and not sys.is_finalizing():
            self.close(GONE)

    def _say_closed(self, why: str) -> None:
        """Tell the page that it is closed."""

    def _all_parts(self) -> Iterator[Kept]:
        """It and what lies in it."""
        yield self
        for child in getattr(self, "children", ()):
            if isinstance(child, Kept):
                yield from child._all_parts()

    def __reduce__(self) -> NoReturn:  # what pickle asks
        raise TypeError(
            f"a {type(self).__name__} is a view in a page, so it cannot be copied or pickled. "
            "What it shows can, such as a Trace."
        )

    def __copy__(self) -> NoReturn:
        self.__reduce__()

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce__()

    def __dir__(self) -> list[str]:
        kinds = type(self).__mro__
        common = {name for kind in kinds[kinds.index(Kept) :] for name in vars(kind)}
        hidden = {name for name in common if not name.startswith("_")} - set(OFFERED)
        return [name for name in super().__dir__() if name not in hidden]

    # What comes from the browser

    def _handle_msg(self, msg: dict[str, Any]) -> None:
        """Take a message of any shape; one that is none of ipywidgets' is left alone."""
        try:
            data = whole_characters(msg.get("content", {}).get("data"))
        except RecursionError:
            log.info("%s: a message too deep to read", type(self).__name__)
            return
        method = data.get("method") if isinstance(data, dict) else None
        if method in ("update", "custom") and not self._was_shown:
            self._live_on()  # it is on a page after all: in a box of the person's own
        if method == "request_state":
            self.send_state()
        elif method == "update" and isinstance(data.get("state"), dict):
            self.set_state(data["state"])  # none of our traits comes in buffers
        elif method == "custom":
            self._handle_custom_msg(data.get("content"), msg.get("buffers", []))

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what the browser half sets, if it may; what is refused is put right over there."""
        taken = {name: value for name, value in sync_data.items() if name in self.from_browser}
        refused = {name for name in sync_data if name in self.keys} - set(taken)
        try:
            super().set_state(taken)
        except traitlets.TraitError as error:
            log.info("%s: refused: %s", type(self).__name__, error)
            refused |= set(taken)
        if refused:
            self.send_state(refused)


class _Registered:
    """A widget as ipywidgets' registry has it, which does not hold it.

    `Widget.close_all` goes through a copy of the registry: what was closed and let go with
    another widget meanwhile has nothing left to close.
    """

    __slots__ = ("_widget",)

    def __init__(self, widget: Kept) -> None:
        object.__setattr__(self, "_widget", weakref.ref(widget))

    def __getattr__(self, name: str) -> Any:
        widget = self._widget()
        if widget is not None:
            return getattr(widget, name)
        if name == "close":
            return lambda: None
        raise ReferenceError("the widget is gone: nothing in Python held it any more")

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._widget(), name, value)

    @property
    def __class__(self) -> type:  # type: ignore[override]  # ipywidgets asks isinstance
        return type(self._widget())


@complete_object.register(Kept)
def _offered(widget: Kept, found: list[str]) -> list[str]:
    """What IPython offers without Jedi, where it asks the class for more names."""
    return dir(widget)


class Shelf(Kept, ipywidgets.Box):
    """A box of our own views, which is shown and closed with what lies in it."""

    def __init__(self, children: Iterable[ipywidgets.Widget], *css_classes: str) -> None:
        super().__init__(tuple(children))
        for name in css_classes:
            self.add_class(name)

    @traitlets.observe("children")
    def _children_changed(self, _: Any) -> None:
        """Where a page shows it already, it shows what is put in it too."""
        if self._was_shown:
            self._note_shown()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self._live_on()
        return super()._repr_mimebundle_(**options) if self.comm is not None else None

    def close(self, why: str = CLOSED) -> None:
        """Close it and what lies in it."""
        if any(part._was_shown for part in self._all_parts()):  # also in a box of a person's own
            self._note_shown()
        for child in self.children:
            if isinstance(child, Kept):
                child.close(why)
        super().close(why)


class SharedTrait(Kept, ipywidgets.widgets.widget_link.Link):
    """Two views change a trait of the same name together, in the browser."""

    def __init__(self, one: Kept, other: Kept, name: str) -> None:
        super().__init__((one, name), (other, name))


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls a bound method as long as its object lives, and holds it not."""
    held = weakref.WeakMethod(method)

    def call(*arguments: Any) -> Any:
        alive = held()
        return None if alive is None else alive(*arguments)

    return call


def whole_characters(value: Any) -> Any:
    """The same with "\ufffd" for each half of a character, which could not be sent back.

    A page has them: half of an emoji, cut off in a text field.
    """
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {whole_characters(key): whole_characters(one) for key, one in value.items()}
    return [whole_characters(one) for one in value] if isinstance(value, list) else value


_shown: _cells.NewestRuns[Kept] = _cells.NewestRuns()


def _no_longer_shown(old: list[Kept]) -> None:
    """What only an earlier run of a cell showed lives on only where a person holds it."""
    still = {id(shown) for shown in _shown}
    _cells.forget_outputs([shown for shown in old if id(shown) not in still])


def _leave_on_page(*widgets: ipywidgets.Widget | None) -> None:
    """Forget widgets in the kernel and leave their other halves where they are."""
    for widget in widgets:
        if widget is None or widget.comm is None:
            continue
        channel = widget.comm
        registry._instances.pop(channel.comm_id, None)
        if (open_ones := registry.comm.get_comm_manager()) is not None:
            open_ones.comms.pop(channel.comm_id, None)
        channel._closed = True  # or it takes the view from the page when it dies
        channel.on_msg(None)
        widget.comm = None

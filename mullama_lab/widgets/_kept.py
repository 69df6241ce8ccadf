"""How long a widget lives: as long as somebody holds it or a cell shows it.

ipywidgets keeps every widget until it is closed, with all that its callbacks hold. Of a `Kept`
its registry has a weak proxy: it dies with its last reference, and its layout with it. What a
cell shows is held until that cell runs again, for then its output was cleared.

A closed widget stays on the page where it was shown and says why: taking its comm away, as
ipywidgets does, would take it from the page without a word.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import ipywidgets
import traitlets
from ipywidgets.widgets import widget as registry

from mullama_lab.widgets import _cells

log = logging.getLogger(__name__)

Shown = tuple[object, "Kept"]  # what a person displayed, and the widget that shows it

CLOSED = "This view was closed. Run the cell again to go on."
GONE = "Nothing in Python holds this view any more. Run the cell again to go on."


class Kept(ipywidgets.Widget):
    """A widget that nothing but its holders and the cells that show it keep alive."""

    from_browser: ClassVar[Iterable[str]] = ()
    """The traits that the browser half sets; each of them is checked, no other one is taken."""

    _was_shown = False
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
            registry._instances[self.model_id] = weakref.proxy(self)

    def _live_on(self, shown_as: object = None) -> None:
        """Live on while the cell that runs shows it: until that runs again, or `close`.

        Args:
            shown_as: what was displayed, if not the widget itself.
        """
        here = _cells.current_run()
        if here is None or self.comm is None:
            return
        for part in self._parts():
            part._was_shown = True
        shown = (self if shown_as is None else shown_as, self)
        _no_longer_shown(_shown.add(here, shown))

    def close(self, why: str = CLOSED) -> None:
        """Let go of it; where it is on a page it stays and says why nothing answers any more."""
        if self.comm is None:
            return
        _shown.discard(lambda shown: shown[1] is self)
        layout, self._layout = self._layout, None
        if self._was_shown:
            self._say_closed(why)
            _leave_on_page(self, layout)
        else:
            super().close()
            if layout is not None:
                layout.close()

    def __del__(self) -> None:
        if self.comm is not None and not sys.is_finalizing():
            self.close(GONE)

    def _say_closed(self, why: str) -> None:
        """Tell the page that it is closed."""

    def _parts(self) -> Iterator[Kept]:
        """It and what lies in it."""
        yield self
        for child in getattr(self, "children", ()):
            if isinstance(child, Kept):
                yield from child._parts()

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


class Shelf(Kept, ipywidgets.Box):
    """A box of our own views, and what lies in it.

    Attributes:
        owner: what is displayed as this box; lives as long as it does.
    """

    owner: object = None

    def __init__(self, children: Iterable[ipywidgets.Widget], css_class: str) -> None:
        super().__init__(tuple(children))
        self.add_class(css_class)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self._live_on(self.owner)
        return super()._repr_mimebundle_(**options) if self.comm is not None else None

    def close(self, why: str = CLOSED) -> None:
        """Close it and what lies in it."""
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


_shown: _cells.NewestRuns[Shown] = _cells.NewestRuns()


def _no_longer_shown(old: list[Shown]) -> None:
    """What only an earlier run of a cell showed lives on only where a person holds it."""
    still = {id(thing) for shown in _shown for thing in shown}
    things = [thing for shown in old for thing in shown if id(thing) not in still]
    _cells.forget_outputs(things)


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

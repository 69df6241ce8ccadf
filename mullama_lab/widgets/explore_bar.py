"""ExploreBar: look for the likeliest paths within a budget, and see whether the tree still fits.

The bar decodes nothing: it checks what was asked for and calls those who said `on_explore`,
`on_stop` and `on_trim`, which must return at once. They set its traits while they work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.counted import counted
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._view import Undo, View, what_failed, whole_number

__all__ = ["ExploreBar"]
__dir__ = __all__.copy  # what tab completion offers

MOST = {"budget": 2000, "length": 1000}
STATES = ("idle", "running", "finished", "stopped", "failed")


class ExploreBar(View):
    """A budget, Explore and Stop, and how far it is.

    >>> bar = ExploreBar(budget=32)
    >>> undo = bar.on_explore(lambda bar: print("explore", bar.budget, bar.length))
    >>> bar.explore()
    explore 32 8
    """

    _esm = _front_end.module("explore_bar")
    _css = _front_end.style("explore_bar")
    _work_states = ("running",)

    budget = traitlets.Int(64, help="Prefixes to go on from, and to find at most.").tag(sync=True)
    length = traitlets.Int(8, help="The most tokens of a path.").tag(sync=True)
    state = traitlets.Enum(STATES, "idle", help="What the exploration is doing.").tag(sync=True)
    message = traitlets.Unicode("", help="What was refused or failed, and why.").tag(sync=True)
    origin = traitlets.Unicode(
        "", help="The end of the path it would go on from; empty for the prompt."
    ).tag(sync=True)
    prompt = traitlets.Unicode("", help="The end of that prompt, where it is a text.").tag(
        sync=True
    )
    found = traitlets.Dict(
        help="expanded, prefixes, leaves, mass; shortest and longest leaf, how many are open."
    ).tag(sync=True)
    room = traitlets.List(
        traitlets.Int(), [0, 0], help="Tokens of the tree, and of the context."
    ).tag(sync=True)
    note = traitlets.Unicode("", help="How new branches are drawn.").tag(sync=True)

    def __init__(self, *, budget: int = 64, length: int = 8, note: str = "") -> None:
        super().__init__(budget=budget, length=length, note=note)

    def on_explore(self, callback: Callable[[ExploreBar], Any]) -> Undo:
        """Call `callback(bar)` when Explore is pressed; returns what undoes it."""
        return self._listen("explore", callback)

    def on_stop(self, callback: Callable[[ExploreBar], Any]) -> Undo:
        """Call `callback(bar)` when Stop is pressed."""
        return self._listen("stop", callback)

    def on_trim(self, callback: Callable[[ExploreBar], Any]) -> Undo:
        """Call `callback(bar)` when the tree is to be pruned until it fits."""
        return self._listen("trim", callback)

    def explore(self) -> None:
        """As the button: ask those who said `on_explore`."""
        self._call("explore")

    def stop(self) -> None:
        """As the button: tell those who said `on_stop`."""
        self._call("stop")

    def trim(self) -> None:
        """As the button: ask those who said `on_trim`."""
        self._call("trim")

    def fail(self, error: str | BaseException) -> None:
        """Say in the bar what was refused; an exploration that goes on is not touched."""
        self.message = what_failed(error)

    def forget(self) -> None:
        """Say nothing more of what was found or refused."""
        with self.hold_sync():
            self.state, self.message, self.found = "idle", "", {}

    def clear(self) -> None:
        """Show nothing, as before the first exploration."""
        with self.hold_sync():
            self.forget()
            self.origin, self.prompt, self.room = "", "", [0, 0]

    def to_code(self) -> str:
        """Python that explores with these settings, once `start` and `session` are there."""
        return (
            "from mullama_lab.studies.explore import explore\n\n"
            f"explore(start, on=session, budget={self.budget}, max_tokens={self.length})"
        )

    def __repr__(self) -> str:
        return (
            f"ExploreBar({self.state}, budget {self.budget}, up to {counted(self.length, 'token')})"
        )

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        if op == "set":
            name = args.get("name")
            if not isinstance(name, str) or name not in MOST:
                raise ValueError(f"an explore bar has no setting {brief(name)}")
            setattr(self, name, _in_range(name, args.get("value")))
            return {}
        if op in ("explore", "stop", "trim"):
            self.message = ""
            try:
                self._call(op)
            except (MullamaError, ValueError, TypeError) as error:
                self.fail(error)
            return {}
        return super()._on_request(op, args)

    @traitlets.validate("budget", "length")
    def _check_number(self, proposal: Any) -> int:
        try:
            return _in_range(proposal["trait"].name, proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None

    def _call(self, event: str) -> None:
        self._must_be_heard(event)
        self._tell(event, self)

    # Without a browser

    def _plain_text(self) -> str:
        lines = [repr(self), self._said(), self.message]
        return "\n".join(line for line in lines if line)

    def _said(self) -> str:
        if not self.found:
            return ""
        found = self.found
        return (
            f"{found['prefixes']} likeliest prefixes, {counted(found['leaves'], 'path')} "
            f"of at most {counted(found['longest'], 'token')} with "
            f"{found['mass']:.3%} of the model's probability; {found['open']} of them would go on"
        )

    def _static_html(self) -> Element:
        e = _static.element
        lines = [self._said(), self.note, self.message]
        return e("div", *[e("div", line) for line in lines if line], style=_static.QUIET)


def _in_range(name: str, value: object) -> int:
    return whole_number({name: value}, name, low=1, high=MOST[name])

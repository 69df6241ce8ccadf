"""Which panels of a workbench are shown, in which order, its model, and its file.

The browser half puts the boxes in order that carry the class `mll-panel-<key>` in the lab that
the bar stands in; this half holds what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict

import traitlets

from mullama_lab.engine.options import listed
from mullama_lab.glyphs import brief
from mullama_lab.widgets import _front_end
from mullama_lab.widgets._view import Undo, View, short_text, true_or_false

__all__ = ["PanelBar"]
__dir__ = __all__.copy  # what tab completion offers


class FileReply(TypedDict):
    """What came of Save or Open, or what they ask before they do it."""

    said: str
    asks: bool


class Files(Protocol):
    """What saves and opens by the name of a file; errors are shown as they are said."""

    def names(self) -> list[str]: ...
    def save(self, name: str, is_sure: bool) -> FileReply: ...
    def open(self, name: str, is_sure: bool) -> FileReply: ...


class PanelBar(View):
    """Tabs that show one panel, or several beside each other; the file and the model at their end.

    >>> bar = PanelBar({"samplers": "Samplers", "tree": "Tree"}, ["tree"])
    >>> bar.shown = ["tree", "samplers"]
    >>> bar
    PanelBar(tree, samplers)
    >>> bar.shown = ["inside"]
    Traceback (most recent call last):
        ...
    mullama_lab.widgets._view.WrongValue: 'inside' is no panel; there are samplers, tree.
    """

    _esm = _front_end.module("panel_bar")
    _css = _front_end.style("panel_bar")

    from_browser = ("shown",)

    titles = traitlets.Dict().tag(sync=True)
    """What each panel is called, by its key."""
    shown = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """The keys of those that are shown, from left to right; at least one."""
    model = traitlets.Unicode("").tag(sync=True)
    """The name of the model at work; a click on it asks for another one."""

    has_files = traitlets.Bool(False).tag(sync=True)
    """Whether there is a menu to save and open."""

    _files: Files | None = None

    def __init__(
        self, titles: Mapping[str, str] | None = None, shown: str | Sequence[str] = ()
    ) -> None:
        super().__init__(titles={} if titles is None else titles, shown=panel_keys(shown))

    def on_pick(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when another model is asked for; returns what undoes it."""
        return self._listen("pick", callback)

    def files_with(self, files: Files) -> None:
        """Have a menu that saves and opens with `files`."""
        self._files = files
        self.has_files = True

    def _ask_files(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if self._files is None:
            raise ValueError("nothing is said to save and open. Say what does with files_with.")
        if op == "files":
            return {"names": self._files.names(), "folder": str(Path.cwd())}
        act = self._files.save if op == "save" else self._files.open
        return dict(act(short_text(args, "name"), true_or_false(args, "is_sure")))

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op in ("files", "save", "open"):
            return self._ask_files(op, args)
        if op != "pick":
            return super()._on_request(op, args)
        self._must_be_heard("pick")
        self._tell("pick")
        return {}

    @traitlets.validate("shown")
    def _check_shown(self, proposal: Any) -> list[str]:
        keys = proposal["value"]
        for key in keys:
            if key not in self.titles:
                raise traitlets.TraitError(
                    f"{brief(key)} is no panel; there are {', '.join(self.titles)}."
                )
        if len(set(keys)) < len(keys) or (self.titles and not keys):
            raise traitlets.TraitError(
                f"panels is {brief(keys)}; it must name at least one, and none twice."
            )
        return keys

    def __repr__(self) -> str:
        return f"PanelBar({', '.join(self.shown)})"


def panel_keys(panels: str | Sequence[str]) -> list[str]:
    """The keys of one panel or of several; TypeError where they are none."""
    return listed("panels", [panels] if isinstance(panels, str) else panels, "panels")

"""VectorTrainer: pairs typed one a line, and a control vector that is learnt from them.

The form learns nothing: it reads the pairs and calls those who said `on_learn` and `on_stop`, who
must return at once. They set its traits while they work.
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
from mullama_lab.widgets._typed_pairs import EXAMPLE, UnreadablePair, typed_pairs
from mullama_lab.widgets._view import Undo, View, what_failed

__all__ = ["VectorTrainer"]
__dir__ = __all__.copy  # what tab completion offers

STATES = ("idle", "running", "finished", "stopped", "failed")
MOST = {"name": 100, "text": 200_000}  # characters


class VectorTrainer(View):
    """Contrasting pairs, Learn and Stop, and how far it is.

    >>> form = VectorTrainer("I am happy. | I am sad.\\nWhat luck! | What a pity!", name="happy")
    >>> undo = form.on_learn(lambda form: print("learn", form.name, "from", len(form.pairs)))
    >>> form.learn()
    learn happy from 2

    Args:
        text: a pair a line: the wanted text, a bar (|) or a tab, and the other text.
        name: what to call the vector.
    """

    _esm = _front_end.module("vector_trainer")
    _css = _front_end.style("vector_trainer")
    _work_states = ("running",)

    from_browser = ("unfolded",)

    name = traitlets.Unicode("", help="What to call the vector.").tag(sync=True)
    text = traitlets.Unicode("", help="The pairs as they are typed, one a line.").tag(sync=True)
    state = traitlets.Enum(STATES, "idle", help="What the training is doing.").tag(sync=True)
    share = traitlets.Float(0.0, help="The part that is done, 0 to 1.").tag(sync=True)
    said = traitlets.Unicode("", help="What came of it, in a line.").tag(sync=True)
    message = traitlets.Unicode("", help="What was refused or failed, and why.").tag(sync=True)
    line = traitlets.Int(0, help="The line of that, from 1; 0 where it is of no line.").tag(
        sync=True
    )
    unfolded = traitlets.Bool(True, help="Whether the form is unfolded.").tag(sync=True)

    def __init__(self, text: str = "", *, name: str = "") -> None:
        super().__init__(text=text, name=name)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(wanted text, other text), as they are typed.

        Raises:
            ValueError: a line has no two different texts, or there are fewer than two pairs.
        """
        pairs = typed_pairs(self.text)
        if len(pairs) < 2:
            raise ValueError(
                f"{counted(len(pairs), 'pair')}: there must be two at least, better eight or more; "
                f"one a line, {EXAMPLE}."
            )
        return pairs

    def on_learn(self, callback: Callable[[VectorTrainer], Any]) -> Undo:
        """Call `callback(form)` when Learn is pressed; returns what undoes it."""
        return self._listen("learn", callback)

    def on_stop(self, callback: Callable[[VectorTrainer], Any]) -> Undo:
        """Call `callback(form)` when Stop is pressed."""
        return self._listen("stop", callback)

    def learn(self) -> None:
        """As the button: ask those who said `on_learn`."""
        self._call("learn")

    def stop(self) -> None:
        """As the button: tell those who said `on_stop`."""
        self._call("stop")

    def show(self, state: str, *, share: float = 0.0, said: str = "") -> None:
        """Say what the training is doing, and nothing more of what was before."""
        with self.hold_sync():
            self.state, self.share, self.said = state, share, said
            self.message, self.line = "", 0

    def fail(self, error: str | BaseException) -> None:
        """Say what was refused; a training that goes on is not touched."""
        with self.hold_sync():
            self.message = what_failed(error)
            self.line = error.line if isinstance(error, UnreadablePair) else 0

    def __repr__(self) -> str:
        lines = [line for line in self.text.splitlines() if line.strip()]
        name = f"{self.name}, " if self.name else ""
        return f"VectorTrainer({name}{counted(len(lines), 'pair')}, {self.state})"

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        if op not in ("write", "learn", "stop"):
            return super()._on_request(op, args)
        with self.hold_sync():
            self.message, self.line = "", 0
            if op != "stop":
                self.name, self.text = _typed(args, "name"), _typed(args, "text")
        if op != "write":
            try:
                self._call(op)
            except (MullamaError, ValueError, TypeError) as error:
                self.fail(error)
        return {}

    @traitlets.validate("name", "text")
    def _check_text(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        if len(value) > MOST[name]:
            raise traitlets.TraitError(f"{name} has at most {MOST[name]} characters.")
        return value

    def _call(self, event: str) -> None:
        self._must_be_heard(event)
        self._tell(event, self)

    # Without a browser

    def _plain_text(self) -> str:
        return "\n".join(filter(None, [repr(self), self.said, self.message]))

    def _static_html(self) -> Element:
        e = _static.element
        if not self.text:
            return e("div")
        lines = [e("div", line) for line in (self.said, self.message) if line]
        pairs = e("pre", self.text, style=_static.QUIET) if self.text else None
        return e("div", e("b", repr(self)), pairs, *lines, style=_static.FONT)


def _typed(args: dict[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {brief(value)}; it must be a text")
    return value

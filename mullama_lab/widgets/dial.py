"""How strongly one adapter or control vector acts, and what that does to the next token.

Both distributions are computed in a session of the dial's own, so that neither the cache nor a
text under way in the given one is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import traitlets

from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.options import instance
from mullama_lab.engine.session import Session
from mullama_lab.engine.steering.steering import LoraOrVector, Steering, Weights
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._kept import weakly
from mullama_lab.widgets._levers import (
    SLIDER,
    Lever,
    Levers,
    checked_scale,
    in_words,
    steering_of,
)
from mullama_lab.widgets._next_token_effect import effect, table_rows
from mullama_lab.widgets._next_token_effect import in_words as effect_in_words
from mullama_lab.widgets._session_code import lever_code, to_be_saved
from mullama_lab.widgets._view import Undo, whole_number
from mullama_lab.widgets._view_aside import ViewAside

__all__ = ["Dial"]
__dir__ = __all__.copy  # what tab completion offers


class Dial(ViewAside):
    """One adapter or control vector: its strength, and the next token without it and with it.

        dial = ml.widgets.Dial(happy, on=session, prompt="The weather today is")
        dial.strength = 1.5
        dial.settle()
        dial.kl                    # nats, from the distribution at strength 0

    The two are those of the model before any chain. What is in force in the session stays so: the
    dial turns nothing there, unless somebody says so with `on_turn`.

    Args:
        what: a LoraAdapter or a ControlVector; None shows an empty dial.
        on: the Session whose model, and whose other settings, are used.
        prompt: a text or token ids.
        strength: 0 is not at all, and below 0 the other way.

    Raises:
        ModelFileError, ValueError: it is for another model, or the prompt does not fit.
    """

    _esm = _front_end.module("dial")
    _css = _front_end.style("dial")

    name = traitlets.Unicode("", help="What is turned; empty for nothing.").tag(sync=True)
    about = traitlets.Unicode("", help="What else acts, or what it is.").tag(sync=True)
    slider = traitlets.List(traitlets.Float(), list(SLIDER), help="The range of the slider.").tag(
        sync=True
    )
    strength = traitlets.Float(1.0, help="How strongly it acts.").tag(sync=True)
    where = traitlets.Unicode(
        "", help="Which step of a text it stands at; empty at the end of the prompt."
    ).tag(sync=True)

    def __init__(
        self,
        what: LoraOrVector | None = None,
        *,
        on: Session | None = None,
        prompt: Prompt = "Once upon a time",
        strength: float = 1.0,
    ) -> None:
        self._what: LoraOrVector | None = None
        self._tokens: list[int] = []
        self._others = Steering()
        super().__init__(strength=strength)
        if what is not None:
            self.put_to(what, instance("on", on, Session), prompt, strength=strength)

    # From Python

    def put_to(
        self,
        what: LoraOrVector,
        on: Session,
        prompt: Prompt,
        *,
        strength: float,
        others: Levers = (),
        where: str = "",
    ) -> None:
        """Turn another one, or have it stand after another prompt or beside others.

        Args:
            others: levers of what else may act, in both distributions.
            where: which step of a text that is, such as "step 5"; a button leads back from there
                to the end of the prompt. See `on_back`.
        """
        lever, tokens = Lever("", what), on.prompt_tokens(prompt)
        beside = steering_of(others)
        Weights.of(beside.plus(what, strength), on.model)
        with self._lock, self.hold_sync():
            self._work_beside(on)
            self._what, self._tokens, self._others = what, tokens, beside
            self.name, self.where = lever.name, where
            self.about = f"beside {words}" if (words := in_words(others)) else lever.about
            with self._placing():
                self.strength = strength
            self._ask()

    def clear(self) -> None:
        """Show nothing, and let go of the session."""
        with self._lock, self.hold_sync():
            self._latest.drop()
            self._let_go()
            self._what, self._rows = None, None
            self.name = self.about = self.where = self.problem = ""
            self.shown = {}

    @property
    def what(self) -> LoraOrVector | None:
        """The adapter or the vector that it stands for."""
        return self._what

    def on_turn(self, callback: Callable[[float], object]) -> Undo:
        """Call `callback(strength)` when it is turned; returns what undoes it."""
        return self._listen("turn", callback)

    def on_back(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when the end of the prompt is asked for; returns what undoes it."""
        return self._listen("back", callback)

    def to_code(self) -> str:
        """Python that makes it again, once `ml` and `session` are there."""
        if self._what is None:
            return "dial = ml.widgets.Dial()"
        given = f"on=session, prompt={self._tokens}, strength={self.strength!r}"
        made = f"dial = ml.widgets.Dial({lever_code(self._what)}, {given})"
        return "\n".join([*to_be_saved([Steering().plus(self._what, 1)]), made])

    # Inside.

    @traitlets.validate("strength")
    def _check_strength(self, proposal: Any) -> float:
        try:
            return checked_scale(proposal["value"])
        except ValueError as error:
            raise traitlets.TraitError(str(error)) from None

    @traitlets.observe("strength")
    def _turned(self, change: Any) -> None:
        self._ask()
        self._tell_turned(change["new"])

    def _ask(self) -> None:
        if self._what is not None:
            self._latest.submit(weakly(self._find))

    def _find(self) -> None:
        """Compute both rows and show them, unless it stands elsewhere by then."""
        with self._lock:
            what, rows, tokens, others = self._what, self._rows, self._tokens, self._others
            strength, where = self.strength, self.where
        if what is None or rows is None:
            return
        base = rows.row(tokens, others)
        row = rows.row(tokens, others.plus(what, strength))
        shown = effect(base, row, rows.like.model)
        with self._lock:
            if (what, tokens, others) == (self._what, self._tokens, self._others):
                with self.hold_sync():
                    self.problem = ""
                    self.shown = {**shown, "strength": strength, "where": where}

    # From the browser

    def _on_request(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if op == "back":
            self._must_be_heard("back")
            self._tell("back")
            return {}
        if op != "set":
            return super()._on_request(op, args)
        seq = whole_number(args, "seq", low=0, high=2**53)
        self.strength = checked_scale(args.get("value"))
        return {"seq": seq}

    # Without a browser

    def __repr__(self) -> str:
        if self._what is None:
            return "Dial()"
        return f"Dial({self._in_words()})"

    def _in_words(self) -> str:
        known = "" if self.kl is None else f": {effect_in_words(self.shown)}"
        where = self.where and f" at {self.where}"
        return f"{self.name} × {self.strength:g}{where}{known}"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        return ["token", "id", "at 0", f"at {self.shown.get('strength', 0):g}"], table_rows(
            self.shown
        )

    def _plain_text(self) -> str:
        return _static.table_as_text(repr(self), *self._table())

    def _static_html(self) -> Element:
        e = _static.element
        columns, rows = self._table()
        return e(
            "div",
            e("b", "Dial "),
            e("span", "of nothing yet" if self._what is None else self._in_words()),
            _static.table(columns, rows, title="Next token without it and with it"),
            style=_static.FONT,
        )

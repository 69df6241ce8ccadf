"""Views of tokens that a person can ban, or make likelier, by a key or a button.

They tell who listens; what it changes is up to the listener, such as a ChainEditor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import traitlets

from mullama_lab.widgets._view import Undo, View, true_or_false, whole_number

FAVOUR = 1.0  # what a favoured token's logit gains at a time


class TokenView(View):
    """A view whose tokens can be banned or favoured."""

    biases = traitlets.Bool(False, help="Whether somebody listens to bans and favours.").tag(
        sync=True
    )

    def on_bias(self, callback: Callable[[int, float], object]) -> Undo:
        """Call `callback(token, change)` when a token is to be likelier or less likely.

        The change is that of its logit: minus infinity to ban it, `FAVOUR` to favour it. A text
        that the callback returns, such as "banned", is said to the person.
        """
        forget = self._listen("bias", callback)
        self.biases = True

        def undo() -> None:
            forget()
            self.biases = bool(self._listeners["bias"])

        return undo

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        if op != "bias":
            return super()._on_request(op, args)
        self._must_be_heard("bias")
        token = whole_number(args, "token", low=0, high=2**31 - 1)
        told = self._tell("bias", token, -math.inf if true_or_false(args, "ban") else FAVOUR)
        return {"said": "; ".join(said for said in told if isinstance(said, str))}

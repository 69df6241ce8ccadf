"""The bytes of the tokens that a trace names: a trace outlives its model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from mullama_lab.errors import ClosedError


class TokenPieces:
    """The bytes of tokens: asked of the model while that is open, remembered from then on.

    Args:
        ask: the model's `piece`; None if there is no model any more.
        known: those that are remembered already.
    """

    def __init__(
        self, ask: Callable[[int], bytes] | None = None, known: Mapping[int, bytes] | None = None
    ) -> None:
        self._ask = ask
        self._known = dict(known or {})

    def of(self, token: int) -> bytes:
        """The bytes of a token; "<id>" if it was not remembered and the model is gone."""
        if token not in self._known and self._ask is not None:
            with suppress(ClosedError):
                return self._ask(token)
        return self._known.get(token, f"<{token}>".encode())

    def remember(self, tokens: Iterable[int]) -> None:
        """Take the bytes of these tokens from the model, if it is open."""
        ask = self._ask
        if ask is not None:
            with suppress(ClosedError):
                self._known.update((token, ask(token)) for token in tokens)

    def asking(self, ask: Callable[[int], bytes] | None) -> TokenPieces:
        """A copy that asks another model from now on."""
        return TokenPieces(ask, self._known)

    def __getstate__(self) -> dict[str, Any]:
        return {"_ask": None, "_known": self._known}

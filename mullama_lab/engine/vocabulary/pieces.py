"""How a record asks for the bytes of a token, of a model that may be gone by then."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from mullama_lab.errors import ClosedError

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model


def piece_of(model: Model) -> Callable[[int], bytes]:
    """`model.piece`, without keeping the model: a trace is a record."""
    reference = weakref.ref(model)

    def piece(token: int) -> bytes:
        model = reference()
        if model is None:
            raise ClosedError("the model of this trace is gone.")
        return model.piece(token)

    return piece

"""Where a grammar is in a text, as llguidance keeps it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.grammar.matching.errors import in_words


class PlaceInText(ABC):
    """A grammar on its way through one text.

    Args:
        work: llguidance's own.
        n_tokens: how many it knows.
    """

    def __init__(self, work: Any, n_tokens: int) -> None:
        self._work = work
        self._bits = np.zeros((n_tokens + 31) // 32, np.int32)

    @property
    def error(self) -> str:
        """Why it cannot go on; empty while it can."""
        return in_words(self._work.get_error())

    @property
    def is_complete(self) -> bool:
        """Whether the text may end here."""
        return self._work.is_accepting()

    @abstractmethod
    def copy(self) -> PlaceInText:
        """Another one at the same place."""

    def back(self, n: int) -> None:
        """Undo the last n tokens, none of which ended the text."""
        if n:
            self._work.rollback(n)

    def _mask(self, n: int) -> NDArray[np.bool_]:
        """Whether each of llguidance's first n tokens may come next."""
        bits = self._bits
        self._work.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        return np.unpackbits(bits.view(np.uint8), count=n, bitorder="little").view(np.bool_)

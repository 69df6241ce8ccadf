"""The rules in which the tokens of a text stand, as the text goes on and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

from mullama_lab.engine.grammar.spots import Spots
from mullama_lab.engine.grammar.walk.reading import IsToken, Reading


class FollowedText:
    """Our own reading of a text of tokens; of what two texts begin with it is not done again.

    Args:
        pieces: the bytes that each token adds to a text, by id.
    """

    def __init__(self, spots: Spots, pieces: Sequence[bytes], is_token: IsToken) -> None:
        self._spots, self._pieces, self._is_token = spots, pieces, is_token
        self._reading: Reading | None = None
        self._read: list[tuple[int, int]] = []  # each token that was read, and its place there

    def reading(self, tokens: Sequence[int]) -> Reading:
        """That of a text; `TooMuch` if it is."""
        if self._reading is None:
            self._reading = Reading(self._spots, self._is_token)
        alike = list(takewhile(lambda pair: pair[0][0] == pair[1], zip(self._read, tokens)))
        del self._read[len(alike) :]
        self._reading.back_to(self._read[-1][1] if alike else 0)
        for token in tokens[len(alike) :]:
            self._reading.take(self._pieces[token], token)
            self._read.append((token, self._reading.place))
        return self._reading

    @contextmanager
    def and_more(
        self, tokens: Sequence[int], more: bytes, token: int | None = None
    ) -> Iterator[tuple[Reading, int]]:
        """That of a text and some more bytes, which are a token or none, and the place of those.

        Raises:
            TooMuch: it is.
        """
        reading = self.reading(tokens)
        before = reading.place
        try:
            reading.take(more, token)
            yield reading, before
        finally:
            reading.back_to(before)

"""Where a text ends because of what it says: stop strings, and stop tokens.

A stop string is looked for in the text, across the borders of tokens. Where it names control
tokens ("<|im_end|>"), which add no text, it is also looked for in the text with these in it. A
stop token is an id: nothing but that token ends the text. Whatever ends it is left out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from mullama_lab.engine.options import Stop, stop_strings_and_tokens

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.trace import Trace

Symbols = tuple[int, ...]  # bytes, and control tokens as CONTROL + id
CONTROL = 256


@dataclass(frozen=True)
class Stops:
    """What ends a text.

    Attributes:
        patterns: stop strings, as they may come.
        tokens: ids.
    """

    patterns: tuple[Symbols, ...] = ()
    tokens: frozenset[int] = frozenset()

    @classmethod
    def of(cls, model: Model, stop: Stop) -> Stops:
        """What a caller gives.

        Raises:
            TypeError: it is neither a text nor a token id, nor a list of those.
            ValueError: a text is empty, or an id is not in the vocabulary.
        """
        strings, tokens = stop_strings_and_tokens(stop)
        patterns = (pattern for text in strings for pattern in _patterns(model, text))
        return cls(tuple(patterns), frozenset(map(model.vocabulary.check, tokens)))


def _patterns(model: Model, text: str) -> Iterator[Symbols]:
    data = text.encode("utf-8", "surrogatepass")
    yield tuple(data)
    try:
        tokens = model.tokenize(text, add_special=False, parse_special=True)
    except ValueError:  # a text that the vocabulary cannot write may still come byte by byte
        return
    symbols: list[int] = []
    at = 0
    for token in tokens:
        name = model.piece(token)
        if name and not model.piece(token, special=False):
            found = data.index(name, at)
            symbols += [*data[at:found], CONTROL + token]
            at = found + len(name)
    if symbols:
        yield (*symbols, *data[at:])


class StopSearch:
    """Follows one text and finds where it ends.

    What has come of a stop string that is not whole yet is no text for now: `n_safe`.
    """

    def __init__(self, stops: Stops) -> None:
        self.tokens = stops.tokens
        self.n_bytes = 0  # of the text so far
        self._searches = [_Search(pattern) for pattern in stops.patterns]

    def begin_after(self, trace: Trace) -> None:
        """Look also for what begins at the end of a text that is there already."""
        for token, text in zip(trace.tokens.tolist(), trace.step_bytes, strict=True):
            self._find(token, text)

    def find(self, token: int, text: bytes) -> int | None:
        """After how many bytes the text ends, given its newest token, or None.

        Args:
            text: the token's bytes; none of a control token.
        """
        found = self._find(token, text)
        if token in self.tokens:
            before = self.n_bytes - len(text)
            return before if found is None else min(found, before)
        return found

    @property
    def n_safe(self) -> int | None:
        """After how many bytes a stop string may begin that is not whole yet; None if nowhere."""
        n_held = max((search.n_held for search in self._searches), default=0)
        return self.n_bytes - n_held if n_held else None

    def _find(self, token: int, text: bytes) -> int | None:
        before = self.n_bytes
        self.n_bytes += len(text)
        found = [search.find(token, text, before) for search in self._searches]
        return min((at for at in found if at is not None), default=None)


class _Search:
    """How much of one pattern the text ends with (Knuth, Morris and Pratt's automaton)."""

    def __init__(self, pattern: Symbols) -> None:
        self.pattern = pattern
        self.shorter = _shorter(pattern)
        self.n_text = (0, *accumulate(symbol < CONTROL for symbol in pattern))
        self.controls = {symbol for symbol in pattern if symbol >= CONTROL}
        self.n = 0  # symbols of it

    @property
    def n_held(self) -> int:
        """Bytes at the end of the text that the pattern begins with."""
        return self.n_text[self.n]

    def find(self, token: int, text: bytes, before: int) -> int | None:
        """Where the pattern begins, if it is whole with this token; `before` are older bytes."""
        control = CONTROL + token
        symbols = text or ((control,) if control in self.controls else ())
        found = None
        for place, symbol in enumerate(symbols, 1):
            if self._is_whole_with(symbol) and found is None:
                found = before + (place if text else 0) - self.n_text[-1]
        return found

    def _is_whole_with(self, symbol: int) -> bool:
        pattern, n = self.pattern, self.n
        while n and pattern[n] != symbol:
            n = self.shorter[n]
        n += pattern[n] == symbol
        is_whole = n == len(pattern)
        self.n = self.shorter[n] if is_whole else n
        return is_whole


@lru_cache(maxsize=64)
def _shorter(pattern: Symbols) -> list[int]:
    """For each n, how long the longest shorter beginning is that the first n symbols end with."""
    found = [0, 0]
    for n in range(1, len(pattern)):
        k = found[n]
        while k and pattern[k] != pattern[n]:
            k = found[k]
        found.append(k + (pattern[k] == pattern[n]))
    return found

"""Stop strings: where a text ends because of what it says."""

from __future__ import annotations


class StopStrings:
    """Looks for stop strings in the newest bytes, also across the borders of tokens."""

    def __init__(self, stops: tuple[bytes, ...]) -> None:
        self.stops = stops
        self.longest = max(map(len, stops), default=0)
        self._tail = b""
        self._n_before = 0  # bytes of text before the tail

    def begin_after(self, text: bytes) -> None:
        """Look also for what begins at the end of a text that is there already."""
        self._tail = text[max(0, len(text) - self.longest + 1) :] if self.stops else b""
        self._n_before = len(text) - len(self._tail)

    def find(self, text: bytes) -> int | None:
        """Where in all the bytes so far a stop string begins, given the newest, or None."""
        if not self.stops:
            return None
        self._tail += text
        found = [at for stop in self.stops if (at := self._tail.find(stop)) >= 0]
        if found:
            return self._n_before + min(found)
        surplus = max(0, len(self._tail) - self.longest + 1)
        self._tail = self._tail[surplus:]
        self._n_before += surplus
        return None

"""What each step adds to the text of a trace, and where that text ends for now.

A step's text is the characters that its bytes complete, so the texts of all steps joined are the
text. What may yet turn out to be the beginning of a stop string is no text until it is known, and
neither is a character whose last byte has not come, also when none comes any more.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

LONGEST_CHARACTER = 4  # bytes in UTF-8


class StepTexts:
    """The bytes of each step, without those of control tokens. It grows with its trace.

    Attributes:
        end: (step, bytes of it) where the text ends, also a step that is still to come; None is
            after the newest.
    """

    def __init__(self, parts: Sequence[bytes] = (), end: tuple[int, int] | None = None) -> None:
        self.parts = list(parts)
        self.end = end
        self.n_bytes = sum(map(len, self.parts))

    def append(self, part: bytes) -> None:
        self.parts.append(part)
        self.n_bytes += len(part)

    def end_at(self, n_bytes: int | None) -> None:
        """Say that the text ends after so many bytes; it may be within the step to come."""
        if n_bytes is None:
            self.end = None
            return
        step, at = len(self.parts), self.n_bytes
        while at > n_bytes:
            step -= 1
            at -= len(self.parts[step])
        self.end = step, n_bytes - at

    @property
    def end_in_bytes(self) -> int | None:
        """What `end_at` was told; None if the text has no other end than its last step."""
        end = self.end
        return None if end is None else sum(map(len, self.parts[: end[0]])) + end[1]

    def n_settled(self, n: int) -> int:
        """How many of the first n steps have a text that will not change."""
        end = self.end
        return n if end is None else min(n, end[0])

    def joined(self, n: int) -> bytes:
        """The text of the first n steps."""
        end = self.end
        if end is None or end[0] >= n:
            return b"".join(self.parts[:n])
        return b"".join(self.parts[: end[0]]) + self.parts[end[0]][: end[1]]

    def part(self, step: int) -> bytes:
        """The bytes of a step that are text."""
        end, part = self.end, self.parts[step]
        if end is None or step < end[0]:
            return part
        return part[: end[1]] if step == end[0] else b""

    def of(self, step: int) -> str:
        """The characters that a step completes, U+FFFD for bytes that are part of none."""
        part = self.part(step)
        before = b""
        while part and step and len(before) < LONGEST_CHARACTER - 1:
            step -= 1
            before = self.parts[step] + before
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(before)
        return decoder.decode(part)

    def begun(self, n: int) -> StepTexts:
        """The first n steps, with all of their bytes."""
        return StepTexts(self.parts[:n])

    def sliced(self, a: int, b: int) -> StepTexts:
        """Steps a to b."""
        end = self.end
        if end is not None:
            end = (end[0] - a, end[1]) if end[0] >= a else (0, 0)
        return StepTexts(self.parts[a:b], end)


def decoded(data: bytes) -> str:
    """A text from its beginning; a character that is not complete at its end is left out."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)

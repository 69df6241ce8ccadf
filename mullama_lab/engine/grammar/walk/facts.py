"""What a GrammarWalk tells of one place, one token or one refusal, as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from mullama_lab.counted import counted
from mullama_lab.engine.grammar.walk.standing import Expected, Frame, joined

MOST_WORDS = 8  # things that a message says were expected
MOST_RULES = 9  # of a stack that a message names


class Place(NamedTuple):
    """A place in a text: bytes and characters before it, from 0; line and column, from 1."""

    byte: int
    char: int
    line: int
    column: int

    @classmethod
    def after(cls, data: bytes) -> Place:
        """The place behind some bytes; bytes that are no character yet count as one."""
        text = data.decode("utf-8", "replace")
        return cls(len(data), len(text), text.count("\n") + 1, len(text) - text.rfind("\n"))


class Forced(NamedTuple):
    """What must come next, and the tokens that the model's tokenizer makes of it.

    What comes after may make another token of the last of them.
    """

    text: str
    tokens: tuple[int, ...]


class WalkStep(NamedTuple):
    """One token of a walk.

    Attributes:
        token, text: its id, and its bytes as text in which nothing is hidden.
        start, end: the bytes of the text that it is.
        rules: the rules that took its bytes, in order; two or more where it spans a border.
    """

    token: int
    text: str
    start: int
    end: int
    rules: tuple[str, ...]


class AllowedToken(NamedTuple):
    """A token that may come next.

    Attributes:
        token, text: its id, and its bytes as text in which nothing is hidden.
        logprob: in nats in the row that was given; NaN without one.
        portions: its text in portions, with the rule that takes each; two or more where it spans a
            border between rules.
    """

    token: int
    text: str
    logprob: float
    portions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Refusal:
    """Why a text or a token went no further.

    Attributes:
        place: where it broke off; of a token that was refused, that may be within it.
        found: what stood there, in words.
        expected: what might have come there instead.
        stacks: the rules that the text stood in there, root first; some, where there are many.
        rest: the text from there on that was not taken.
        token: the token that was refused, or -1 if it was a text.
    """

    place: Place
    found: str
    expected: tuple[Expected, ...]
    stacks: tuple[tuple[Frame, ...], ...]
    rest: str
    token: int = -1

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, and what it says."""
        return {
            **asdict(self),
            "place": self.place._asdict(),
            "expected": [one.to_dict() for one in self.expected],
            "stacks": [[frame._asdict() for frame in stack] for stack in self.stacks],
            "message": str(self),
        }

    def __str__(self) -> str:
        rules = [frame.rule for frame in self.stacks[0]] if self.stacks else []
        if len(rules) > MOST_RULES:
            rules = [*rules[:2], "…", *rules[3 - MOST_RULES :]]
        within = f", in {' > '.join(rules)}" if rules else ""
        return (
            f"line {self.place.line}, column {self.place.column}: found {self.found}, expected "
            f"{expected_in_words(self.expected)}{within}."
        )


def expected_in_words(found: Iterable[Expected]) -> str:
    """What was expected, as a message says it: each thing once, whatever the rule."""
    words = list(dict.fromkeys(one.text for one in found))
    if len(words) > MOST_WORDS:
        words = [*words[: MOST_WORDS - 1], counted(len(words) - MOST_WORDS + 1, "other thing")]
    return joined(words) or "nothing"

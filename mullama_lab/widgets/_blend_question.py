"""What a BlendPad is about: two levers, a prompt, a target after it, and what acts besides."""

from __future__ import annotations

from dataclasses import dataclass

from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.scoring import split
from mullama_lab.engine.steering.steering import LoraOrVector, Steering
from mullama_lab.glyphs import brief


@dataclass(frozen=True)
class Question:
    """A map and what is known at its points hold as long as this stays the same.

    Attributes:
        prompt, target: token ids; no target is ().
    """

    levers: tuple[LoraOrVector, LoraOrVector]
    prompt: tuple[int, ...]
    target: tuple[int, ...]
    others: Steering

    @classmethod
    def of(
        cls,
        first: object,
        second: object,
        on: Session,
        prompt: Prompt,
        target: str,
        others: Steering,
    ) -> Question:
        """One for a session, checked.

        Raises:
            TypeError, ValueError: they are no two levers that differ. Else as `session.score`.
        """
        return cls(_two(first, second), *_tokens(on, prompt, target), others)

    def aimed(self, on: Session, prompt: Prompt, target: str) -> Question:
        """The same with another target."""
        return Question(self.levers, *_tokens(on, prompt, target), self.others)

    def steering(self, x: float, y: float) -> Steering:
        """What acts at a point."""
        first, second = self.levers
        return self.others.plus(first, x).plus(second, y)


def _two(first: object, second: object) -> tuple[LoraOrVector, LoraOrVector]:
    for one in (first, second):
        if not isinstance(one, LoraOrVector):
            raise TypeError(
                f"{brief(one)} is neither a LoraAdapter nor a ControlVector. Give two of them."
            )
    if first == second:
        raise ValueError(f"both are {brief(first)}. Give two that differ; a Dial turns one.")
    return first, second  # type: ignore[return-value]


def _tokens(on: Session, prompt: Prompt, target: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of a prompt and of a target after it."""
    if not target:
        return tuple(on.prompt_tokens(prompt)), ()
    before, after = split(on, target, prompt)
    return tuple(before), tuple(after)

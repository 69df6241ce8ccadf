"""A stage's settings: the rule for one number, with the slider that suits it, or for one text.

The check, the error message, the docstring and the editor all come from one line in the stage.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import Field, dataclass, field
from typing import Any

from mullama_lab.glyphs import brief


@dataclass(frozen=True)
class NumberRule:
    """The rule for one number of a stage, and the slider that suits it."""

    kind: str  # "int" or "float"
    low: float
    high: float
    slider: tuple[float, float]
    step: float
    scale: str  # "linear" or "log"
    help: str
    label: str = ""

    def check(self, owner: str, name: str, value: Any) -> int | float:
        """The value as a Python number, or the error that says what is wrong with it."""
        wanted = numbers.Integral if self.kind == "int" else numbers.Real
        if isinstance(value, bool) or not isinstance(value, wanted):
            kind = "a whole number" if self.kind == "int" else "a number"
            raise TypeError(f"{owner}({name}={brief(value)}): {name} must be {kind}. {self.help}")
        number: Any = value
        if not self.low <= number <= self.high:  # a NaN is neither
            raise ValueError(
                f"{owner}({name}={brief(value)}): {name} must be from {_plain(self.low)} to "
                f"{_plain(self.high)}. {self.help}"
            )
        return int(number) if self.kind == "int" else float(number) + 0.0  # -0.0 becomes 0.0


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


@dataclass(frozen=True)
class TextRule:
    """How a setting that is no number is written as text in an editor, and read back.

    Attributes:
        write: the text; None for what has none that `read` reads.
        longest: how many characters can be edited; what is longer is only shown.
        lines: whether it is written on several lines.
    """

    syntax: str
    read: Callable[[str], Any]
    write: Callable[[Any], str | None]
    longest: int = 1000
    lines: bool = False


def setting(
    default: Any,
    low: float,
    high: float,
    help: str,
    *,
    slider: tuple[float, float],
    step: float = 0.01,
    scale: str = "linear",
    kind: str = "float",
    label: str = "",
) -> Any:
    """A dataclass field that holds one number of a stage."""
    rule = NumberRule(kind, low, high, slider, step, scale, help, label)
    return field(default=default, metadata={"setting": rule})


def text_setting(default: Any, rule: TextRule) -> Any:
    """A dataclass field that holds no number, such as a list, edited as text."""
    return field(default=default, metadata={"text": rule})


def min_keep() -> Any:
    """The `min_keep` that every truncating stage takes."""
    return setting(
        0,
        0,
        1_000_000,
        "Never leave fewer candidates than this.",
        slider=(0, 20),
        step=1,
        kind="int",
    )


def as_docstring(kind: type, source: str) -> str:
    """What `TopK?` says besides its first line: the settings by their rules, and the source."""
    rules = {
        name: value.metadata["setting"]
        for name, value in vars(kind).items()
        if isinstance(value, Field) and "setting" in value.metadata
    }
    lines = [f"    {name}: {rule.help}" for name, rule in rules.items()]
    parts = ["\n".join(["Args:", *lines])] if lines else []
    parts += [f"Source: {source}"] if source else []
    return "".join(f"\n\n{part}" for part in parts)

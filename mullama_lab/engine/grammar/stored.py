"""What the texts of a grammar mean, in a file: a class or a function is named there, not kept."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from mullama_lab.engine.grammar.classes import name_of, value_of
from mullama_lab.engine.grammar.json_text import read_json
from mullama_lab.glyphs import brief

Reader: TypeAlias = Callable[[str], Any]

_WORDS = {
    "class": (
        "the text is a value of {0}, and a file has no classes. Make the grammar again, "
        "Grammar.of({0}), and let it parse(trace.text); trace.parsed_so_far is the plain JSON."
    ),
    "function": "the text is read by {0}, and a file has no functions. Call it with trace.text.",
    "calls": "the text calls tools: ask trace.tool_calls for them.",
}


@dataclass(frozen=True)
class Stored:
    """In place of what reads the texts of a grammar that was read from a file.

    Attributes:
        kind: "class", "function" or "calls".
        about: the name of the class or function, or plain values that describe calls.
    """

    kind: str
    about: Any

    @classmethod
    def of(cls, read: Reader) -> Stored:
        """What a file can have of it; what has a `to_dict` says so itself."""
        if isinstance(read, Stored):
            return read
        if isinstance(read, partial) and read.func is value_of:
            return cls("class", name_of(read.args[0]))
        if to_dict := getattr(read, "to_dict", None):
            return cls("calls", to_dict())
        return cls("function", getattr(read, "__qualname__", type(read).__qualname__))

    @classmethod
    def from_dict(cls, data: Any) -> Stored:
        """As `to_dict` wrote it; ValueError if it did not."""
        if isinstance(data, Mapping) and len(data) == 1:
            ((kind, about),) = data.items()
            if kind in _WORDS and isinstance(about, dict if kind == "calls" else str):
                return cls(kind, about)
        raise ValueError(f"{brief(data)} does not say how texts are read.")

    def to_dict(self) -> dict[str, Any]:
        return {self.kind: self.about}

    def __call__(self, text: str) -> Any:
        """TypeError, as it is not there; before that ValueError of a text that is cut off."""
        if self.kind == "class":
            read_json(text)
        raise TypeError(_WORDS[self.kind].format(self.about))


def picklable(read: Reader | None) -> Reader | None:
    """What reads the texts, or what a file would have of it: some classes cannot be pickled."""
    try:
        pickle.dumps(read)
    except (AttributeError, TypeError, pickle.PicklingError):
        return None if read is None else Stored.of(read)
    return read

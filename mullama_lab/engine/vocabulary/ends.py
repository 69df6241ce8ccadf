"""The tokens that begin and end a text: which a model adds, and that none is there twice.

llama.cpp adds them to a text that has them already and says so in its log; the second one moves
every number the model gives. Here a text that begins with the beginning-of-text token's name, as
"<s>Hello" does, has that token once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mullama_lab.warned import warn

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

_WITH_ENDS = (
    "SPM",
    "BPE",
    "UGM",
)  # vocabularies with a beginning and an end, if the file asks for it


def ends_of(model: Model) -> tuple[list[int], list[int]]:
    """The tokens that the model adds before a text, and those it adds after one.

    Raises:
        ValueError: it adds one that its vocabulary does not name, where llama.cpp aborts.
    """
    kind = model.vocab_type
    adds = {
        "bos": kind == "WPM" or (model.add_bos and kind in _WITH_ENDS),
        "eos": model.add_eos and kind in _WITH_ENDS,
        "sep": kind == "WPM",
    }
    tokens = {name: model.special_tokens.get(name) for name, added in adds.items() if added}
    missing = [name for name, token in tokens.items() if token is None]
    if missing:
        raise ValueError(
            f"{model.name} adds {' and '.join(missing)} to every text but has no such token. "
            "Pass add_special=False."
        )
    front = [token for name, token in tokens.items() if token is not None and name == "bos"]
    back = [token for name, token in tokens.items() if token is not None and name != "bos"]
    return front, back


def with_ends(tokens: list[int], ends: tuple[list[int], list[int]]) -> list[int]:
    """A text's tokens with those that begin and end it, each once at its place."""
    front, back = ends
    before = front if tokens[:1] != front else []
    after = back if tokens[-1:] != back else []
    return [*before, *tokens, *after]


def warn_of_two(model: Model, tokens: Sequence[int]) -> None:
    """Say it where a prompt begins with two beginning-of-text tokens."""
    if model.bos is not None and list(tokens[:2]) == [model.bos, model.bos]:
        name = model.piece(model.bos).decode("utf-8", "replace")
        warn(
            f"the prompt begins with {name!r} (token {model.bos}) twice, and {model.name} was "
            "trained on texts that begin with it once at most. Leave one out."
        )

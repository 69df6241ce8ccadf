"""The tokens that a stage was given by their ids, as a person reads them: by their pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from mullama_lab.engine.stages import Stage
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import piece_label

Spelling: TypeAlias = Callable[[int], bytes]  # the bytes of a token, such as `model.piece`

MAX_NAMED = 24  # tokens of one stage that are said; of the others, how many there are


def said_of_tokens(stage: Stage, spell: Spelling) -> str:
    """What a stage does to which tokens; empty if it was given none.

    >>> from mullama_lab.engine.stages import LogitBias
    >>> pieces = {1: b" leg", 2: b" the", 3: b"arm"}
    >>> said_of_tokens(LogitBias({1: float("-inf"), 2: 1.0, 3: float("-inf")}), pieces.__getitem__)
    'bans ·leg, arm; favours ·the (+1)'
    """
    groups: dict[str, list[str]] = {}
    named = stage.named()
    for token, does, by in named[:MAX_NAMED]:
        much = f" ({by})" if by else ""
        groups.setdefault(does, []).append(_label(token, spell) + much)
    return "; ".join([f"{does} {', '.join(said)}" for does, said in groups.items()] + _more(named))


def each_token(stage: Stage, spell: Spelling) -> str:
    """The same one by one with their ids, as in the text that a card edits.

    >>> from mullama_lab.engine.stages import LogitBias
    >>> each_token(LogitBias({1: float("-inf"), 2: 1.0}), {1: b" leg", 2: b" the"}.__getitem__)
    '1: bans ·leg; 2: favours ·the (+1)'
    """
    named = stage.named()
    return "; ".join(
        [
            f"{token}: {does} {_label(token, spell)}" + (f" ({by})" if by else "")
            for token, does, by in named[:MAX_NAMED]
        ]
        + _more(named)
    )


def named_in_brief(stage: Stage, spell: Spelling) -> str:
    """A stage as code, but for the tokens that it was given: those by their pieces.

    >>> from mullama_lab.engine.stages import LogitBias, TopK
    >>> [named_in_brief(stage, {1: b" a"}.__getitem__) for stage in (TopK(40), LogitBias({1: 2}))]
    ['TopK(40)', 'LogitBias(favours ·a (+2))']
    """
    said = said_of_tokens(stage, spell)
    return f"{type(stage).__name__}({said})" if said else repr(stage)


def _more(named: Sequence[object]) -> list[str]:
    return [f"and {len(named) - MAX_NAMED:,} more"] if len(named) > MAX_NAMED else []


def _label(token: int, spell: Spelling) -> str:
    try:
        return piece_label(spell(token))
    except (MullamaError, ValueError):  # the model is closed, or has no such token
        return f"<{token}>"

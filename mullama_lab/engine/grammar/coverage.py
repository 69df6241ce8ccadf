"""Coverage: which rules and alternatives of a grammar some texts use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mullama_lab.counted import counted
from mullama_lab.engine.grammar.gbnf.writer import right_side
from mullama_lab.engine.grammar.matching.byte_matcher import byte_matcher
from mullama_lab.engine.grammar.nodes import Choice, Node, Part, Token
from mullama_lab.engine.grammar.spots import Spots
from mullama_lab.engine.grammar.text_tokens import cut_at_names
from mullama_lab.engine.grammar.walk.reading import Reading, TooMuch
from mullama_lab.engine.grammar.walk.standing import ITSELF, uses
from mullama_lab.engine.options import listed, utf8
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    import pandas

UNREACHABLE = -1  # the spot of a rule that no text can meet


class Use(NamedTuple):
    """How often one rule, or one alternative in it, is used.

    Attributes:
        alternative: as GBNF writes it; empty for the rule itself.
        n_texts, n_uses: in how many texts, and how often in all of them.
    """

    rule: str
    alternative: str
    n_texts: int
    n_uses: int


@dataclass(frozen=True)
class Coverage:
    """Which rules and alternatives some texts use.

    A text that can be read in several ways counts in one of them.

    Attributes:
        uses: for each rule the rule itself, then its alternatives.
        n_texts: how many texts there were.
        refused: the places of those that are none of the grammar, which are not counted.
    """

    uses: tuple[Use, ...]
    n_texts: int
    refused: tuple[int, ...]

    @property
    def unused(self) -> list[Use]:
        """Those that no text uses."""
        return [use for use in self.uses if not use.n_uses]

    @property
    def alternatives(self) -> list[Use]:
        """The uses of each alternative, and of each rule that has but one: itself."""
        several = {use.rule for use in self.uses if use.alternative}
        return [use for use in self.uses if use.alternative or use.rule not in several]

    def to_pandas(self) -> pandas.DataFrame:
        """One row for each rule and each alternative; needs pandas."""
        import pandas as pd

        return pd.DataFrame(list(self.uses), columns=list(Use._fields))

    def __repr__(self) -> str:
        refused, alternatives = len(self.refused), self.alternatives
        told = f" ({refused} of them refused)" if refused else ""
        used = sum(1 for use in alternatives if use.n_uses)
        return (
            f"<Coverage by {counted(self.n_texts, 'text')}{told}: {used} of "
            f"{counted(len(alternatives), 'alternative')} used>"
        )


class Reader:
    """Reads whole texts of a grammar; the tokens that it names are those of that name.

    Raises:
        GrammarError: it names a token by its id, or any other one, which no text tells.
    """

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self.spots = Spots(rules)
        tokens = [node for node in self.spots.nodes if isinstance(node, Token)]
        if any(token.negated or not isinstance(token.name, str) for token in tokens):
            raise GrammarError(
                "the grammar names tokens by their ids, or any other one: which they are, no text "
                "tells without a model."
            )
        self._names = [str(token.name) for token in tokens]
        has_parts = any(isinstance(node, Part) for node in self.spots.nodes)
        self._guided = byte_matcher(rules) if has_parts else None

    def read(self, text: str) -> Reading | None:
        """The reading of a text; None if it is none of the grammar. `TooMuch` if it is."""
        if self._guided is not None:
            there, data = self._guided.copy(), text.encode()
            if there.take(data) < len(data) or not there.is_complete:
                return None
        reading = Reading(self.spots, lambda named, token: named.name == token)
        for data, name in cut_at_names(text, self._names):
            reading.take(data)
            if name:
                reading.take(b"", name)
            if not reading.is_alive:
                return None
        return reading if reading.is_complete else None


def coverage(rules: Mapping[str, Node], texts: Iterable[str]) -> Coverage:
    """See `Grammar.coverage`."""
    found = listed("texts", texts, "texts")
    reader = Reader(rules)
    n_texts, n_uses, refused = Counter[tuple[int, int]](), Counter[tuple[int, int]](), []
    for place, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"text {place} is {brief(text)}, which is no text.")
        utf8(f"text {place}", text)
        try:
            reading = reader.read(text)
        except TooMuch:
            raise GrammarError(
                f"text {place} takes too much to be read: it is too long, or the grammar has too "
                "many rules and alternatives for it."
            ) from None
        if reading is None:
            refused.append(place)
            continue
        used = uses(reading)
        n_uses.update(used)
        n_texts.update(used.keys())
    rows = [
        Use(rule, alternative, n_texts[key], n_uses[key])
        for rule, alternative, key in _rows(rules, reader.spots)
    ]
    return Coverage(tuple(rows), len(found), tuple(refused))


def _rows(rules: Mapping[str, Node], spots: Spots) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Each rule and alternative, and under what its uses are counted."""
    choices: dict[str, list[int]] = {}
    for spot, node in enumerate(spots.nodes):
        if isinstance(node, Choice):
            choices.setdefault(spots.rule_of[spot], []).append(spot)
    for rule in rules:
        yield rule, "", (spots.rule_spots.get(rule, UNREACHABLE), ITSELF)
        for choice in choices.get(rule, ()):
            node = spots.nodes[choice]
            assert isinstance(node, Choice)
            for item, spot in zip(node.items, spots.inside[choice], strict=True):
                yield rule, right_side(item), (choice, spot)

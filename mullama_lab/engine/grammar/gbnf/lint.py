"""What may be wrong with a grammar that can be read: each a warning with its place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from mullama_lab.engine.grammar import examples
from mullama_lab.engine.grammar.coverage import Reader
from mullama_lab.engine.grammar.gbnf.reader import rule_place
from mullama_lab.engine.grammar.nodes import Node, Part
from mullama_lab.engine.grammar.sizes import Sizes
from mullama_lab.engine.grammar.spots import Spots
from mullama_lab.engine.grammar.walk.reading import TooMuch
from mullama_lab.engine.grammar.walk.standing import read_twice
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import visible

N_READ = 150  # texts in which ambiguity is looked for
MOST_WORK = 40_000  # of reading all of them
LONGEST_READ = 60  # characters of one


class GrammarWarning(NamedTuple):
    """Something that may be wrong in a grammar.

    Attributes:
        line, column: where the rule begins, counted from 1.
        rule: its name.
        kind: "unreachable", "endless" or "ambiguous".
        message: what is the matter, in a sentence.
        example: of an ambiguity, a text of the grammar that can be read in two ways.
    """

    line: int
    column: int
    rule: str
    kind: str
    message: str
    example: str = ""


def warnings_of(rules: Mapping[str, Node], text: str) -> list[GrammarWarning]:
    """The warnings of rules that are written in a text, in its order."""
    found = [*_unreachable(rules), *_endless(rules), *_ambiguous(tuple(rules.items()))]
    return sorted(one._replace(**line_and_column(text, one.rule)) for one in found)


def line_and_column(text: str, rule: str) -> dict[str, int]:
    """Where a rule begins in a text that was read, counted from 1."""
    place = rule_place(text, rule)
    before = text[:place]
    return {"line": before.count("\n") + 1, "column": place - before.rfind("\n")}


def _unreachable(rules: Mapping[str, Node]) -> list[GrammarWarning]:
    reached = Spots(rules).rule_spots
    message = "no text can meet rule {!r}: root does not lead to it."
    return [
        GrammarWarning(0, 0, name, "unreachable", message.format(name))
        for name in rules
        if name not in reached
    ]


def _endless(rules: Mapping[str, Node]) -> list[GrammarWarning]:
    spots = Spots(rules)
    shortest = Sizes(spots).shortest
    message = "rule {!r} has no text that ends: every way through it goes on for ever."
    return [
        GrammarWarning(0, 0, name, "endless", message.format(name))
        for name, spot in spots.rule_spots.items()
        if spot not in shortest
    ]


@lru_cache(maxsize=16)
def _ambiguous(rules: tuple[tuple[str, Node], ...]) -> tuple[GrammarWarning, ...]:
    """A shortest example, of some texts drawn, for each rule in which one was read in two ways."""
    found: dict[str, tuple[str, str]] = {}
    if any(isinstance(node, Part) for _, node in rules):
        return ()  # how a part is read, llguidance alone knows
    try:
        reader, work = Reader(dict(rules)), 0
        for text in islice(examples.drawn(dict(rules), seed=0), N_READ):
            if work > MOST_WORK:
                break
            if len(text) > LONGEST_READ:
                work += len(text)  # of drawing it
                continue
            reading = reader.read(text)
            assert reading is not None
            work += reading.work
            twice = read_twice(reading)
            if twice is not None:
                known = found.get(twice.rule)
                if known is None or len(text) < len(known[0]):
                    part = reading.data[twice.start : twice.end].decode("utf-8", "replace")
                    found[twice.rule] = text, part
    except (GrammarError, TooMuch):
        pass  # it has no text to look at, or none that can be looked through
    return tuple(
        GrammarWarning(0, 0, rule, "ambiguous", _told(rule, text, part), text)
        for rule, (text, part) in found.items()
    )


def _told(rule: str, text: str, part: str) -> str:
    within = "" if part == text else f" of {visible(text)!r}"
    return f"rule {rule!r} can read {visible(part)!r}{within} in two ways."

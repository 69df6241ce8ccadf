"""Every spelling of some words, as one automaton over bytes.

A word is spelled with capitals or without, and an accented letter in one code point or in two.
Tokens may end in the middle of a character, so it is bytes that are followed here, and
characters are looked at only to tell where a word begins and ends.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property, lru_cache

ANYWHERE, AT_EDGE = 0, 1  # the two nodes that words begin from
MARGIN = 8  # bytes before a text's last `longest` that tell its first characters
# Scripts that are written without spaces, or whose words take endings: every place is an edge.
_JOINED = (
    *("CJK ", "HIRAGANA ", "KATAKANA", "HALFWIDTH ", "IDEOGRAPHIC ", "BOPOMOFO ", "HANGUL "),
    *("THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN "),
)


class Spellings:
    """The spellings of words: nodes, joined by bytes.

    Attributes:
        edges: for each node the nodes after a byte.
        ends: the nodes where a word is complete, and whether an edge must follow it there.
        longest: bytes of the longest spelling.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.edges: list[dict[int, list[int]]] = [{}, {}]
        self.ends: dict[int, bool] = {}
        self.longest = 0
        for word in words:
            self._add(unicodedata.normalize("NFC", word))

    def _add(self, word: str) -> None:
        node, size = AT_EDGE if in_word(word[0]) else ANYWHERE, 0
        for character in word:
            forms, following = spelled(character), self._node()
            for form in forms:
                self._join(node, form, following)
            node, size = following, size + max(map(len, forms))
        self.ends[node] = in_word(word[-1])
        self.longest = max(self.longest, size)

    def _node(self) -> int:
        self.edges.append({})
        return len(self.edges) - 1

    def _join(self, node: int, form: bytes, last: int) -> None:
        for byte in form[:-1]:
            following = self._node()
            self.edges[node].setdefault(byte, []).append(following)
            node = following
        self.edges[node].setdefault(form[-1], []).append(last)

    def open_after(self, text: bytes) -> list[int]:
        """The nodes where words that began in a text, or begin after it, may go on.

        Of a long text its last `longest + MARGIN` bytes are enough.
        """
        nodes: list[int] = []
        for i, byte in enumerate(text):
            starts = self._starts(text, i) if self._begins_with(byte) else ()
            nodes = [n for node in (*nodes, *starts) for n in self.edges[node].get(byte, ())]
        return [*(node for node in nodes if self.edges[node]), *self._starts(text, len(text))]

    def _starts(self, text: bytes, place: int) -> tuple[int, ...]:
        edge = not in_word(character_before(text, place))
        return (ANYWHERE, AT_EDGE) if edge else (ANYWHERE,)

    def _begins_with(self, byte: int) -> bool:
        return byte in self.edges[ANYWHERE] or byte in self.edges[AT_EDGE]

    def begun_inside(self, piece: bytes) -> int | None:
        """Where a word begins that is complete within a piece of text, but not at its beginning.

        Of several it is the one furthest behind, which depends least on the text before.
        """
        for start in reversed([match.start() for match in self._beginning.finditer(piece, 1)]):
            # Behind the rest of a character that the piece does not begin, an edge is possible.
            nodes = (ANYWHERE, AT_EDGE) if is_rest(piece[:start]) else self._starts(piece, start)
            if self._completes(nodes, piece, start):
                return start
        return None

    @cached_property
    def _beginning(self) -> re.Pattern[bytes]:
        """Finds where a word may begin by its first two bytes: most of a vocabulary has none."""
        choices = []
        for first in sorted({*self.edges[ANYWHERE], *self.edges[AT_EDGE]}):
            nodes = [n for root in (ANYWHERE, AT_EDGE) for n in self.edges[root].get(first, ())]
            second = {byte for node in nodes for byte in self.edges[node]}
            rest = b"[%s]" % b"".join(b"\\x%02x" % byte for byte in sorted(second))
            is_word = any(node in self.ends for node in nodes)
            choices.append(b"\\x%02x%s" % (first, b"" if is_word else rest))
        return re.compile(b"(?=%s)" % b"|".join(choices))

    def completed_behind(self, text: bytes, piece: bytes, start: int) -> bool:
        """Whether a word that begins at a place of a piece is complete in it, after this text."""
        return self._completes(self._starts(text + piece[:start], len(text) + start), piece, start)

    def _completes(self, nodes: Iterable[int], piece: bytes, place: int) -> bool:
        for i in range(place, len(piece)):
            nodes = [n for node in nodes for n in self.edges[node].get(piece[i], ())]
            if any(node in self.ends and self.is_whole(node, piece, i + 1) for node in nodes):
                return True
            if not nodes:
                break
        return False

    def is_whole(self, node: int, piece: bytes, place: int) -> bool:
        """Whether a word that is complete at a place of a piece does not go on there.

        Nothing more in the piece counts as its end, since what comes later is not known.
        """
        return not self.ends[node] or not in_word(character_after(piece, place))


@lru_cache(maxsize=4096)
def spelled(character: str) -> tuple[bytes, ...]:
    """The ways to write a character, case aside, in UTF-8.

    >>> [form.decode() for form in spelled("a")]
    ['A', 'a']
    """
    forms = {character, character.lower(), character.upper(), character.title()}
    forms.add(character.casefold())
    if "σ" in forms:
        forms.add("ς")
    forms |= {unicodedata.normalize("NFD", form) for form in forms}
    return tuple(sorted(form.encode() for form in forms))


@lru_cache(maxsize=4096)
def in_word(character: str) -> bool:
    """Whether a character next to a word makes it a part of a longer one."""
    if not character or unicodedata.name(character, "").startswith(_JOINED):
        return False
    is_mark = unicodedata.category(character)[0] == "M"
    return character.isalnum() or character == "_" or is_mark


def is_rest(data: bytes) -> bool:
    """Whether these bytes are the rest of a character whose beginning is missing."""
    return all(0x80 <= byte < 0xC0 for byte in data)


def character_before(text: bytes, place: int) -> str:
    """The character that ends at a place; "" at the beginning, and behind a broken one."""
    for first in range(place - 1, max(-1, place - 5), -1):
        if not 0x80 <= text[first] < 0xC0:
            return _one_character(text[first:place])
    return ""


def character_after(text: bytes, place: int) -> str:
    """The character that begins at a place; "" where none is whole."""
    if place == len(text):
        return ""
    end = place + 1
    while end < min(len(text), place + 4) and 0x80 <= text[end] < 0xC0:
        end += 1
    return _one_character(text[place:end])


def _one_character(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return ""
    return text if len(text) == 1 else ""

"""A marker in a text, after which a grammar begins: a text, a token or a regular expression.

It is looked for in the text with the names of control tokens in it, byte by byte: what counts is
the first place up to which there is a match, however the text is cut into tokens. What a token
has after that place is the beginning of what the grammar is about.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.grammar.grammar import Grammar
from mullama_lab.engine.grammar.matching.byte_matcher import byte_matcher
from mullama_lab.engine.grammar.matching.lark_writer import of_text, up_to
from mullama_lab.engine.grammar.matching.matcher import (
    Matcher,
    ends_of_generation,
    marker_matcher,
    matcher,
)
from mullama_lab.engine.grammar.matching.parts import checked_part
from mullama_lab.engine.grammar.nodes import Part
from mullama_lab.engine.options import LONGEST_STOP, utf8, whole
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

Marker: TypeAlias = "str | int | Grammar"  # a text, a token by its id, a regular expression

_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s"}
_FIRST_CONTINUING, _FIRST_LEADING, _LAST_LEADING = 0x80, 0xC2, 0xF4  # of the bytes of UTF-8


def marker_given(after: object) -> Marker:
    """What a caller gives, checked; a compiled regular expression becomes a Grammar.

    Raises:
        ValueError: an empty text, or one that cannot be written; GrammarError: a regular
            expression that llguidance does not take.
        TypeError: neither a text, a token id nor a regular expression.
    """
    if isinstance(after, re.Pattern):
        after = Grammar.regex(_expression(after))
    if isinstance(after, Grammar):
        checked_part(Part("regex", up_to(_expression_of(after))))
        return after
    if not isinstance(after, str):
        way_out = " A text, or a regular expression that re.compile made, will do too."
        return whole("after", after, 0, (1 << 31) - 1, way_out)
    utf8("after", after)
    if not 1 <= len(after) <= LONGEST_STOP:
        raise ValueError(
            f"after={brief(after)}: it has {len(after)} characters, and has 1 to {LONGEST_STOP}."
        )
    return after


def _expression(pattern: re.Pattern[str]) -> str:
    text = pattern.pattern
    if not isinstance(text, str) or pattern.flags & (re.ASCII | re.VERBOSE):
        raise ValueError(
            f"after={brief(pattern)}: it must be a regular expression of a str, without re.ASCII "
            "and re.VERBOSE."
        )
    flags = "".join(letter for flag, letter in _FLAGS.items() if pattern.flags & flag)
    return f"(?{flags}:{text})" if flags else text


def _expression_of(marker: str | Grammar) -> str:
    if isinstance(marker, str):
        return of_text(marker)
    root = dict(marker._rules)["root"]
    if len(marker._rules) > 1 or not isinstance(root, Part) or root.kind != "regex":
        raise ValueError(
            f"after={brief(marker)}: of grammars only a Grammar.regex(text) can be looked for."
        )
    return root.text


def end_of_marker(marker: str | Grammar, data: bytes) -> int | None:
    """How many bytes there are up to the end of a marker in a text; None where it is not there."""
    rules = {"root": Part("regex", up_to(_expression_of(marker)))}
    before = byte_matcher(rules)
    for place in range(len(data)):
        one = data[place : place + 1]
        if not before.take(one):  # it is no UTF-8, and no match goes across it
            before = byte_matcher(rules)
            if not before.take(one):
                before = byte_matcher(rules)
                continue
        if before.is_complete:
            return place + 1
    return None


class MarkerSearch:
    """Follows one text up to a marker.

    Raises:
        ValueError: the marker is found in no text at all, or in an empty one; it is a token that
            the model has not. GrammarError: see `matcher`.
    """

    def __init__(self, model: Model, grammar: Grammar, marker: Marker) -> None:
        self._model, self._grammar, self._marker = model, grammar, marker
        self._token = -1
        if isinstance(marker, int):
            self._token = model.vocabulary.check(marker)
            return
        self._expression = _expression_of(marker)
        self._pending = b""  # of a character that is not whole yet
        self._after_broken: dict[bytes, bool] = {}
        self._restart()
        if self._before.is_complete:
            raise ValueError(
                f"after={brief(marker)} matches an empty text, so the grammar would begin at once."
            )

    @property
    def error(self) -> str:
        """Why it cannot go on; empty while it can."""
        return "" if self._token >= 0 else self._with_grammar.error or self._before.error

    def _restart(self) -> None:
        self._before = marker_matcher(self._model, self._expression)
        self._with_grammar = matcher(self._model, self._grammar, self._expression)

    def accept(self, token: int) -> bytes | None:
        """What a token adds to the text after the marker; None if that has not come."""
        if self._token >= 0:
            return b"" if token == self._token else None
        name = self._model.piece(token)
        rest = self._follow(name)
        return rest if rest is None or self._adds_text(token) else b""

    def _adds_text(self, token: int) -> bool:
        return bool(token_texts(self._model).pieces[token])

    def _follow(self, data: bytes) -> bytes | None:
        """Go on by some bytes; those after the marker, or None."""
        for place, byte in enumerate(data):
            one = bytes([byte])
            if not self._before.accept_bytes(one):  # it is no UTF-8, and no match goes across it
                if self._before.error:
                    return None
                self._restart()
                self._pending = b""
                if not self._before.accept_bytes(one):
                    self._restart()
                    continue
            self._with_grammar.accept_bytes(one)
            self._pending = b"" if byte < _FIRST_CONTINUING else _incomplete(self._pending + one)
            if self._before.is_complete:
                return data[place + 1 :]
        return None

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token may come next; shape (n_vocab,).

        All may, but those with the end of the marker in them, and after it what the grammar does
        not begin with.
        """
        if self._token >= 0:
            return np.ones(self._model.n_vocab, np.bool_)
        vocabulary, pending = _vocabulary(self._model), self._pending
        allowed = self._with_grammar.allowed()
        allowed |= vocabulary.adds_nothing
        forbidden = np.flatnonzero(~allowed)
        # llguidance forbids what makes the text no UTF-8 too; the search begins anew with that.
        breaks = vocabulary.breaks_at_once(pending, forbidden)
        broken = forbidden[breaks]
        allowed[broken] = _free_at_first(self._model, self._grammar, self._expression)[broken]
        for token in vocabulary.may_break(pending, forbidden[~breaks]):
            allowed[token] = self.is_free(token)
        return allowed

    def is_free(self, token: int) -> bool:
        """Whether a token may come that llguidance forbids, perhaps only as it breaks UTF-8."""
        data = self._pending + token_texts(self._model).pieces[token]
        broken = _broken_part(data)
        if broken is None:
            return False
        if broken.start:  # a marker may end before that
            return self._may_go_on(data[len(self._pending) :], self._before.copy())
        rest = data[broken.stop :]
        if rest not in self._after_broken:
            self._after_broken[rest] = self._may_go_on(rest, None)
        return self._after_broken[rest]

    def _may_go_on(self, data: bytes, before: Matcher | None) -> bool:
        """Whether some bytes may come, the slow way; from the beginning, or from a place before."""
        search = MarkerSearch(self._model, self._grammar, self._marker)
        if before is not None:
            search._before, search._pending = before, self._pending
        rest = search._follow(data)
        return rest is None or matcher(self._model, self._grammar).accept_bytes(rest) == len(rest)


def _incomplete(data: bytes) -> bytes:
    """The beginning of a character that some bytes are; empty if they are all of it."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return data
    return b""


@once_per_model
def _free_at_first(model: Model, grammar: Grammar, expression: str) -> NDArray[np.bool_]:
    """Whether each token may begin a text."""
    search, vocabulary = MarkerSearch(model, grammar, Grammar.regex(expression)), _vocabulary(model)
    allowed = matcher(model, grammar, expression).allowed()
    allowed |= vocabulary.adds_nothing
    forbidden = np.flatnonzero(~allowed)
    breaks = vocabulary.breaks_at_once(b"", forbidden) | vocabulary.breaks[forbidden]
    for token in forbidden[breaks].tolist():
        allowed[token] = search.is_free(token)
    return allowed


class _Vocabulary:
    """What the search asks of all tokens.

    Attributes:
        adds_nothing: whether it adds to the text nothing that llguidance could take.
        breaks: whether a byte after its first makes the text no UTF-8, where it begins a character.
    """

    def __init__(self, model: Model) -> None:
        pieces = token_texts(model).pieces
        self.first = np.array([piece[0] if piece else 0 for piece in pieces], np.uint8)
        self.adds_nothing = np.array([not piece or piece[0] == 0xFF for piece in pieces])
        self.adds_nothing[list(ends_of_generation(model))] = True
        self.breaks = np.array([_broken_part(piece) is not None for piece in pieces])

    def breaks_at_once(self, pending: bytes, tokens: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether the first byte of each of some tokens makes the text no UTF-8."""
        first = self.first[tokens]
        continues = (first >= _FIRST_CONTINUING) & (first < 0xC0)
        if pending:
            return ~continues
        return (first >= _FIRST_CONTINUING) & ((first < _FIRST_LEADING) | (first > _LAST_LEADING))

    def may_break(self, pending: bytes, tokens: NDArray[np.intp]) -> list[int]:
        """Those of some tokens that may make the text no UTF-8 with a later byte."""
        return (tokens if pending else tokens[self.breaks[tokens]]).tolist()


def _broken_part(data: bytes) -> slice | None:
    """Where some bytes are no UTF-8, but for a character that is cut at their end."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return slice(error.start, error.end)
    return None


@once_per_model
def _vocabulary(model: Model) -> _Vocabulary:
    return _Vocabulary(model)

"""GrammarWalk: a grammar seen from inside while a text is put to it, token by token."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.grammar.grammar import Grammar
from mullama_lab.engine.grammar.matching.matcher import Matcher, matcher, token_id
from mullama_lab.engine.grammar.nodes import Part, Token, reached, walk
from mullama_lab.engine.grammar.spots import Spots
from mullama_lab.engine.grammar.text_tokens import cut_at_names, tokens_of
from mullama_lab.engine.grammar.walk.facts import (
    AllowedToken,
    Forced,
    Place,
    Refusal,
    WalkStep,
    expected_in_words,
)
from mullama_lab.engine.grammar.walk.followed import FollowedText
from mullama_lab.engine.grammar.walk.reading import TooMuch
from mullama_lab.engine.grammar.walk.standing import (
    Expected,
    Frame,
    Portion,
    expected,
    in_words,
    portions,
    stacks,
)
from mullama_lab.engine.options import listed, utf8, whole
from mullama_lab.engine.vocabulary.one_token import one_token
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.glyphs import brief, one_line, visible, visible_piece

if TYPE_CHECKING:
    import pandas

    from mullama_lab.engine.model import Model

MOST_FORCED = 4000  # bytes of a forced text
MOST_SHOWN = 100_000  # tokens that are listed


class GrammarWalk:
    """A grammar seen from inside while a text is put to it, token by token, forth and back.

        walk = GrammarWalk(Grammar.gbnf('root ::= "yes" | "no" "!"'), model)
        walk.feed("nope")                # False
        print(walk.refusal)              # line 1, column 3: found `p`, expected `!`, in root.
        walk.allowed(), walk.forced, walk.stacks

    What may come is what llguidance allows, as in a generation. In which rules a text stands, and
    what they expect, is found by a reading of our own, which knows every way to read the text at
    once; over GBNF the two never disagree. Of a part in JSON Schema, a regular expression or Lark
    it knows the rule that it is, and the characters with which it goes on.

    Where the grammar names a token, as `<think>`, that name in a text is that token.

    Args:
        model: whose tokens; one loaded with `vocab_only=True` will do.

    Attributes:
        refusal: a Refusal if the newest text or token was not taken whole, else None.

    Raises:
        GrammarError: llguidance cannot carry the grammar out, or it names a token that the model
            has not.
        ValueError: the model has no vocabulary.
    """

    def __init__(self, grammar: Grammar, model: Model) -> None:
        if not isinstance(grammar, Grammar):
            raise TypeError(f"a walk is through a Grammar, not {brief(grammar)}.")
        self.grammar, self.model = grammar, model
        self.refusal: Refusal | None = None
        self._pieces = token_texts(model).pieces
        self._first = matcher(model, grammar)
        rules = dict(grammar._rules)
        nodes = [n for body in reached(rules, "root").values() for n in walk(body)]
        self._has_parts = any(isinstance(node, Part) for node in nodes)
        self._named = {n.name: token_id(model, n) for n in nodes if isinstance(n, Token)}
        self._followed = FollowedText(Spots(rules), self._pieces, self._is_token)
        self.reset()

    def _is_token(self, named: Token, token: int | str) -> bool:
        return (self._named[named.name] == token) != named.negated

    # Going.

    def feed(self, text: str | Iterable[int]) -> bool:
        """Go on with a text, or with tokens, as far as the grammar lets it; whether all of it.

        Of a text that is refused the whole characters before that place are taken.

        Raises:
            ValueError: the text has a lone surrogate; or no token of the model is a part of it.
            TypeError: it is neither; for bytes there is `feed_bytes`.
        """
        if not isinstance(text, str):
            return all(self.step(token) for token in listed("the text", text, "tokens"))
        utf8("the text", text)
        names = [name for name in self._named if isinstance(name, str)]
        self._move()
        for data, name in cut_at_names(text, names):
            if not self._feed(data) or (name and not self.step(self._named[name])):
                return False
        return True

    def feed_bytes(self, data: bytes) -> bool:
        """Go on with bytes, of which the last may begin a character; see `feed`."""
        if not isinstance(data, bytes):
            raise TypeError(f"{brief(data)} is no bytes; `feed` takes texts and tokens.")
        self._move()
        return self._feed(data)

    def step(self, token: int | str) -> bool:
        """Go on with one token, an id or its text; False if it is refused, and nothing moves."""
        token = one_token(self.model, token)
        self._move()
        if self._accept(token):
            return True
        self.refusal = self._refused(self._pieces[token], token)
        return False

    def back(self, n: int = 1) -> None:
        """Undo the last n steps, each a token.

        Raises:
            ValueError: there are fewer.
        """
        n = whole("n", n, 0, len(self._tokens))
        undone = self._tokens[len(self._tokens) - n :]
        self._move()
        del self._tokens[len(self._tokens) - n :]
        self._matcher.back(len(undone) - (self._is_ended and n > 0))
        self._is_ended &= n == 0

    def reset(self) -> None:
        """Go back to before the first token."""
        self._move()
        self._tokens: list[int] = []
        self._is_ended = False
        self._matcher = self._first.copy()

    def go_to(self, text: str) -> bool:
        """`reset`, then `feed`; of what both texts begin with, the rules are not read again."""
        self.reset()
        return self.feed(text)

    def _move(self) -> None:
        self.refusal = None
        for name in ("mask", "_standing", "forced"):
            self.__dict__.pop(name, None)

    def _accept(self, token: int) -> bool:
        if self._is_ended:
            return False
        if self.model.is_eog(token):
            self._is_ended = self.is_complete
            if not self._is_ended:
                return False
        elif not self._matcher.accept(token):
            return False
        self._tokens.append(token)
        return True

    def _feed(self, data: bytes) -> bool:
        # A grammar that names tokens may want some of the text as tokens.
        n = len(data) if self._named else self._n_taken(data)
        for token in tokens_of(self.model, data[:n]):
            if not self._accept(token):
                break
            data = data[len(self._pieces[token]) :]
        if data:
            self.refusal = self._refused(data, -1)
        return not data

    def _n_taken(self, data: bytes) -> int:
        """How many of some bytes may come here, up to the end of a character."""
        if self._is_ended:
            return 0
        n = self._matcher.copy().accept_bytes(data)
        while 0 < n < len(data) and 0x80 <= data[n] < 0xC0:
            n -= 1
        return n

    def _refused(self, data: bytes, token: int) -> Refusal:
        n = self._n_taken(data)
        wanted, rows = self._standing_after(data[:n])
        rest = data[n:].decode("utf-8", "replace")
        found = f"`{one_line(visible(rest[:1]))}`"
        if token >= 0 and self.model.is_eog(token):
            found = "the end"
        elif not rest:
            found = f"the token {visible_piece(self.model.piece(token))}"
        elif self._is_too_much(data):
            found += ", which is too much for llguidance after this text"
        if self._is_ended:
            wanted = []
        place = Place.after(self.text_bytes + data[:n])
        return Refusal(place, found, tuple(wanted), tuple(rows), rest, token)

    def _is_too_much(self, data: bytes) -> bool:
        """Whether the rules allow what llguidance refuses: it has limits of its own."""
        if self._is_ended:
            return False
        n = (there := self._matcher.copy()).accept_bytes(data)
        if there.error:
            return True
        if self._has_parts or self._named:
            return False
        try:
            with self._followed.and_more(self._read_tokens, data[: n + 1]) as (reading, _):
                return n < len(data) and reading.is_alive
        except TooMuch:
            return False

    # The rules.

    @property
    def _read_tokens(self) -> list[int]:
        """The tokens so far that are text."""
        return self._tokens[: len(self._tokens) - self._is_ended]

    def _standing_after(self, more: bytes) -> tuple[list[Expected], list[tuple[Frame, ...]]]:
        """What is expected after some more bytes, and the stacks of rules there."""
        there = self._matcher.copy()
        there.accept_bytes(more)
        allowed = there.allowed_bytes()
        told = (allowed, there.is_complete) if self._has_parts else (None, None)
        try:
            with self._followed.and_more(self._read_tokens, more) as (reading, _):
                return expected(reading, *told), stacks(reading)
        except TooMuch:
            return [Expected(in_words(allowed), "text")], []

    @cached_property
    def _standing(self) -> tuple[list[Expected], list[tuple[Frame, ...]]]:
        return ([], []) if self._is_ended else self._standing_after(b"")

    @property
    def expected(self) -> tuple[Expected, ...]:
        """What may come next, each thing with the rule that expects it and the stack of rules."""
        return tuple(self._standing[0])

    @property
    def stacks(self) -> tuple[tuple[Frame, ...], ...]:
        """The rules that the text stands in, root first; some of them, where there are many.

        None where the text can only end, and where it has too many ways to be read.
        """
        return tuple(self._standing[1])

    @property
    def portions(self) -> tuple[Portion, ...]:
        """The bytes of the text with the rule that took each; on one way, where there are more."""
        try:
            return tuple(portions(self._followed.reading(self._read_tokens), 0))
        except TooMuch:
            return ()

    # Where it is.

    @property
    def text_bytes(self) -> bytes:
        """The bytes taken so far."""
        return b"".join(self._pieces[token] for token in self._tokens)

    @property
    def text(self) -> str:
        """The text taken so far; of bytes that are no character yet, U+FFFD."""
        return self.text_bytes.decode("utf-8", "replace")

    @property
    def tokens(self) -> list[int]:
        """The ids of the tokens taken so far."""
        return list(self._tokens)

    @property
    def place(self) -> Place:
        """The end of the text so far: up to where it was accepted."""
        return Place.after(self.text_bytes)

    @property
    def is_complete(self) -> bool:
        """Whether the text may end here."""
        return self._matcher.is_complete

    @property
    def can_only_end(self) -> bool:
        """Whether nothing but the end may come, or it has come."""
        return self._is_ended or self.n_allowed == 0

    @property
    def is_ended(self) -> bool:
        """Whether a token has come that ends a generation."""
        return self._is_ended

    @property
    def steps(self) -> list[WalkStep]:
        """The tokens taken so far, with the rules that took each."""
        found, end, parts = [], 0, self.portions
        for token in self._tokens:
            start, end = end, end + len(self._pieces[token])
            rules = [p.rule for p in parts if p.start < end and p.end > start]
            text = visible_piece(self.model.piece(token))
            found.append(WalkStep(token, text, start, end, tuple(rules)))
        return found

    # What may come.

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Whether each token may come next, shape (n_vocab,); tokens that end a text too."""
        if self._is_ended:
            return np.zeros(self.model.n_vocab, np.bool_)
        return self._matcher.allowed()

    @property
    def n_allowed(self) -> int:
        """How many tokens may come next that do not end the text."""
        return int(np.count_nonzero(self.mask)) - sum(map(self.model.is_eog, self._ends))

    @property
    def _ends(self) -> list[int]:
        return [t for t in np.flatnonzero(self.mask).tolist() if self.model.is_eog(t)]

    def likeliest(self, row: ArrayLike | None = None, n: int = 20) -> list[AllowedToken]:
        """Some of the tokens that may come next, with the portions that rules take of each.

        Args:
            row: the model's logits for the next token, shape (n_vocab,), as of
                `session.logits(prompt + walk.text)`: the likeliest are given, likeliest first, each
                with its log-probability; NaN where the row has none, as of one that is all -inf.
                Without one the first by id are.
            n: how many at most.

        Raises:
            ValueError: a row of another shape.
        """
        n = whole("n", n, 0, MOST_SHOWN)
        ids = np.flatnonzero(self.mask)
        if row is None:
            return [self._allowed(int(token), float("nan")) for token in ids[:n]]
        logits = np.asarray(row, np.float64)
        if logits.shape != (self.model.n_vocab,):
            raise ValueError(f"a row has the shape ({self.model.n_vocab},), not {logits.shape}.")
        best = logits.max()
        total = np.nan
        if np.isfinite(best) and not np.isnan(logits).any():
            total = best + np.log(np.exp(logits - best).sum())
        order = ids[np.argsort(-logits[ids], kind="stable")][:n]
        return [self._allowed(int(token), float(logits[token] - total)) for token in order]

    def allowed(self, row: ArrayLike | None = None, n: int = 20) -> pandas.DataFrame:
        """As `likeliest`, a table with one row a token; needs pandas."""
        import pandas as pd

        rows = [
            (one.token, one.text, one.logprob, " → ".join(rule for _, rule in one.portions))
            for one in self.likeliest(row, n)
        ]
        return pd.DataFrame(rows, columns=["token", "text", "logprob", "rules"])

    def _allowed(self, token: int, logprob: float) -> AllowedToken:
        piece = self._pieces[token]
        parts: list[Portion] = []
        if not self.model.is_eog(token):
            with (
                suppress(TooMuch),
                self._followed.and_more(self._read_tokens, piece, token) as (reading, before),
            ):
                start = reading.starts[before]
                parts = [
                    p._replace(start=p.start - start, end=p.end - start)
                    for p in portions(reading, before)
                ]
        shown = tuple((visible_piece(piece[p.start : p.end]), p.rule) for p in parts)
        return AllowedToken(token, visible_piece(self.model.piece(token)), logprob, shown)

    @cached_property
    def forced(self) -> Forced:
        """The text that must come next, empty where there is a choice, or the text may end."""
        there, data = self._matcher.copy(), b""
        while len(data) < MOST_FORCED and not self._is_ended and not there.is_complete:
            byte = bytes(there.allowed_bytes())
            if len(byte) != 1 or (self._named and not self._all_begin_with(byte, there)):
                break
            data += byte
            there.accept_bytes(byte)
        only = [] if data or self.is_complete else np.flatnonzero(self.mask).tolist()
        if len(only) == 1:  # one that the grammar names
            return Forced(self._pieces[only[0]].decode("utf-8", "replace"), tuple(only))
        text = data.decode("utf-8", "ignore")
        return Forced(text, tuple(tokens_of(self.model, text.encode())))

    def _all_begin_with(self, byte: bytes, there: Matcher) -> bool:
        """Whether no token may come that the grammar names, unless it begins so too."""
        return all(self._pieces[token][:1] == byte for token in np.flatnonzero(there.allowed()))

    # Out.

    def to_dict(self) -> dict[str, Any]:
        """All that it tells of this place, as plain values that survive JSON."""
        return {
            "text": self.text,
            "place": self.place._asdict(),
            "steps": [{**one._asdict(), "rules": list(one.rules)} for one in self.steps],
            "portions": [one._asdict() for one in self.portions],
            "expected": [one.to_dict() for one in self.expected],
            "stacks": [[frame._asdict() for frame in stack] for stack in self.stacks],
            "n_allowed": self.n_allowed,
            "forced": {"text": self.forced.text, "tokens": list(self.forced.tokens)},
            "is_complete": self.is_complete,
            "can_only_end": self.can_only_end,
            "is_ended": self.is_ended,
            "refusal": None if self.refusal is None else self.refusal.to_dict(),
        }

    def to_pandas(self) -> pandas.DataFrame:
        """The tokens taken so far, one row each; needs pandas."""
        import pandas as pd

        rows = [one._replace(rules=" → ".join(one.rules)) for one in self.steps]  # type: ignore
        table = pd.DataFrame(rows, columns=list(WalkStep._fields))
        table.index.name = "step"
        return table

    def __repr__(self) -> str:
        if self.refusal is not None:
            now = str(self.refusal)
        elif self._is_ended:
            now = "ended"
        else:
            now = f"{'complete, ' * self.is_complete}expected {expected_in_words(self.expected)}"
        taken = counted(len(self._tokens), "token")
        return f"<GrammarWalk: {taken}, {visible(self.text[-60:])!r}; {now}>"

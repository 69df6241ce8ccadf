"""Ban: no token may complete a banned word, however it is spelled and cut into tokens.

Ours: llama.cpp bans single tokens by their bias, and no sequence of them. At each step it is a
mask of those tokens whose text, put behind the text so far, would complete a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine import native
from mullama_lab.engine.options import listed
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.engine.rows.tail import Tail, not_in
from mullama_lab.engine.stages.lists import read_strings, write_strings
from mullama_lab.engine.stages.setting import TextRule, text_setting
from mullama_lab.engine.stages.stage import Known, Stage, must_have_vocabulary
from mullama_lab.engine.stages.stage_sampler import Start, mask_out
from mullama_lab.engine.words.spellings import MARGIN, Spellings, is_rest
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

MAX_WORDS = 4096
MAX_WORD = 200  # bytes


@dataclass(frozen=True, repr=False)
class Ban(Stage):
    """Keep words and phrases out of the text, in any case and cut into tokens in any way.

        chain = Ban(["delve", "a testament to"]) | MinP(0.05) | Temperature(0.8)

    The text that is generated never holds a banned word as a word of its own, also where the word
    begins in the prompt. "ass" is not banned within "class": a letter, digit, mark or underscore
    beside a word makes it part of another one. Where a word begins or ends with something else,
    as "—" does, or in a script that is written without spaces, it is banned anywhere.

    Nothing is taken back: a token that ends just where the word does is not drawn, since the word
    might end there. So "assume" is written as one token or as "assu" and "me", not as "ass" and
    "ume". Ban(["cat"]) leaves "cats" alone: list the forms you mean.

    Args:
        words: texts of 1 to 200 bytes; a space in one is a space.
    """

    label: ClassVar[str] = "Ban"
    source: ClassVar[str] = (
        "the words of KoboldCpp's phrase ban and vLLM's bad_words; equal, at each step, to "
        "llama.cpp's logit bias of minus infinity"
    )
    moves = False
    constrains = True
    masked_tokens = "left"
    words: tuple[str, ...] = text_setting(
        (),
        TextRule(
            'quoted words and phrases, as in "delve", "a testament to"',
            read_strings,
            write_strings,
        ),
    )

    def __post_init__(self) -> None:
        given = listed("Ban.words", self.words, 'texts, as in Ban(["delve"])')
        for word in given:
            _must_be_word(word)
        words = tuple(dict.fromkeys(given))
        if len(words) > MAX_WORDS:
            raise ValueError(f"Ban takes at most {MAX_WORDS} words, not {len(words)}")
        object.__setattr__(self, "words", words)

    def why_inert(self) -> str:
        return "" if self.words else "nothing is banned"

    def check(self, model: Model) -> None:
        must_have_vocabulary(self, model)

    def sampler(self, start: Start) -> BanSampler:
        return BanSampler(self, start.model, start.history)

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        return tail.fewer(len(not_in(known.sampler.banned, known.kept)))

    def _arguments(self) -> Iterator[str]:
        yield repr(list(self.words))


def _must_be_word(word: Any) -> None:
    if not isinstance(word, str):
        raise TypeError(f"Ban: {brief(word)} is not a text. Mask(ban=[...]) takes token ids.")
    lone = any("\ud800" <= c <= "\udfff" for c in word)
    size = len(word.encode("utf-8", "surrogatepass"))
    if lone or not 1 <= size <= MAX_WORD:
        raise ValueError(f"Ban: {brief(word)} must be 1 to {MAX_WORD} bytes of UTF-8")


class BannedTokens:
    """Which tokens of one model would complete a banned word, after any text."""

    def __init__(self, words: Sequence[str], model: Model) -> None:
        self.spellings = Spellings(words)
        self.texts = token_texts(model)
        self.n_tail = self.spellings.longest + MARGIN
        self._completing: dict[int, list[int]] = {}

    @cached_property
    def _inside(self) -> tuple[NDArray[np.bool_], list[tuple[int, int]]]:
        """Tokens with a whole word inside, and those where it depends on a character before.

        These begin with the rest of one; the word's place in them is given too.
        """
        whole, depending = np.zeros(len(self.texts.pieces), np.bool_), []
        for token, piece in enumerate(self.texts.pieces):
            start = self.spellings.begun_inside(piece)
            if start is None:
                continue
            if is_rest(piece[:start]):
                depending.append((token, start))
            else:
                whole[token] = True
        return whole, depending

    def after(self, tail: bytes) -> NDArray[np.bool_]:
        """Whether each token is banned after a text that ends so; shape (n_vocab,)."""
        whole, depending = self._inside
        banned = whole.copy()
        for node in self.spellings.open_after(tail):
            banned[self._completing_from(node)] = True
        for token, start in depending:
            if self.spellings.completed_behind(tail, self.texts.pieces[token], start):
                banned[token] = True
        return banned

    def _completing_from(self, node: int) -> list[int]:
        """The tokens whose text goes on from a node to the end of a word."""
        found = self._completing.get(node)
        if found is None:
            found = []
            self._follow(node, b"", (0, len(self.texts.order)), found)
            self._completing[node] = found
        return found

    def _follow(self, node: int, prefix: bytes, span: tuple[int, int], found: list[int]) -> None:
        for byte, following in self.spellings.edges[node].items():
            longer = prefix + bytes([byte])
            inner = self.texts.beginning(longer, span)
            if inner[0] == inner[1]:
                continue
            for node in following:
                if node in self.spellings.ends:
                    tokens = self.texts.order[slice(*inner)]
                    found += [t for t in tokens if self._is_whole(node, t, len(longer))]
                else:
                    self._follow(node, longer, inner, found)

    def _is_whole(self, node: int, token: int, place: int) -> bool:
        return self.spellings.is_whole(node, self.texts.pieces[token], place)


@once_per_model
def _banned_tokens(model: Model, words: tuple[str, ...]) -> BannedTokens:
    """Made once: the whole vocabulary is looked through for the words."""
    return BannedTokens(words, model)


class BanSampler:
    """A Ban at work; all that it knows of the history is how its text ends."""

    def __init__(self, stage: Ban, model: Model, history: Sequence[int]) -> None:
        self._tokens = _banned_tokens(model, stage.words)
        self._tail = b""
        for token in reversed(history):
            self._tail = self._piece(int(token)) + self._tail
            if len(self._tail) >= self._tokens.n_tail:
                break

    @property
    def banned(self) -> NDArray[np.intp]:
        """The tokens that it masks at this step, ascending."""
        return np.flatnonzero(self._tokens.after(self._tail))

    def apply(self, candidates: native.Candidates, step: int) -> None:
        mask_out(candidates, self._tokens.after(self._tail))

    def accept(self, token: int) -> None:
        self._tail = (self._tail + self._piece(token))[-self._tokens.n_tail :]

    def _piece(self, token: int) -> bytes:
        return self._tokens.texts.pieces[token]

"""Which characters of a text each of its tokens stands for.

llama.cpp does not say. Most vocabularies keep every byte, so the pieces are counted through.
WordPiece folds case and accents and gives one unknown token for a whole word: there the text is
folded in the same way, and words are matched with words. What is left (Unigram with its
normalisation) is matched character by character.

It knows text and pieces. It does not know a model.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int32]  # (n_tokens, 2)
NO_SPAN = (-1, -1)

# llama.cpp's lists, in unicode-data.cpp and llama-vocab.cpp.
_SPACES = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_CHINESE = (
    *((0x04E00, 0x09FFF), (0x03400, 0x04DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0x0F900, 0x0FAFF), (0x2F800, 0x2FA1F)),
)


def token_spans(
    text: str, pieces: Sequence[bytes], unknown: Sequence[bool], *, word_piece: bool
) -> Spans:
    """Where each token's characters begin and end in `text`.

    Tokens that share a character, such as the bytes of one emoji, each get all of it.

    Args:
        text: what was tokenized.
        pieces: the bytes of each of its tokens, without special ones.
        unknown: which of them stand for what the vocabulary does not know.
        word_piece: whether the vocabulary is BERT's.

    Returns:
        int32 of shape (n_tokens, 2), never decreasing from token to token.
    """
    if word_piece:
        spans = _by_words(text, pieces, unknown)
    else:
        spans = _by_bytes(text, pieces) or _by_characters(text, pieces, unknown)
    return np.array(spans, np.int32).reshape(-1, 2)


def _by_bytes(text: str, pieces: Sequence[bytes]) -> list[tuple[int, int]] | None:
    """Count the bytes; None where the pieces are not the text."""
    data, joined = text.encode(), b"".join(pieces)
    extra = len(joined) - len(data)  # SentencePiece puts a space before a text
    if extra not in (0, 1) or joined[extra:] != data or (extra and joined[:1] != b" "):
        return None
    # Which character each byte belongs to.
    owner = np.repeat(np.arange(len(text)), [len(character.encode()) for character in text])
    ends = np.cumsum([len(piece) for piece in pieces]) - extra
    spans, start = [], 0
    for end in ends.tolist():
        if end <= start:  # nothing but the space before the text
            at = int(owner[start]) if start < len(data) else len(text)
            spans.append((at, at))
        else:
            spans.append((int(owner[start]), int(owner[end - 1]) + 1))
            start = end
    return spans


class _Word(NamedTuple):
    folded: str
    places: list[int]  # in the text, of each folded character


def _words(text: str) -> Iterator[_Word]:
    """The words that WordPiece makes of a text, folded as llama.cpp does it."""
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        letter, ends_word, alone = _letter(character)
        if ends_word and letters:
            yield _Word("".join(letters), places)
            letters, places = [], []
        if alone:
            yield _Word(letter, [place])
        elif letter:
            letters.append(letter)
            places.append(place)
    if letters:
        yield _Word("".join(letters), places)


@lru_cache(maxsize=4096)
def _letter(character: str) -> tuple[str, bool, bool]:
    """A character folded ("" if it is dropped), whether it ends a word, whether it is one."""
    base = unicodedata.normalize("NFD", character)[0]
    if base in _SPACES:
        return "", True, False
    category, code = unicodedata.category(base)[0], ord(base)
    if category == "C" or base == "\ufffd":
        return "", False, False
    alone = (
        category == "P"
        or (category == "S" and code < 0x7F)
        or any(first <= code <= last for first, last in _CHINESE)
    )
    return base.lower()[0], alone, alone


def _by_words(text: str, pieces: Sequence[bytes], unknown: Sequence[bool]) -> list[tuple[int, int]]:
    """Give each word's tokens their part of it; an unknown token stands for a whole word."""
    words = list(_words(text))
    spans: list[tuple[int, int]] = []
    number = -1
    used = 0  # characters of the word that its tokens have taken
    for piece, is_unknown in zip(pieces, unknown):
        part = piece.decode("utf-8", "replace")
        begins = is_unknown or part.startswith(" ")
        part = part.removeprefix(" ")
        if begins:
            number = _next_word(words, number + 1, None if is_unknown else part)
            used = 0
        if not 0 <= number < len(words):  # a table of Unicode that differs from llama.cpp's
            at = spans[-1][1] if spans else 0
            spans.append((at, at))
            continue
        places = words[number].places
        first, last = (0, len(places)) if is_unknown else (used, used + len(part))
        used = min(last, len(places))
        first = min(first, len(places) - 1)
        spans.append((places[first], places[max(used, first + 1) - 1] + 1))
    return spans


def _next_word(words: Sequence[_Word], at: int, part: str | None) -> int:
    """The word that a token begins: the next, or the next after it that begins so."""
    if part is None:
        return at
    for number in range(at, min(at + 8, len(words))):
        if words[number].folded.startswith(part):
            return number
    return at


def _by_characters(
    text: str, pieces: Sequence[bytes], unknown: Sequence[bool]
) -> list[tuple[int, int]]:
    """Match folded characters; what lies before the next match is what an unknown one covers."""
    folded, places = "", []
    for place, character in enumerate(text):
        letters = _fold(character)
        folded += letters
        places += [place] * len(letters)
    places.append(len(text))
    starts, ends, at = [], [], 0
    for piece, is_unknown in zip(pieces, unknown):
        part = _fold(piece.decode("utf-8", "replace"))
        found = folded.find(part, at) if part and not is_unknown else -1
        begin = found if found >= 0 else at
        starts.append(begin)
        at = begin + len(part) if found >= 0 else at
        ends.append(at)
    for number, is_unknown in enumerate(unknown):  # up to where the next known one begins
        if is_unknown:
            after = itertools.dropwhile(lambda i: unknown[i], range(number, len(unknown)))
            ends[number] = starts[known] if (known := next(after, -1)) >= 0 else len(places) - 1
    return [(places[a], places[b - 1] + 1 if b > a else places[a]) for a, b in zip(starts, ends)]


def _fold(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKC", text) if not letter.isspace())

"""A text as what the network is given, and which of its tokens get a vector.

The special tokens that the vocabulary puts around a text, and a prefix, stand for no text.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.encoder.presets import Preset
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.engine.multivector.multivector import Kind
from mullama_lab.engine.trace.token_spans import NO_SPAN, token_spans
from mullama_lab.errors import ContextFull

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

_PUNCTUATION = frozenset(string.punctuation.encode())


@dataclass(frozen=True)
class Input:
    """One text, ready for the network.

    Attributes:
        ids: all tokens, special ones included; empty if there is nothing to encode.
        keep: which of them get a vector, bool of shape (n_tokens,).
        n_cut: tokens that did not fit.
    """

    text: str
    kind: Kind
    ids: list[int]
    pieces: tuple[bytes, ...]
    spans: NDArray[np.int32]
    keep: NDArray[np.bool_]
    n_cut: int = 0

    def with_vectors(self, vectors: NDArray[np.floating]) -> MultiVector:
        """The text with the vectors of the tokens that are kept."""
        places = np.flatnonzero(self.keep)
        return MultiVector(
            vectors=vectors,
            ids=np.array(self.ids, np.int32)[places],
            pieces=tuple(self.pieces[i] for i in places),
            spans=self.spans[places],
            text=self.text,
            kind=self.kind,
        )


class Reader:
    """Makes an Input of a text, by a model's vocabulary and the settings of an encoder.

    Args:
        model: gives the vocabulary.
        settings: prefixes and what to leave out.
        window: most tokens of a text.
    """

    def __init__(self, model: Model, settings: Preset, window: int) -> None:
        self._model = model
        self._settings = settings
        self._window = window
        self._word_piece = model.vocab_type == "WPM"
        self._unknown = model.metadata.get("tokenizer.ggml.unknown_token_id", -1)
        around = model.tokenize("")
        n_head = next((i for i, t in enumerate(around) if t != around[0]), len(around[:1]))
        if around and not model.add_bos and not self._word_piece:
            n_head = 0  # all of it comes at the end
        self._head, self._tail = around[:n_head], around[n_head:]
        self._prefixes = {
            "query": self._prefix(settings.query_prefix),
            "document": self._prefix(settings.document_prefix),
        }

    def _prefix(self, prefix: str) -> tuple[list[int], str]:
        """A prefix as one token of the vocabulary, or as text to put before the text."""
        bare = prefix.strip()
        if bare[:1] in ("[", "<") and bare[-1:] in ("]", ">"):
            tokens = self._model.metadata["tokenizer.ggml.tokens"]
            for name in (prefix, bare):
                if name in tokens:
                    return [tokens.index(name)], ""
        return [], prefix

    def query(self, text: str, *, cut: bool) -> Input:
        """A query.

        Raises:
            ValueError: it is empty.
            ContextFull: it is longer than the window and not to be cut.
        """
        made = self._read(text, "query", cut=cut)
        if not made.ids:
            raise ValueError(
                f"the query {text[:40]!r} has no token of text. A query needs at least one word."
            )
        settings = self._settings
        missing = min(settings.query_length, self._window) - len(made.ids)
        mask = self._model.special_tokens.get("mask")
        if not settings.expand_with_mask or missing <= 0 or mask is None:
            return made
        return Input(
            text=text,
            kind="query",
            ids=[*made.ids, *[mask] * missing],
            pieces=made.pieces + (self._model.piece(mask),) * missing,
            spans=np.vstack([made.spans, np.full((missing, 2), NO_SPAN, np.int32)]),
            keep=np.append(made.keep, np.ones(missing, np.bool_)),
            n_cut=made.n_cut,
        )

    def document(self, text: str, *, cut: bool) -> Input:
        """A document; one without text has no tokens.

        Raises:
            ContextFull: it is longer than the window and not to be cut.
        """
        return self._read(text, "document", cut=cut)

    def _read(self, text: str, kind: Kind, *, cut: bool) -> Input:
        model = self._model
        if not isinstance(text, str):
            raise TypeError(f"a {kind} must be a str, not {type(text).__name__}.")
        prefix, before = self._prefixes[kind]
        body = model.tokenize(before + text, add_special=False)
        pieces = [model.piece(token) for token in body]
        spans = token_spans(
            before + text,
            pieces,
            [token == self._unknown for token in body],
            word_piece=self._word_piece,
        )
        spans = np.maximum(spans - len(before), 0)
        spans[spans[:, 1] == 0] = NO_SPAN  # of the prefix
        head = [*self._head, *prefix]
        n_cut = self._too_many(len(head) + len(body) + len(self._tail), text, kind, cut=cut)
        n_body = len(body) - n_cut
        has_text = (spans[:n_body, 0] >= 0) & (spans[:n_body, 1] > spans[:n_body, 0])
        keep = has_text.copy() if self._settings.skip_special else np.ones(n_body, np.bool_)
        if kind == "document" and self._settings.skip_punctuation:
            keep &= np.array([not _is_punctuation(piece) for piece in pieces[:n_body]], np.bool_)
        if not (keep & has_text).any():
            return Input(text, kind, [], (), np.empty((0, 2), np.int32), np.empty(0, np.bool_))
        n_head, n_tail = len(head), len(self._tail)
        special = [model.piece(token) for token in (*head, *self._tail)]
        none = np.full((max(n_head, n_tail), 2), NO_SPAN, np.int32)
        outside = np.full(max(n_head, n_tail), not self._settings.skip_special)
        return Input(
            text=text,
            kind=kind,
            ids=[*head, *body[:n_body], *self._tail],
            pieces=(*special[:n_head], *pieces[:n_body], *special[n_head:]),
            spans=np.vstack([none[:n_head], spans[:n_body], none[:n_tail]]),
            keep=np.concatenate([outside[:n_head], keep, outside[:n_tail]]),
            n_cut=n_cut,
        )

    def _too_many(self, n: int, text: str, kind: Kind, *, cut: bool) -> int:
        """How many tokens are over the window."""
        over = max(0, n - self._window)
        if over and not cut:
            raise ContextFull(
                f"the {kind} {text[:40]!r} has {n} tokens, and the encoder takes {self._window}. "
                'Shorten or split it, or pass too_long="cut" to leave its end out.'
            )
        return over


def _is_punctuation(piece: bytes) -> bool:
    bare = piece.strip()
    return bool(bare) and _PUNCTUATION.issuperset(bare)

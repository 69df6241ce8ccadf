"""Documents on their way into an index, some at a time, so that a query never waits long.

It knows an encoder and an index, no view and no thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.index.part import Name
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.engine.options import utf8
from mullama_lab.glyphs import brief

CHARACTERS = 4000  # read at a time: about a second of encoding
MOST_SPECIAL = 16  # special tokens that an encoder may add around a text


class Reading:
    """An index, and the documents that are still to be put into it.

    Attributes:
        encoder: what encodes the documents, and later the queries.
        index: where they go.
        cut: names of documents that were longer than the encoder's window.
    """

    def __init__(self, encoder: MultiVectorEncoder, index: MultiVectorIndex) -> None:
        self.encoder = encoder
        self.index = index
        self.cut: list[Name] = []
        self._left: dict[Name, str | MultiVector] = {}

    @property
    def n_left(self) -> int:
        """How many documents are still to be read."""
        return len(self._left)

    @property
    def n_total(self) -> int:
        """How many there are, read or not."""
        return len(self.index) + len(self._left)

    def add(self, documents: Mapping[Name, str | MultiVector]) -> None:
        """Put documents at the end of what is to be read; a MultiVector is not encoded again."""
        for name, document in documents.items():
            if name in self._left or name in self.index:
                raise ValueError(
                    f"there is a document {brief(name)} already; give each its own name."
                )
            if not isinstance(document, (str, MultiVector)):
                raise TypeError(
                    f"the document {brief(name)} is {brief(document)}; it must be a text."
                )
            if isinstance(document, str):
                utf8(f"the document {brief(name)}", document)
        self._left.update(documents)

    def keep_only(self, names: Iterable[Name]) -> None:
        """Take out what is not among these."""
        names = set(names)
        if gone := [name for name in self.index.ids if name not in names]:
            self.index.remove(gone)
        for name in [name for name in self._left if name not in names]:
            del self._left[name]

    def read_some(self) -> None:
        """Read the next documents: about `CHARACTERS` characters, at least one document."""
        documents = {name: self._left[name] for name in self._next()}
        texts = {name: text for name, text in documents.items() if isinstance(text, str)}
        if texts:
            fitting = [beginning(self.encoder, text) for text in texts.values()]
            found = self.encoder.encode_documents(fitting, progress=False)
            for (name, text), part, tokens in zip(texts.items(), fitting, found, strict=True):
                documents[name] = replace(tokens, text=text)
                if len(part) < len(text):
                    self.cut.append(name)
        self.index.add(list(documents.values()), list(documents), progress=False)
        for name in documents:
            del self._left[name]

    def _next(self) -> list[Name]:
        names: list[Name] = []
        size = 0
        for name, document in self._left.items():
            size += len(document)
            if names and size > CHARACTERS:
                break
            names.append(name)
        return names


def beginning(encoder: MultiVectorEncoder, text: str) -> str:
    """As much of a text as fits the encoder's window."""
    most = max(1, encoder.window - MOST_SPECIAL)
    while len(text) > most // 4 and (n := _n_tokens(encoder, text)) > most:
        text = text[: min(len(text) - 1, len(text) * most // n)]
    return text


def _n_tokens(encoder: MultiVectorEncoder, text: str) -> int:
    return len(encoder.model.tokenize(text, add_special=False))

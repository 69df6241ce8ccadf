"""A MultiVectorIndex keeps the token vectors of many documents, and finds what answers a query.

Every document is compared with the query, exactly: nothing is pruned. The vectors are kept as
float32, float16 or int8; an index that was opened keeps them in its file, and pages what a search
reads. What is in a part of the index never changes, so a search runs beside an `add`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.bar import bar
from mullama_lab.engine.index import file as index_file
from mullama_lab.engine.index.columns import columns_of, opened
from mullama_lab.engine.index.file import MappedFile
from mullama_lab.engine.index.hits import Best, Hits
from mullama_lab.engine.index.part import Name, Pieces, StorageLoss, checked_name, stored
from mullama_lab.engine.index.parts import Parts
from mullama_lab.engine.leaving import usable_in_forks
from mullama_lab.engine.multivector import MultiVector, maxsim
from mullama_lab.engine.multivector.maxsim import ScoreKind
from mullama_lab.engine.multivector.ragged import STORAGES
from mullama_lab.engine.options import listed, one_of, whole
from mullama_lab.errors import IndexFileError, WrongEncoder
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.encoder import MultiVectorEncoder

Storage: TypeAlias = Literal["float32", "float16", "int8"]

TOGETHER = 64  # documents encoded and stored at a time


class MultiVectorIndex:
    """The token vectors of many documents.

        index = ml.MultiVectorIndex(encoder, storage="int8")
        index.add(["a text", "another"], ["a", "b"])
        for name, score in index.search("which text?", k=5): ...
        index.save("texts.safetensors")
        index = ml.MultiVectorIndex.open("texts.safetensors", encoder)

    Args:
        encoder: encodes documents and queries that are given as text.
        storage: "float32" keeps vectors as they are; "float16" takes half the memory, "int8" a
            quarter. `loss` says what that costs.
    """

    def __init__(self, encoder: MultiVectorEncoder, *, storage: Storage = "float32") -> None:
        _must_be_encoder(encoder)
        self.encoder = encoder
        self.storage: Storage = one_of("storage", storage, STORAGES)  # type: ignore[assignment]
        self.dim = int(encoder.dim)
        self._loss = StorageLoss()
        self._parts = Parts()
        self._pieces = Pieces()
        self._next = 0  # the id of a document that comes without
        self._lock = usable_in_forks(threading.RLock())

    # What is in it.

    @property
    def ids(self) -> tuple[Name, ...]:
        """The ids of the documents, in the order in which they came."""
        return tuple(self._parts.where)

    @property
    def n_tokens(self) -> int:
        """The tokens of all documents."""
        return self._parts.n_tokens

    @property
    def size_bytes(self) -> int:
        """Bytes of the documents' vectors."""
        scale = 4 if self.storage == "int8" else 0
        return self.n_tokens * (self.dim * np.dtype(self.storage).itemsize + scale)

    @property
    def loss(self) -> StorageLoss:
        """How far what is stored is from what was added, measured on each vector as it came."""
        return self._loss

    def __len__(self) -> int:
        return len(self._parts.where)

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            "a MultiVectorIndex has its encoder, so it cannot be copied or pickled. Save it with "
            "index.save(path), and open that with MultiVectorIndex.open(path, encoder)."
        )

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __repr__(self) -> str:
        return (
            f"<MultiVectorIndex {counted(len(self), 'document')}, "
            f"{counted(self.n_tokens, 'token')} of {self.dim}, {self.storage}, "
            f"{self.size_bytes / 1e6:.1f} MB>"
        )

    def get(self, name: Name) -> MultiVector:
        """A document with its vectors as they are read back, float32.

        Raises:
            UnknownDocument: it is not there, or was removed.
            IndexFileError: the file that was opened was altered meanwhile.
        """
        part, place = self._parts.place(name)
        self._parts.must_be_whole()
        return part.document(place, self._pieces)

    def vectors(self, name: Name) -> NDArray[np.float32]:
        """The vectors of a document as they are read back, float32 (n_tokens, dim)."""
        part, place = self._parts.place(name)
        self._parts.must_be_whole()
        return part.vectors.document(place).copy()

    # Changing it.

    def add(
        self,
        documents: Iterable[str | MultiVector],
        ids: Iterable[Name] | None = None,
        *,
        progress: bool = True,
        too_long: Literal["error", "cut"] = "error",
    ) -> list[Name]:
        """Add documents, and give their ids.

        Texts are encoded some at a time; what was stored before an error or a Ctrl-C stays, and
        `id in index` tells which those are.

        Args:
            documents: texts, or MultiVectors of this encoder.
            ids: a string or a number for each; None counts on.
            progress: show a bar if it takes longer than 2 seconds.
            too_long: as for `encoder.encode_documents`.

        Raises:
            ValueError: an id is there already or comes twice, or a vector has another dimension.
            ContextFull: a text is longer than the encoder's window.
        """
        documents = self._documents(documents)
        names = self._new_names(ids, len(documents))
        with bar("indexing", len(documents), " texts", shown=progress) as shown:
            for start in range(0, len(documents), TOGETHER):
                some = slice(start, start + TOGETHER)
                made = self._encoded(documents[some], too_long)
                with self._lock:
                    self._must_be_new(names[some])
                    self._store(made, names[some])
                shown.update(len(made))
        return names

    def remove(self, ids: Name | Iterable[Name]) -> None:
        """Take documents out.

        Raises:
            UnknownDocument: one of them is not there; then none is taken out.
        """
        names = [ids] if isinstance(ids, (str, int, np.integer)) else listed("ids", ids, "ids")
        with self._lock:
            for name in names:
                self._parts.place(name)
            self._parts.remove(names)

    def update(self, name: Name, document: str | MultiVector) -> None:
        """Put another document in the place of one.

        Raises:
            UnknownDocument: there is none of that id.
        """
        self._parts.place(name)
        made = self._encoded(self._documents([document]), "error")
        with self._lock:
            self._parts.place(name)
            self._store(made, [name])

    def _documents(self, documents: Any) -> list[str | MultiVector]:
        if isinstance(documents, (str, MultiVector, Mapping)):
            raise TypeError(f"documents is one {type(documents).__name__}; give a list of them.")
        documents = listed("documents", documents, "texts or MultiVectors")
        for number, document in enumerate(documents):
            if isinstance(document, MultiVector):
                self._must_have_dim(document, f"document {number}")
            elif not isinstance(document, str):
                raise TypeError(
                    f"document {number} is {type(document).__name__}; give a text, or a "
                    "MultiVector."
                )
        return documents

    def _must_have_dim(self, tokens: MultiVector, name: str) -> None:
        if tokens.dim != self.dim:
            raise ValueError(
                f"{name} has vectors of {tokens.dim} numbers, the index of {self.dim}; all must "
                "come from one encoder."
            )

    def _new_names(self, ids: Iterable[Name] | None, n: int) -> list[Name]:
        if ids is None:
            with self._lock:  # another thread may add some meanwhile
                first, self._next = self._next, self._next + n
            return list(range(first, first + n))
        if isinstance(ids, str):
            raise TypeError(f"ids={brief(ids)} is one text; give a list of ids.")
        names = [checked_name(name) for name in ids]
        if len(names) != n:
            raise ValueError(f"{len(names)} ids for {n} documents: give one for each.")
        self._must_be_new(names)
        if len(set(names)) < n:
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise ValueError(f"the id {brief(twice)} comes twice; each document needs its own.")
        return names

    def _must_be_new(self, names: Iterable[Name]) -> None:
        for name in names:
            if name in self._parts:
                raise ValueError(
                    f"there is a document {brief(name)} already. Use update() to replace it, or "
                    "give another id."
                )

    def _encoded(self, documents: list[str | MultiVector], too_long: Any) -> list[MultiVector]:
        texts = [document for document in documents if isinstance(document, str)]
        if not texts:
            return [document for document in documents if isinstance(document, MultiVector)]
        made = iter(self.encoder.encode_documents(texts, progress=False, too_long=too_long))
        return [next(made) if isinstance(document, str) else document for document in documents]

    def _store(self, documents: list[MultiVector], names: Sequence[Name]) -> None:
        part, loss = stored(documents, names, self.storage, self._pieces)
        self._loss += loss
        self._next = max([self._next, *(name + 1 for name in names if isinstance(name, int))])
        self._parts.add(part)

    # Searching it.

    def search(
        self,
        query: str | MultiVector,
        k: int = 10,
        *,
        kind: ScoreKind = "maxsim",
        n_threads: int | None = None,
    ) -> Hits:
        """The `k` documents that answer a query best; fewer if there are fewer.

        Documents of one score come in the order of `ids`.

        Raises:
            ValueError: the query is empty, its vectors have another dimension, or are so long that
                float32 does not hold a score.
            IndexFileError: the file that was opened was altered meanwhile.
        """
        k = whole("k", k, 1, 2**31)
        one_of("kind", kind, maxsim.KINDS)
        if not isinstance(query, MultiVector):
            query = self.encoder.encode_query(query)
        self._must_have_dim(query, "the query")
        maxsim.query_vectors(query)
        with self._lock:
            names, chosen = self.ids, self._parts.chosen()
        best = Best(k, len(query))
        for documents, places in chosen:
            self._parts.must_be_whole()
            table = maxsim.kind_table(query, documents, kind=kind, n_threads=n_threads)
            best.offer(places, maxsim.totals(table), table)
        self._parts.must_be_whole()
        return Hits(
            query=query,
            kind=kind,
            ids=tuple(names[place] for place in best.places.tolist()),
            scores=best.scores,
            contributions=best.contributions,
        )

    # On disk.

    def save(self, path: str | PathLike[str], *, progress: bool = True) -> None:
        """Write the index to a file, in the place of what was there.

        Any safetensors library can read the file. Documents that were removed are left out.
        Where `path` is a link, the file it names is replaced.

        Raises:
            IndexNotSaved: the disk is full, or does not allow it. The old file still is there.
            IndexFileError: the file that was opened was altered meanwhile, so that its vectors
                are not those that were saved.
        """
        fingerprint = self.encoder.fingerprint
        with self._lock:
            names, runs = self.ids, self._parts.runs()
            self._parts.must_be_whole()
            pieces, loss, following = list(self._pieces.all), self._loss, self._next
        columns = columns_of(runs, names, pieces, self.storage, self.dim)
        about = {
            "fingerprint": fingerprint,
            "encoder": str(getattr(self.encoder, "name", "")),
            "storage": self.storage,
            "dim": str(self.dim),
            "next": str(following),
            "loss": json.dumps(asdict(loss)),
        }
        n_bytes = sum(column.n_bytes for column in columns.values())
        with bar("saving", n_bytes, "B", shown=progress) as shown:
            index_file.write(path, columns, about, shown.update, self._parts.must_be_whole)

    @classmethod
    def open(
        cls, path: str | PathLike[str], encoder: MultiVectorEncoder, *, verify: bool = True
    ) -> MultiVectorIndex:
        """Open a saved index; its vectors stay in the file until they are searched.

        Args:
            encoder: with the weights and settings of the one that made it.
            verify: read the file once to see that it is what was saved.

        Raises:
            WrongEncoder: another encoder made it.
            IndexFileError: no index, cut short, or altered.
        """
        _must_be_encoder(encoder)
        path, about = index_file.about(path)
        if about.get("fingerprint") != encoder.fingerprint:
            raise WrongEncoder(
                f"the index {path} was made by {about.get('encoder') or 'another encoder'} with "
                "other weights or settings, so its vectors mean something else to "
                f"{getattr(encoder, 'name', 'this encoder')}. Open it with the encoder that made "
                "it, or add the documents to a new index."
            )
        arrays, file, read_about = index_file.read(path, verify=verify)
        if read_about != about:  # saved anew between the two looks at it
            return cls.open(path, encoder, verify=verify)
        try:
            index = cls(encoder, storage=about["storage"])  # type: ignore[arg-type]
            index._open(arrays, file, about)
        except (KeyError, ValueError, TypeError) as error:
            raise IndexFileError(f"{path} is no whole index: {error}. Make it again.") from error
        return index

    def _open(
        self, arrays: dict[str, NDArray[Any]], file: MappedFile, about: dict[str, str]
    ) -> None:
        part, pieces = opened(arrays, file, self.storage, self.dim)
        self._pieces = Pieces(pieces)
        self._parts.take(part)
        if len(self) != len(part.vectors):
            raise ValueError("its ids do not name each document once")
        self._next = int(about["next"])
        taken = max((name for name in part.names if isinstance(name, int)), default=-1)
        if self._next <= taken:
            raise ValueError(f"the next id would be {self._next}, and {taken} is in use")
        self._loss = StorageLoss(**json.loads(about["loss"]))


def _must_be_encoder(encoder: Any) -> None:
    if not hasattr(encoder, "fingerprint") or isinstance(encoder, type):
        raise TypeError(f"encoder={brief(encoder)}: it must be a MultiVectorEncoder.")

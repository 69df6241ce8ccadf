"""A MultiVectorEncoder turns texts into a vector for each token.

Many texts go through the network side by side, each by itself: a batch gives what single texts
give. One thread makes every call on the context. It does not know scores or indexes.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.bar import bar
from mullama_lab.engine.encoder.input import Input, Reader
from mullama_lab.engine.encoder.network import Network, must_encode
from mullama_lab.engine.encoder.presets import PRESETS, Preset, notes, preset_of
from mullama_lab.engine.gguf import projection
from mullama_lab.engine.gguf.check import parts
from mullama_lab.engine.handle import ContextOwner
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.engine.native.context import StopFlag
from mullama_lab.engine.options import flag, listed, one_of, threads, whole
from mullama_lab.engine.work import Job
from mullama_lab.errors import DecodeError, Stopped
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

TooLong: TypeAlias = Literal["error", "cut"]
Progress: TypeAlias = Callable[[int, int], object]

TOO_LONG = ("error", "cut")
DTYPES = ("float32", "float16")


class MultiVectorEncoder(ContextOwner):
    """Makes a MultiVector of a text: a vector for each of its tokens.

    What is None is as the preset says, and the preset is chosen by the model's name.

        encoder = ml.MultiVectorEncoder(ml.Model.load("colbert-small"))
        documents = encoder.encode_documents(["a text", "another"])
        query = encoder.encode_query("which text?")

    Args:
        model: an embedding model; a generative one works and is labelled as untrained for it.
        query_prefix, document_prefix: put before each text. A single special token of the
            vocabulary, such as "[unused0]", goes behind the token that begins a text.
        query_length: tokens that `expand_with_mask` fills a shorter query up to.
        expand_with_mask: fill queries with [MASK], which get vectors of their own.
        skip_punctuation: leave out the vectors of ASCII punctuation in documents.
        skip_special: leave out the vectors of tokens that stand for no text, but for [MASK].
        normalize: make every vector 1 long.
        dtype: "float32" or "float16", of the vectors.
        preset: one of `PRESETS`.
        batch_tokens: most tokens that go through the network at once, and of one text.
        n_threads: CPU threads; None leaves one core to the rest.

    Attributes:
        window: most tokens of one text, special ones counted.
        settings: all of the above that vectors depend on.
        notes: sentences that a display of the vectors must show.

    Raises:
        ModelLoadError: the model has no weights, or llama.cpp cannot open it for this.
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        model: Model,
        *,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        query_length: int | None = None,
        expand_with_mask: bool | None = None,
        skip_punctuation: bool | None = None,
        skip_special: bool | None = None,
        normalize: bool = True,
        dtype: str = "float32",
        preset: str | None = None,
        batch_tokens: int | None = None,
        n_threads: int | None = None,
    ) -> None:
        must_encode(model)
        self.model = model
        self.preset = one_of("preset", preset_of(model) if preset is None else preset, PRESETS)
        given = {
            "query_prefix": query_prefix,
            "document_prefix": document_prefix,
            "query_length": query_length,
            "expand_with_mask": expand_with_mask,
            "skip_punctuation": skip_punctuation,
            "skip_special": skip_special,
        }
        self._preset = _settings(PRESETS[self.preset], given)
        if expand_with_mask and "mask" not in model.special_tokens:
            raise ValueError(
                f"expand_with_mask=True: {model.name} has no [MASK] token. Leave it out."
            )
        self._normalize = flag("normalize", normalize)
        self._dtype = one_of("dtype", dtype, DTYPES)
        self._given = {"batch_tokens": batch_tokens, "n_threads": n_threads}
        self.n_threads = threads(n_threads)
        self._open(batch_tokens)
        self._reader = Reader(model, self._preset, self.window)

    def _open(self, batch_tokens: int | None) -> None:
        """Open the network, and start the thread that owns it."""
        self._stop = StopFlag()
        with self.model._memory.in_use():
            self._network = Network(
                self.model, batch_tokens=batch_tokens, n_threads=self.n_threads, stop=self._stop
            )
            self._own(
                self._network,
                self._stop,
                what="encoder",
                opened_by="MultiVectorEncoder(model)",
                caller="on_progress",
            )
        self.window = self._network.window
        self.dim = self._network.dim

    # What it is.

    @property
    def name(self) -> str:
        """The name of its model."""
        return self.model.name

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the vectors depend on besides the model."""
        return {**asdict(self._preset), "normalize": self._normalize, "dtype": self._dtype}

    @property
    def options(self) -> dict[str, Any]:
        """What `MultiVectorEncoder(model, ...)` makes an equal one with."""
        usual = {**asdict(PRESETS[self.preset]), "normalize": True, "dtype": DTYPES[0]}
        usual |= dict.fromkeys(self._given)
        mine = {**self.settings, **self._given}
        changed = {name: value for name, value in mine.items() if value != usual[name]}
        return {"preset": self.preset, **changed}

    @property
    def has_projection(self) -> bool:
        """Whether the file carries what makes a token's vector of the network's."""
        return bool(self.model.projection)

    @property
    def is_trained(self) -> bool:
        """Whether the model is known to have learnt a vector for each token."""
        return self.dim != self.model.n_embd or preset_of(self.model) != "plain"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a display of the vectors must say."""
        expanded = self._preset.expand_with_mask and "mask" in self.model.special_tokens
        return notes(self.model, trained=self.is_trained, expanded=expanded)

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of the weights and of what the vectors of a document depend on, in hex."""
        digest = hashlib.sha256()
        self.model._weight_files.must_be_on_disk()
        for part in parts(self.model.path):
            with part.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        self.model._weight_files.must_be_on_disk()
        of_documents = ("document_prefix", "skip_punctuation", "skip_special", "normalize")
        digest.update(repr([(key, self.settings[key]) for key in of_documents]).encode())
        return digest.hexdigest()

    def card(self) -> dict[str, str]:
        """What a card shows, as text by label."""
        made = self._preset
        return {
            "encoder": self.name,
            "vectors": f"{self.dim} numbers a token, {self._dtype}"
            + (", of length 1" if self._normalize else ", not normalised"),
            "projection": projection.in_words(self.model.projection),
            "trained for this": "yes" if self.is_trained else "not known to be",
            "preset": self.preset,
            "prefixes": f"query {made.query_prefix!r}, document {made.document_prefix!r}",
            "query": f"filled with [MASK] up to {made.query_length} tokens"
            if made.expand_with_mask
            else "as it is",
            "left out": " and ".join(
                [
                    *["punctuation of documents"] * made.skip_punctuation,
                    *["special tokens"] * made.skip_special,
                ]
            )
            or "nothing",
            "window": f"{self.window} tokens",
        }

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        about = "" if self.has_projection else ", no projection"
        about += "" if self.is_trained else ", untrained for this"
        return f"<MultiVectorEncoder {self.name}: {self.dim} numbers a token{about}, {state}>"

    # Encoding.

    def encode_query(self, text: str, *, too_long: TooLong = "error") -> MultiVector:
        """The vectors of a query.

        Args:
            text: at least one word.
            too_long: for a text longer than `window`: "error", or "cut" its end, with a warning.

        Raises:
            ValueError: the query is empty.
            ContextFull: it is longer than `window`.
            Stopped, ClosedError: there was no result.
        """
        return self.start_query(text, too_long=too_long).result_or_stop()

    def start_query(self, text: str, *, too_long: TooLong = "error") -> Job[MultiVector]:
        """Begin to encode a query, and return at once."""
        one_of("too_long", too_long, TOO_LONG)
        return self._start(lambda: self._encode([self._query(text, too_long)], None)[0])

    def encode_document(self, text: str, *, too_long: TooLong = "error") -> MultiVector:
        """The vectors of one document; without text it has 0 tokens. Errors: as for many."""
        return self.start_documents([text], too_long=too_long).result_or_stop()[0]

    def encode_documents(
        self, texts: Iterable[str], *, progress: bool = True, too_long: TooLong = "error"
    ) -> list[MultiVector]:
        """The vectors of many documents, several of them in one pass through the network.

        Args:
            texts: any texts; one without words has 0 tokens.
            progress: show a bar if it takes longer than 2 seconds.
            too_long: for a text longer than `window`: "error", or "cut" its end, with a warning.

        Raises:
            ContextFull: a text is longer than `window`. Nothing was encoded then.
            Stopped, ClosedError: there was no result.
        """
        texts = _texts(texts)
        n_done = 0

        def on_progress(done: int, _n: int) -> None:
            nonlocal n_done
            n_done = done

        shown = bar("encoding", len(texts), " texts", shown=progress)
        job = self.start_documents(texts, too_long=too_long, on_progress=on_progress)
        return job.result_beside(shown, lambda: n_done)

    def start_documents(
        self,
        texts: Iterable[str],
        *,
        too_long: TooLong = "error",
        on_progress: Progress | None = None,
    ) -> Job[list[MultiVector]]:
        """Begin to encode documents, and return at once.

        Args:
            on_progress: called on the worker's thread with how many texts are done, of how many.
        """
        texts = _texts(texts)
        one_of("too_long", too_long, TOO_LONG)
        return self._start(lambda: self._encode(self._documents(texts, too_long), on_progress))

    # On the worker's thread.

    def _start(self, work: Callable[[], Any]) -> Job[Any]:
        self.must_be_open()
        job = Job(work, self)
        self._worker.submit(job)
        return job

    def _query(self, text: str, too_long: TooLong) -> Input:
        made = self._reader.query(text, cut=too_long == "cut")
        _warn_of_cuts([made], self.window)
        return made

    def _documents(self, texts: Sequence[str], too_long: TooLong) -> list[Input]:
        made = []
        for number, text in enumerate(texts):
            if self._stop:
                raise Stopped(f"stopped after {number} of {len(texts)} texts were tokenized.")
            try:
                made.append(self._reader.document(text, cut=too_long == "cut"))
            except ValueError as error:
                raise ValueError(f"document {number}: {error}") from None
        _warn_of_cuts(made, self.window)
        return made

    def _encode(self, inputs: Sequence[Input], on_progress: Progress | None) -> list[MultiVector]:
        found: list[MultiVector] = []
        for group in self._network.passes(inputs):
            vectors = self._network.vectors([made.ids for made in group if made.ids])
            if vectors is None:
                raise Stopped(f"stopped after {len(found)} of {len(inputs)} texts.")
            start = 0
            for made in group:
                end = start + len(made.ids)
                found.append(made.with_vectors(self._finished(vectors[start:end][made.keep])))
                start = end
            if on_progress is not None:
                on_progress(len(found), len(inputs))
        return found

    def _finished(self, vectors: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        if not np.isfinite(vectors).all():
            raise DecodeError(
                f"{self.name} computes vectors that are no numbers. Its weights are damaged: "
                "fetch another conversion of the model."
            )
        if self._normalize:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.maximum(lengths, np.float32(1e-30))
        return vectors.astype(self._dtype, copy=False)


def _settings(preset: Preset, given: dict[str, Any]) -> Preset:
    values = {field.name: getattr(preset, field.name) for field in fields(preset)}
    for name, value in given.items():
        if value is None:
            continue
        if name == "query_length":
            value = whole(name, value, 1, 1 << 16)
        elif name.endswith("prefix") and not isinstance(value, str):
            raise TypeError(f"{name}={brief(value)}: it must be a text.")
        elif not name.endswith("prefix"):
            value = flag(name, value)
        values[name] = value
    return Preset(**values)


def _texts(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("texts is one text; give a list of texts, or use encode_document.")
    found = listed("texts", texts, "texts")
    for number, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"document {number} is {brief(text)}; it must be a text.")
    return found


def _warn_of_cuts(inputs: Sequence[Input], window: int) -> None:
    cut = [made.n_cut for made in inputs if made.n_cut]
    if cut:
        warnings.warn(
            f"{counted(sum(cut), 'token')} {'was' if sum(cut) == 1 else 'were'} left out: "
            f"{len(cut)} of {counted(len(inputs), 'text')} {'is' if len(cut) == 1 else 'are'} "
            f"longer than the {window} tokens that the encoder takes.",
            stacklevel=3,
        )

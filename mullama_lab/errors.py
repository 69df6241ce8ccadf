"""The errors of mullama_lab, as a tree.

    MullamaError
    ├── HubError            a model file could not be had
    │   ├── ModelNotFound       no such name, path or address
    │   ├── Offline             not cached, and the network does not answer
    │   └── ChecksumMismatch    what arrived is not what was promised
    ├── ModelError          the file is there, the model is not
    │   ├── ModelFileError      not a GGUF file, truncated, or counts that do not fit
    │   ├── ModelLoadError      llama.cpp refused it
    │   └── LoadCancelled       the progress callback said stop
    ├── SessionError        a context could not do what was asked
    │   ├── ContextFull         more tokens than the context has room for
    │   ├── DecodeError         llama.cpp could not decode
    │   ├── SessionFileError    a saved session is cut off, altered, or none
    │   │   └── SessionMismatch     it was saved with another model or other settings
    │   ├── SessionNotSaved     the disk is full, or does not allow it
    │   └── Stopped             stopped before there was a result
    ├── SamplingError       a chain could not choose a token
    │   ├── NoCandidates        every token was removed
    │   │   └── GrammarBroken       the text so far is no beginning of what the grammar allows
    │   └── StageFailed         a Custom stage raised, or returned what is no row of logits
    ├── GrammarError        a grammar cannot be read; a ValueError too
    ├── PresetError         what is kept by name is damaged, or could not be written
    ├── RetrievalError      an index of documents could not do what was asked
    │   ├── IndexFileError      no index there, truncated or altered
    │   ├── WrongEncoder        the index was made by another encoder
    │   ├── IndexNotSaved       the disk is full, or does not allow it
    │   └── UnknownDocument     no document of that id; a KeyError too
    ├── HistoryError        the history of a benchmark could not be read or written
    └── ClosedError         a call on a closed model or session

What the caller did wrong (a value out of range, a wrong type) is a plain
`ValueError` or `TypeError`. Every message names the value, the rule and the way out.
"""

from __future__ import annotations

from mullama_lab.glyphs import visible

__all__ = [
    "ChecksumMismatch",
    "ClosedError",
    "ContextFull",
    "DecodeError",
    "GrammarBroken",
    "GrammarError",
    "HistoryError",
    "HubError",
    "IndexFileError",
    "IndexNotSaved",
    "LoadCancelled",
    "ModelError",
    "ModelFileError",
    "ModelLoadError",
    "ModelNotFound",
    "MullamaError",
    "NoCandidates",
    "Offline",
    "PresetError",
    "RetrievalError",
    "SamplingError",
    "SessionError",
    "SessionFileError",
    "SessionMismatch",
    "SessionNotSaved",
    "StageFailed",
    "Stopped",
    "UnknownDocument",
    "WrongEncoder",
]
__dir__ = __all__.copy  # what tab completion offers


class MullamaError(Exception):
    """The root of everything mullama_lab raises when the world failed.

    A message may quote a file that a stranger wrote, and is printed in terminals: control and
    bidi characters stand in it by name.
    """

    def __init__(self, *about: object) -> None:
        super().__init__(*(visible(x) if isinstance(x, str) else x for x in about))


class HubError(MullamaError):
    """A model file could not be had."""


class ModelNotFound(HubError):
    """There is no such catalogue name, path or address."""


class Offline(HubError):
    """The file is not cached and the network does not answer."""


class ChecksumMismatch(HubError):
    """A file arrived, and it is not the one that was promised."""


class ModelError(MullamaError):
    """A model could not be used."""


class ModelFileError(ModelError):
    """The file is not a GGUF file, is truncated, or has counts that do not fit."""


class ModelLoadError(ModelError):
    """llama.cpp refused to load the model."""


class LoadCancelled(ModelError):
    """The progress callback asked to stop loading."""


class SessionError(MullamaError):
    """A context could not do what was asked of it."""


class ContextFull(SessionError):
    """More tokens than the context has room for."""


class DecodeError(SessionError):
    """llama.cpp could not decode a batch."""


class SessionFileError(SessionError):
    """A saved session or lab is cut off, altered, or none at all."""


class SessionMismatch(SessionFileError):
    """A session or lab was saved with another model, or a cache needs other settings."""


class SessionNotSaved(SessionError):
    """A session or lab could not be written: the disk is full, or does not allow it."""


class Stopped(SessionError):
    """The work was stopped before there was a result."""


class SamplingError(MullamaError):
    """A chain could not choose a token."""


class NoCandidates(SamplingError):
    """A stage removed every token."""


class StageFailed(SamplingError):
    """A Custom stage raised, or returned something that is no row of logits."""


class GrammarBroken(NoCandidates):
    """The text that was generated so far is no beginning of what a grammar allows."""


class GrammarError(MullamaError, ValueError):
    """A grammar cannot be read, or no engine can carry it out.

    Attributes:
        line, column: where it is wrong, counted from 1; None if that is no single place.
    """

    def __init__(self, *about: object, line: int | None = None, column: int | None = None) -> None:
        super().__init__(*about)
        self.line, self.column = line, column


class PresetError(MullamaError):
    """What is kept by name, a chain or a control vector, is damaged or could not be written."""


class RetrievalError(MullamaError):
    """An index of documents could not do what was asked of it."""


class IndexFileError(RetrievalError):
    """There is no index in that file, or it is truncated or was altered."""


class WrongEncoder(RetrievalError):
    """The vectors of an index were made by another encoder."""


class IndexNotSaved(RetrievalError):
    """An index could not be written; the file that was there before still is."""


class UnknownDocument(RetrievalError, KeyError):
    """No document has that id, or it was removed."""

    __str__ = Exception.__str__  # a KeyError would show the repr of its message


class HistoryError(MullamaError):
    """The history of a benchmark could not be read or written."""


class ClosedError(MullamaError):
    """A call on a model or session that was closed."""

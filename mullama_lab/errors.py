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
    │   └── Stopped             stopped before there was a result
    ├── SamplingError       a chain could not choose a token
    │   ├── NoCandidates        every token was removed
    │   └── StageFailed         a Custom stage raised, or returned what is no row of logits
    └── ClosedError         a call on a closed model or session

What the caller did wrong (a value out of range, a wrong type) is a plain
`ValueError` or `TypeError`. Every message names the value, the rule and the way out.
"""

from __future__ import annotations


class MullamaError(Exception):
    """The root of everything mullama_lab raises when the world failed."""


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


class Stopped(SessionError):
    """The work was stopped before there was a result."""


class SamplingError(MullamaError):
    """A chain could not choose a token."""


class NoCandidates(SamplingError):
    """A stage removed every token."""


class StageFailed(SamplingError):
    """A Custom stage raised, or returned something that is no row of logits."""


class ClosedError(MullamaError):
    """A call on a model or session that was closed."""

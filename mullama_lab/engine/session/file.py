"""Sessions that last: what a session holds goes into a file, and comes back in another kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from mullama_lab.counted import counted
from mullama_lab.engine import sealed_file
from mullama_lab.engine.gguf.fingerprint import fingerprint
from mullama_lab.engine.native import state as native
from mullama_lab.engine.session import cells
from mullama_lab.engine.session.settings import Settings
from mullama_lab.engine.session.state import Contents, must_be_of, settings_for, unpacked
from mullama_lab.engine.steering.lora import LoraAdapter
from mullama_lab.engine.steering.steering import Steering, Weights, adapters_of
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.errors import ModelFileError, SessionFileError
from mullama_lab.files.path import in_full
from mullama_lab.glyphs import brief, visible

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session.session import Session

S = TypeVar("S", bound="Session")


@dataclass(frozen=True)
class SavedSession:
    """A file that a session was written to, or read from.

    Attributes:
        path: where it is.
        size_bytes: size of the file; `state_bytes` of it are the cache.
        seconds: wall time that writing or reading it took, the cache's part included; not the
            wait for what the session was generating.
        n_tokens: tokens of all sequences together.
        n_cells: cells they take; a token that sequences share takes one.
        n_sequences: sequences with tokens.
        left_out: what could not be saved, and why; "" if nothing.
    """

    path: Path
    size_bytes: int
    state_bytes: int
    seconds: float
    n_tokens: int
    n_cells: int
    n_sequences: int
    left_out: str = ""

    def __repr__(self) -> str:
        but = f", without {self.left_out}" if self.left_out else ""
        return visible(
            f"<{self.path.name}: {counted(self.n_tokens, 'token')} in "
            f"{counted(self.n_sequences, 'sequence')}, "
            f"{self.size_bytes / 1e6:.2f} MB in {self.seconds:.3f} s{but}>"
        )


def save(session: Session, path: str | Path, tree: Tree | None) -> SavedSession:
    """What `Session.save` does."""
    if tree is not None and not isinstance(tree, Tree):
        raise TypeError(f"tree={brief(tree)}: it must be a Tree.")
    tree = session.tree if tree is None else tree
    model = about_model(session.model)
    cells.recover(session)
    contents, n_cells, began = session._do_with_cells(lambda: contents_of(session, model))
    contents.tree = tree
    contents.trace, contents.left_out = _writable(session.last_trace)
    stamp = sealed_file.write(path, *contents.packed())
    session.tree = tree
    return _report(in_full(path), stamp.size_bytes, contents, n_cells, perf_counter() - began)


def load(
    kind: type[S],
    path: str | Path,
    model: Model,
    adapters: Mapping[LoraAdapter, float] | None,
    settings: Mapping[str, Any],
) -> S:
    """What `Session.load` does."""
    began = perf_counter()
    arrays, about = sealed_file.read(path)
    path = in_full(path)
    contents = unpacked(path.name, arrays, about)
    must_be_of(path.name, contents.model, about_model(model))
    weights = _weights(path.name, contents.steering, adapters, model)
    options = settings_for(path.name, contents.settings, settings)
    try:
        session = kind(model, Settings(**options))
    except ValueError as error:
        if str(error).partition("=")[0] in settings:  # of the caller; it begins with its name
            raise
        raise SessionFileError(f"{path.name} cannot be opened here: {error}") from error
    try:
        session._do_with_cells(lambda: take(session, contents, weights))
    except BaseException:
        session.close()
        raise
    session.last_trace, session.tree = contents.trace, contents.tree
    seconds = perf_counter() - began
    session.saved = _report(path, _size(path), contents, session.n_cells, seconds)
    return session


# On the worker.


def contents_of(session: Session, model: dict[str, Any]) -> tuple[Contents, int, float]:
    """What to save, how many cells it has, and when this began."""
    began = perf_counter()
    cache = session._cache
    contents = Contents(
        model=model,
        settings=session.settings,
        steering=session.steering,
        state=native.state_of(cache.handle),
        held=cache.sequences.copied(),
    )
    return contents, cache.sequences.n_cells, began


def take(session: Session, contents: Contents, weights: Weights) -> None:
    """Let an empty session hold that."""
    cache = session._cache
    cache.weights = weights
    for sequence, held in contents.held.items():
        if sequence >= session.n_seq_max:
            raise SessionFileError(
                f"the file has a sequence {sequence}, and n_seq_max={session.n_seq_max}. "
                "It was made by another program; save the session again."
            )
        wrong = [token for token in held.text.tokens if not 0 <= token < session.model.n_vocab]
        if wrong:
            raise SessionFileError(
                f"the file has token {wrong[0]}, and the vocabulary ends at "
                f"{session.model.n_vocab - 1}. "
                "It was made by another program; save the session again."
            )
    native.set_state(cache.handle, contents.state)
    cache.sequences.restore(contents.held)
    for sequence, held in contents.held.items():
        last = native.last_position(cache.handle, sequence)
        if last != len(held.text) - 1:
            raise SessionFileError(
                f"the file names {len(held.text)} tokens in sequence {sequence}, and its "
                f"cache ends at position {last}. "
                "It was made by another program; save the session again."
            )
    if any(cache.sequences.room(sequence) < 0 for sequence in contents.held):
        raise SessionFileError(
            f"the file has more tokens than fit in its n_ctx={session.settings['n_ctx']}. "
            "It was made by another program; save the session again."
        )
    lengths = {s: len(held.text) for s, held in contents.held.items() if held.text}
    free = [s for s in range(session.n_seq_max) if s not in lengths][:2]
    if session.model.n_swa and lengths:
        if cache.sequences.shared and len(free) == 2:
            native.keep_windows(cache.handle, lengths, free)
        else:  # later cells may lie before earlier ones, and are added up in that order
            for held in contents.held.values():
                held.provenance.cut(0)


# Inside.


def _weights(
    name: str, steering: Steering, adapters: Mapping[LoraAdapter, float] | None, model: Model
) -> Weights:
    """What is in force again, with other adapters if those are given."""
    if adapters is not None:
        return Weights.of(Steering(adapters_of(adapters), steering.control), model)
    try:
        return Weights.of(steering, model)
    except ModelFileError as error:
        raise SessionFileError(
            f"{name} was saved with an adapter in force that is not to be had: {error} Put its "
            "file back, or say what is to be in force: Session.load(path, model, "
            "adapters={LoraAdapter.load(elsewhere): 0.8}), or adapters={} for none."
        ) from error
    except ValueError as error:
        raise SessionFileError(f"{name} has in force what cannot be: {error}") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # taken away since it was read
        return 0


def about_model(model: Model) -> dict[str, Any]:
    """What tells a model from others in a file, and how it is called."""
    model._weight_files.must_be_on_disk()
    return {"name": model.name, "file": model.path.name, **fingerprint(model.path)}


def _writable(trace: Trace | None) -> tuple[Trace | None, str]:
    """The trace, or why it cannot be written: a Python function is no value."""
    try:
        if trace is not None:
            trace.to_dict()
    except ValueError as error:
        return None, f"the last trace ({error})"
    return trace, ""


def _report(
    path: Path, size: int, contents: Contents, n_cells: int, seconds: float
) -> SavedSession:
    lengths = [len(held.text) for held in contents.held.values() if held.text]
    return SavedSession(
        path=path,
        size_bytes=size,
        state_bytes=contents.state.nbytes,
        seconds=seconds,
        n_tokens=sum(lengths),
        n_cells=n_cells,
        n_sequences=len(lengths),
        left_out=contents.left_out,
    )

"""Sessions that last: what a session holds goes into a file, and comes back in another kernel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from mullama_lab.engine import _native_state as native
from mullama_lab.engine import sealed_file
from mullama_lab.engine.gguf.fingerprint import fingerprint
from mullama_lab.engine.session.branches import SessionBranches
from mullama_lab.engine.session.state import Contents, must_be_of, settings_for, unpacked
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.errors import SessionFileError

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

S = TypeVar("S", bound="SessionFile")


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
        plural = "" if self.n_sequences == 1 else "s"
        return (
            f"<{self.path.name}: {self.n_tokens} tokens in {self.n_sequences} sequence{plural}, "
            f"{self.size_bytes / 1e6:.2f} MB in {self.seconds:.3f} s{but}>"
        )


class SessionFile(SessionBranches):
    """How a session is saved and loaded."""

    tree: Tree | None = None  # that it was loaded with, or saved with last
    saved: SavedSession | None = None  # the file it was loaded from

    def save(self, path: str | Path, tree: Tree | None = None) -> SavedSession:
        """Write what the session holds into one file, which `Session.load` opens again.

        That is: the tokens of every sequence and their cells of the cache, the settings, the last
        trace with its seed and chain (its kept rows of logits stay out), and a Tree. A file of
        that name is replaced when the new one is complete on the disk, and not before. It waits
        for what the session is generating.

        Args:
            path: where to; ".safetensors" is the usual ending.
            tree: a Tree to keep with it; None is `session.tree`.

        Raises:
            SessionNotSaved: the disk is full, or the place cannot be written to. An older file
                of that name is as it was.
            ValueError: a chain in the tree has a Custom stage, whose function is no value.
            ClosedError: the session was closed.
        """
        if tree is not None and not isinstance(tree, Tree):
            raise TypeError(f"tree={tree!r:.80}: it must be a Tree.")
        tree = self.tree if tree is None else tree
        path = Path(path).expanduser().resolve()
        model = _about(self.model)
        contents, n_cells, began = self._do(lambda: self._contents(model))
        contents.tree = tree
        contents.trace, contents.left_out = _writable(self.last_trace)
        size = sealed_file.write(path, *contents.packed())
        self.tree = tree
        return _report(path, size, contents, n_cells, perf_counter() - began)

    @classmethod
    def load(cls: type[S], path: str | Path, model: Model, **settings: Any) -> S:
        """Open a session as it was saved: nothing is decoded, and `generate` goes on from there.

        `session.last_trace`, `session.tree` and `session.saved` (size and time) are set.

        With kv_unified=False, or all sequences but one in use, a cache with a sliding window can
        be rewound no further than the window afterwards; what is before it is decoded again.

        Args:
            path: a file that `save` wrote.
            model: the model it was saved with, wherever its file is now.
            settings: those of Session that shall differ: n_threads, n_batch and n_ubatch may, and
                n_ctx and n_seq_max may be larger. The threads are not those of the saved one,
                which may have been on another machine.

        Raises:
            SessionMismatch: the model is another one, or a setting cannot be that.
            SessionFileError: there is no such file, or it was cut off or altered; llama.cpp has
                not seen any of it then. Or there is not enough memory for its n_ctx.
            ValueError: one of `settings` is out of range.
        """
        began = perf_counter()
        path = Path(path).expanduser().resolve()
        contents = unpacked(path.name, *sealed_file.read(path))
        must_be_of(path.name, contents.model, _about(model))
        options = settings_for(path.name, contents.settings, settings)
        try:
            session = cls(model, **options)
        except ValueError as error:
            if settings:  # of the caller
                raise
            raise SessionFileError(f"{path.name} cannot be opened here: {error}") from error
        try:
            session._do(lambda: session._take(contents))
        except BaseException:
            session.close()
            raise
        session.last_trace, session.tree = contents.trace, contents.tree
        seconds = perf_counter() - began
        size = path.stat().st_size
        session.saved = _report(path, size, contents, session.n_cells, seconds)
        return session

    # Inside; on the worker.

    def _contents(self, model: dict[str, Any]) -> tuple[Contents, int, float]:
        """What to save, how many cells it has, and when this began."""
        began = perf_counter()
        context = self._context
        contents = Contents(
            model=model,
            settings=self.settings,
            state=native.state_of(context.handle),
            held=context.sequences.copied(),
        )
        return contents, context.sequences.n_cells, began

    def _take(self, contents: Contents) -> None:
        context = self._context
        for sequence, held in contents.held.items():
            if sequence >= self.n_seq_max:
                raise SessionFileError(
                    f"the file has a sequence {sequence}, and n_seq_max={self.n_seq_max}. "
                    "It was made by another program; save the session again."
                )
            wrong = [token for token in held.tokens if not 0 <= token < self.model.n_vocab]
            if wrong:
                raise SessionFileError(
                    f"the file has token {wrong[0]}, and the vocabulary ends at "
                    f"{self.model.n_vocab - 1}. "
                    "It was made by another program; save the session again."
                )
        native.set_state(context.handle, contents.state)
        context.sequences.restore(contents.held)
        for sequence, held in contents.held.items():
            last = native.last_position(context.handle, sequence)
            if last != len(held.tokens) - 1:
                raise SessionFileError(
                    f"the file names {len(held.tokens)} tokens in sequence {sequence}, and its "
                    f"cache ends at position {last}. "
                    "It was made by another program; save the session again."
                )
        if any(context.sequences.room(sequence) < 0 for sequence in contents.held):
            raise SessionFileError(
                f"the file has more tokens than fit in its n_ctx={self.settings['n_ctx']}. "
                "It was made by another program; save the session again."
            )
        lengths = {s: len(held.tokens) for s, held in contents.held.items() if held.tokens}
        free = [s for s in range(self.n_seq_max) if s not in lengths][:2]
        if self.model.n_swa and context.sequences.shared and lengths and len(free) == 2:
            native.keep_windows(context.handle, lengths, free)


def _about(model: Model) -> dict[str, Any]:
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
    lengths = [len(held.tokens) for held in contents.held.values() if held.tokens]
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

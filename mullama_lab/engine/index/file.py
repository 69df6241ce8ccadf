"""An index on disk: one safetensors file, written as a stream and read through a memory map.

Any safetensors library can read it. Its metadata has a SHA-256 of all the rest, so that a file
that was cut or altered is noticed. A save takes the old file's place at its end: whatever ends it
early, the old file is whole.

Pages of a mapped file are those that the disk has when they are read. One that is no longer there
ends the process (SIGBUS), which Python cannot catch, and one that was written to has other numbers.
So a `MappedFile` asks the disk before its pages are read, and after a save; a file that somebody
cuts short in that very moment still ends the process.

safetensors' own `save_file` wants each array in one piece of memory; an index has many pieces.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mullama_lab.errors import IndexFileError, IndexNotSaved
from mullama_lab.files.path import in_full
from mullama_lab.files.replacing import must_not_be_a_device, replacing
from mullama_lab.files.stamp import WatchedFile

FORMAT = "mullama_lab.index.1"
TYPES = {
    "I64": np.dtype("<i8"),
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}
CODES = {kind: code for code, kind in TYPES.items()}
NO_DIGEST = "0" * 64
CHUNK = 1 << 22  # bytes written or read at a time


@dataclass(frozen=True)
class Column:
    """One array of the file, given piece by piece."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    pieces: Iterable[NDArray[Any]]

    @property
    def n_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


def write(
    path: str | os.PathLike[str],
    columns: Mapping[str, Column],
    about: Mapping[str, str],
    on_bytes: Callable[[int], object],
    must_be_whole: Callable[[], object],
) -> None:
    """Write a file, or leave what is there as it is.

    Args:
        must_be_whole: raises where what was written is not what the columns were.

    Raises:
        IndexNotSaved: the system refused, for instance because the disk is full.
    """
    # Wide types first: each array then begins where its type may.
    names = sorted(columns, key=lambda name: (-columns[name].dtype.itemsize, name))
    ordered = {name: columns[name] for name in names}
    n_bytes = sum(column.n_bytes for column in columns.values())
    try:
        with replacing(in_full(path)) as part:
            with part.open("wb") as file:
                _fill(file, ordered, about, on_bytes)
            must_be_whole()
    except OSError as error:
        raise IndexNotSaved(
            f"the index of {n_bytes / 1e6:.1f} MB was not saved as {path}: "
            f"{error.strerror or error}. What was there before still is. Make room, or save "
            "elsewhere."
        ) from error


def _fill(
    file: IO[bytes],
    columns: Mapping[str, Column],
    about: Mapping[str, str],
    on_bytes: Callable[[int], object],
) -> None:
    head = _head(columns, about, NO_DIGEST)
    digest = hashlib.sha256(head)
    file.write(head)
    for column in columns.values():
        n_bytes = 0
        for piece in column.pieces:
            data = np.ascontiguousarray(piece, column.dtype).reshape(-1).view(np.uint8)
            for start in range(0, len(data), CHUNK):
                chunk = data[start : start + CHUNK].data
                digest.update(chunk)
                file.write(chunk)
                on_bytes(len(chunk))
            n_bytes += len(data)
        if n_bytes != column.n_bytes:
            raise RuntimeError(f"an array of {column.n_bytes} bytes came as {n_bytes}")
    file.seek(0)
    file.write(_head(columns, about, digest.hexdigest()))


def _head(columns: Mapping[str, Column], about: Mapping[str, str], digest: str) -> bytes:
    """Length, JSON and padding, as safetensors has them; as long whatever the digest is."""
    entries: dict[str, Any] = {"__metadata__": {"digest": digest, "format": FORMAT, **about}}
    end = 0
    for name, column in columns.items():
        start, end = end, end + column.n_bytes
        entries[name] = {
            "dtype": CODES[column.dtype],
            "shape": list(column.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def about(path: str | os.PathLike[str]) -> tuple[Path, dict[str, str]]:
    """Where an index file is, in full, and its metadata.

    Raises:
        IndexFileError: it is not there, is no index, or is shorter than its head says.
    """
    try:
        path = in_full(path)
        must_not_be_a_device(path)
        with safe_open(path, "np") as file:
            found = file.metadata() or {}
    except OSError as error:
        raise IndexFileError(
            f"{path} cannot be read: {error.strerror or error}. Give the file that save() wrote."
        ) from error
    except SafetensorError as error:
        raise IndexFileError(
            f"{path} is no index, or was cut short ({error}). Make it again, or open a copy."
        ) from error
    if found.get("format") != FORMAT:
        raise IndexFileError(
            f"{path} is a safetensors file, but no index of this version: its format is "
            f"{found.get('format', 'not said')!r}, not {FORMAT!r}."
        )
    return path, found


class MappedFile(WatchedFile):
    """A file whose pages are read later, held open to see that they are still what they were."""

    def must_be_whole(self) -> None:
        """Refuse to read what would end the process, or what nobody saved.

        Raises:
            IndexFileError: the file was cut short or written to since it was opened.
        """
        if change := self.change():
            raise IndexFileError(
                f"{self.path} {change} while it was open. Its vectors are read from it, so "
                "nothing more is searched or saved here. Put a whole copy there and open that, or "
                "make the index again."
            )


def read(path: Path, *, verify: bool) -> tuple[dict[str, NDArray[Any]], MappedFile, dict[str, str]]:
    """The arrays of a file whose `about` is fine, mapped and not read; read once if to `verify`.

    Returns:
        the arrays, the file, and its metadata: another file may be there since `about` was asked.

    Raises:
        IndexFileError: it was altered.
    """
    with path.open("rb") as file:
        mapped = MappedFile(path, file)  # first, so that what changes meanwhile is noticed
        length = int.from_bytes(file.read(8), "little")
        head = file.read(length)
        entries = json.loads(head)
        metadata = entries.pop("__metadata__")
        digest = metadata.get("digest", "")
        if verify and _digest(head, digest, file) != digest:
            raise IndexFileError(
                f"{path} was altered since it was saved: its SHA-256 is not the one it names. "
                "Make it again, or open a copy."
            )
        mapped.must_be_whole()
        memory = np.asarray(np.memmap(file, np.uint8, "r"))
    arrays = {}
    for name, entry in entries.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        kind = TYPES.get(entry["dtype"])
        if kind is None:
            raise IndexFileError(f"{path} has an array {name} of {entry['dtype']}; no index has.")
        array = memory[start:end].view(kind).reshape(entry["shape"])
        arrays[name] = np.require(array, requirements="A")
    return arrays, mapped, metadata


def _digest(head: bytes, digest: str, file: IO[bytes]) -> str:
    blank = head.replace(f'"digest":"{digest}"'.encode(), f'"digest":"{NO_DIGEST}"'.encode(), 1)
    found = hashlib.sha256(len(head).to_bytes(8, "little") + blank)
    while chunk := file.read(CHUNK):
        found.update(chunk)
    return found.hexdigest()

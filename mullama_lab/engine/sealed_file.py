"""A safetensors file that holds the SHA-256 of itself, and replaces an old one whole or not at all.

The sum is of every byte of the file, with zeros where the sum itself stands. It is checked before
anything of the file is parsed, so a file that was cut, altered or is no such file is refused.
It is no signature: it tells accidents, not forgers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mullama_lab.errors import SessionFileError, SessionNotSaved
from mullama_lab.files.path import in_full
from mullama_lab.files.replacing import must_not_be_a_device, replacing
from mullama_lab.files.stamp import FileStamp, WatchedFile
from mullama_lab.glyphs import brief

LONGEST_HEADER = 100_000_000  # as safetensors itself has it
CHUNK = 1 << 20  # bytes read at a time
_NO_SUM = b"0" * 64
_SUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')  # in a JSON text its quotes would be escaped
_OS_ERROR = re.compile(r"os error (\d+)")


def write(
    path: str | Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> FileStamp:
    """Write arrays and plain values; the stamp of the file that has them.

    Raises:
        SessionNotSaved: the disk is full, or the place cannot be written to.
    """
    metadata = {"about": json.dumps(about), "sha256": _NO_SUM.decode()}
    try:
        path = in_full(path)
        with replacing(path) as part:
            save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, part, metadata)
            _seal(part)
            stamp = FileStamp.of(part)
    except (OSError, SafetensorError) as error:
        left = "The file that was there is as it was" if os.path.isfile(path) else "Nothing is left"
        raise SessionNotSaved(
            f"{path} could not be written: {_reason(error)}. {left}. "
            "Save to another place, or make room."
        ) from error
    return stamp


def read(path: str | Path) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    """The arrays and plain values of a file, once its sum is right.

    Raises:
        SessionFileError: there is no such file, or it is not what was written.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{brief(path)} is no path. Give a text or a pathlib.Path.")
    try:
        path = in_full(path)
        must_not_be_a_device(path)
        with closing(WatchedFile(path)) as watched:
            with path.open("rb") as file:
                _must_be_sealed(path, file)
            with safe_open(path, framework="numpy") as opened:
                arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                about = json.loads((opened.metadata() or {})["about"])
            if change := watched.change() or watched.change_at_path():
                raise SessionFileError(f"{path} {change} while it was read. Load it again.")
        if not isinstance(about, dict):
            raise ValueError("its metadata is no dict")
    except FileNotFoundError:
        raise SessionFileError(f"{path} does not exist. Check the path.") from None
    except OSError as error:
        raise SessionFileError(f"{path} cannot be read: {_reason(error)}.") from error
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise SessionFileError(
            f"{Path(path).name} has a right checksum but is not what was saved: {error}. "
            "It was made by another program; save it again."
        ) from error
    return arrays, about


def _seal(path: Path) -> None:
    with path.open("r+b") as file:
        head = _head(file)
        at, _ = _place_of_sum(head) or (0, b"")
        digest = _digest(head, at, file)
        file.seek(at)
        file.write(digest)


def _must_be_sealed(path: Path, file: BinaryIO) -> None:
    head = _head(file)
    if not head:
        raise SessionFileError(f"{path} is empty. Save it again.")
    found = _place_of_sum(head)
    if found is None:
        raise SessionFileError(
            f"{path.name} is not a saved session or lab, or its beginning is damaged: it names "
            "no checksum. Give a file that `save` wrote."
        )
    at, said = found
    if _digest(head, at, file) != said:
        raise SessionFileError(
            f"{path.name} is not as it was saved: its {file.tell()} bytes do not have the "
            "checksum it names, so it was cut off or altered. Copy it again, or save it again."
        )


def _head(file: BinaryIO) -> bytes:
    """The length of the header and the header, as far as they are there."""
    length = file.read(8)
    return length + file.read(min(int.from_bytes(length, "little"), LONGEST_HEADER))


def _place_of_sum(head: bytes) -> tuple[int, bytes] | None:
    """Where the sum stands in the header, and the sum."""
    match = _SUM.search(head)
    return (match.start(1), match[1]) if match else None


def _digest(head: bytes, at: int, rest: BinaryIO) -> bytes:
    """The sum of a file: of its head, and what follows; read, for a map may lose its pages."""
    total = hashlib.sha256(head[:at] + _NO_SUM + head[at + len(_NO_SUM) :])
    while chunk := rest.read(CHUNK):
        total.update(chunk)
    return total.hexdigest().encode()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    match = _OS_ERROR.search(str(error))  # safetensors writes through Rust
    return os.strerror(int(match[1])) if match else str(error)

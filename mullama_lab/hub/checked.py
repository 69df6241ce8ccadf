"""Whether a fetched file is still what was fetched, without reading it each time.

Beside a file `name.gguf` lies `.name.gguf.checked`, which has the SHA-256 that the file had, and
the stamp (size, time, inode) that it had then. While the stamp is the same the file is not read.
With another stamp, or where that note is gone or damaged, the file is read and its sum compared
with the catalogue's, or, for a file that was converted here, with the note's. It tells accidents;
who can write to the cache can also write the note.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mullama_lab.files.replacing import replacing
from mullama_lab.files.stamp import FileStamp
from mullama_lab.hub.entries import CatalogueEntry

_CHUNK = 1 << 20


def is_as_fetched(entry: CatalogueEntry, path: Path) -> bool:
    """Whether the file of an entry is there and is what was fetched; read if it must be.

    A converted file without a note is taken as it is: the catalogue has no sum of it, since other
    versions of the gguf library may say more in its head.
    """
    try:
        stamp = FileStamp.of(path)
        if not path.is_file() or stamp.size_bytes < entry.size_bytes:
            return False
        if not entry.from_onnx and stamp.size_bytes != entry.size_bytes:
            return False
        note = _note(path)
        promised = note.get("sha256") if entry.from_onnx else entry.sha256
        if note == _as_note(stamp, promised):
            return True
        found = sha256_of(path)
    except OSError:
        return False
    if found != (promised or found):
        return False
    remember(path, found, stamp)
    return True


def remember(path: Path, sha256: str, stamp: FileStamp | None = None) -> None:
    """Note that a file has this sum; where that cannot be written, it is read again next time."""
    with suppress(OSError), replacing(_note_path(path)) as part:
        part.write_text(json.dumps(_as_note(stamp or FileStamp.of(path), sha256)), "utf-8")


def forget(path: Path) -> None:
    """Take the note of a file away."""
    with suppress(OSError):
        _note_path(path).unlink()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _as_note(stamp: FileStamp, sha256: str | None) -> dict[str, Any]:
    return {**asdict(stamp), "sha256": sha256}


def _note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(_note_path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _note_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.checked")

"""Which model files llama.cpp was seen to survive, remembered from one kernel to the next.

A line a file, the newest last: the SHA-256 of the header of each of its parts, their sizes, and
which llama.cpp it was. What cannot be read or written is forgotten, which costs a new probe.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mullama_lab import hub
from mullama_lab.engine.gguf.file import read_header
from mullama_lab.engine.native.library import VERSION
from mullama_lab.files.replacing import replacing

MOST = 1000  # files remembered
LARGEST = 1 << 20  # bytes of a memory that is read at all
_LINE = re.compile(r"[0-9a-f]{64}")


def fingerprint(parts: Iterable[Path], tried: str) -> str:
    """What names a file and all that the outcome of a probe hangs on, but its weights.

    Args:
        parts: the files of the model.
        tried: what the probe did, in a word.
    """
    digest = hashlib.sha256(f"{VERSION} {tried}".encode())
    for part in parts:
        header = read_header(part)
        digest.update(f"{header.size_bytes} {header.data_start}\n".encode())
        with part.open("rb") as file:
            left = min(header.data_start, header.size_bytes)
            while left and (some := file.read(min(left, 1 << 20))):
                digest.update(some)
                left -= len(some)
    return digest.hexdigest()


def memory_path() -> Path:
    """Where it is kept: beside the fetched models."""
    return hub.cache_dir().parent / "probed.txt"


def known() -> list[str]:
    """The fingerprints of the files that were survived."""
    try:
        with memory_path().open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError:
        return []
    lines = text.decode("ascii", "replace").splitlines() if len(text) <= LARGEST else []
    return [line for line in lines if _LINE.fullmatch(line)]


def remember(survived: str) -> None:
    """Add a fingerprint; the oldest are left out. A disk that refuses is no matter."""
    lines = [line for line in known() if line != survived]
    with suppress(OSError):
        memory_path().parent.mkdir(parents=True, exist_ok=True)
        with replacing(memory_path()) as part:
            part.write_text("".join(f"{line}\n" for line in [*lines, survived][-MOST:]))

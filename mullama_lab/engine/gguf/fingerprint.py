"""What tells one model file from another, without reading all of it.

The header (every key, every tensor's name, shape, type and place) is hashed as it is, and of
each tensor a piece from its middle. So a file with other weights, other metadata or another
quantisation differs; the name and place of the file do not matter.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mullama_lab.engine.gguf.check import parts
from mullama_lab.engine.gguf.file import Header, read_header
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.errors import ModelFileError

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

PIECE = 4096  # bytes read of each tensor


def fingerprint(path: str | Path) -> dict[str, str | int]:
    """size_bytes, header and weights of a model file with all its parts; plain values.

    Raises:
        ModelFileError: the file is gone or damaged.
    """
    size, header_sum, weights_sum = 0, hashlib.sha256(), hashlib.sha256()
    for part in parts(path):
        header = read_header(part)
        size += header.size_bytes
        try:
            with part.open("rb") as file:
                header_sum.update(file.read(min(header.data_start, header.size_bytes)))
                for start, end in _extents(header):
                    file.seek(start + max(0, (end - start - PIECE) // 2))
                    weights_sum.update(file.read(min(PIECE, end - start)))
        except OSError as error:
            raise ModelFileError(f"{part} cannot be read: {error}.") from error
    return {
        "size_bytes": size,
        "header": header_sum.hexdigest(),
        "weights": weights_sum.hexdigest(),
    }


def short_fingerprint(path: str | Path) -> str:
    """The fingerprint of a file in 32 characters.

    Raises:
        ModelFileError: as in `fingerprint`.
    """
    return hashlib.sha256(repr(sorted(fingerprint(path).items())).encode()).hexdigest()[:32]


@once_per_model
def fingerprint_of(model: Model) -> str:
    """The short fingerprint of the file that a model was loaded from, read once."""
    return short_fingerprint(model.path)


def _extents(header: Header) -> list[tuple[int, int]]:
    """Where each tensor begins and the next one does, or the file ends."""
    size = header.size_bytes
    starts = sorted(min(header.data_start + tensor.offset, size) for tensor in header.tensors)
    return list(zip(starts, [*starts[1:], size], strict=True)) if starts else []

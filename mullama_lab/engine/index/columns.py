"""The documents of an index as the columns of a file, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.index.file import Column, MappedFile
from mullama_lab.engine.index.part import Name, Part, Run, is_name, offsets_of
from mullama_lab.engine.multivector.ragged import Ragged, rising


def columns_of(
    runs: list[Run], names: Sequence[Name], pieces: list[bytes], storage: str, dim: int
) -> dict[str, Column]:
    """What a file of these documents holds."""
    lengths = [length for part, a, b in runs for length in part.vectors.lengths[a:b].tolist()]
    text_lengths = [
        length for part, a, b in runs for length in np.diff(part.text_offsets[a : b + 1]).tolist()
    ]
    n_tokens = sum(lengths)

    def tokens(get: Callable[[Part], Any]) -> Iterator[NDArray[Any]]:
        return (get(part)[part.rows(a, b)] for part, a, b in runs)

    def whole_array(values: Any, dtype: Any) -> Column:
        array = np.asarray(values, dtype)
        return Column(array.dtype, array.shape, [array])

    int32 = np.dtype(np.int32)
    columns = {
        "vectors": Column(np.dtype(storage), (n_tokens, dim), tokens(lambda p: p.vectors.vectors)),
        "ids": Column(int32, (n_tokens,), tokens(lambda part: part.ids)),
        "pieces": Column(int32, (n_tokens,), tokens(lambda part: part.pieces)),
        "spans": Column(int32, (n_tokens, 2), tokens(lambda part: part.spans)),
        "offsets": whole_array(offsets_of(lengths), np.int64),
        "texts": Column(
            np.dtype(np.uint8), (sum(text_lengths),), (part.text_bytes(a, b) for part, a, b in runs)
        ),
        "text_offsets": whole_array(offsets_of(text_lengths), np.int64),
        "piece_bytes": whole_array(np.frombuffer(b"".join(pieces), np.uint8), np.uint8),
        "piece_offsets": whole_array(offsets_of([len(piece) for piece in pieces]), np.int64),
        "names": whole_array(np.frombuffer(json.dumps(names).encode(), np.uint8), np.uint8),
    }
    if storage == "int8":
        columns["scales"] = Column(
            np.dtype(np.float32), (n_tokens,), tokens(lambda part: part.vectors.scales)
        )
    return columns


def opened(
    arrays: Mapping[str, NDArray[Any]], file: MappedFile, storage: str, dim: int
) -> tuple[Part, list[bytes]]:
    """The documents that `columns_of` wrote, and the bytes of tokens.

    Where each document begins is copied, so that a file altered later leads no read astray.

    Raises:
        KeyError, ValueError: columns are missing or do not fit each other.
    """
    names = json.loads(arrays["names"].tobytes())
    vectors = Ragged.unchecked(arrays["vectors"], arrays["offsets"], arrays.get("scales"))
    text_offsets = rising(arrays["text_offsets"], arrays["texts"].size, "bytes of its texts")
    if vectors.vectors.dtype != storage or vectors.dim != dim:
        raise ValueError(f"its vectors are {vectors}, not {storage} of {dim}")
    part = Part(
        names=names,
        vectors=vectors,
        ids=arrays["ids"],
        pieces=arrays["pieces"],
        spans=arrays["spans"],
        texts=arrays["texts"],
        text_offsets=text_offsets,
        file=file,
    )
    n_tokens = vectors.n_tokens
    shapes = [part.ids.shape, part.pieces.shape, part.spans.shape, part.text_offsets.shape]
    kinds = [array.dtype.name for array in (part.ids, part.pieces, part.spans, part.texts)]
    if shapes != [(n_tokens,), (n_tokens,), (n_tokens, 2), (len(vectors) + 1,)]:
        raise ValueError(f"its columns have the shapes {shapes}, of {n_tokens} tokens")
    if kinds != ["int32", "int32", "int32", "uint8"]:
        raise ValueError(f"its columns are {', '.join(kinds)}")
    if not isinstance(names, list) or len(names) != len(vectors) or not all(map(is_name, names)):
        raise ValueError("its ids do not fit its documents")
    data = arrays["piece_bytes"].tobytes()
    bounds = rising(arrays["piece_offsets"], len(data), "bytes of its tokens").tolist()
    return part, [data[start:end] for start, end in pairwise(bounds)]

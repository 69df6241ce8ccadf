"""Refuse GGUF files that would take the process down.

llama.cpp answers most bad files with an error, but aborts or crashes on some. Each rule here
stands for one of those, and each has a test. What llama.cpp refuses well by itself is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from mullama_lab.engine.gguf import vocabulary_check
from mullama_lab.engine.gguf.file import UINT16, Header, TensorInfo, read_header
from mullama_lab.engine.gguf.network_check import network_problem
from mullama_lab.engine.gguf.projection import Layers, layers_of
from mullama_lab.errors import ModelFileError

LEAST_ALIGNMENT = 32  # ggml aborts on weights that are mapped at less

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_F32 = GGMLQuantizationType.F32
_NO_WEIGHTS = {
    GGMLQuantizationType.I8,
    GGMLQuantizationType.I16,
    GGMLQuantizationType.I32,
    GGMLQuantizationType.I64,
    GGMLQuantizationType.F64,
    GGMLQuantizationType.Q8_K,  # for what is in between, not for weights
}
# What llama.cpp computes with element by element, besides all vectors.
_ALWAYS_F32 = re.compile(r"norm|ssm_a$|ssm_conv1d|shortconv\.conv")
_INDEX_TABLES = re.compile(r"tid2eid|d2t|t2d")  # the tensors that hold indices


@dataclass(frozen=True)
class CheckedFile:
    """A model file that llama.cpp may be given.

    `missing_bytes` are the bytes that a SentencePiece vocabulary has no token for: text with
    such a byte outside its known characters must not reach llama.cpp. `projection` is the layers
    that make a token's vector of what the network gives. `tensors` are those of all parts.
    """

    path: Path
    metadata: Mapping[str, Any]
    missing_bytes: frozenset[int]
    projection: Layers = ()
    tensors: tuple[TensorInfo, ...] = ()


def check(path: str | Path, *, vocab_only: bool = False) -> CheckedFile:
    """Check a model file with all its parts.

    Raises:
        ModelFileError: a part is missing, or a file is not one that llama.cpp can be given.
    """
    headers = [read_header(part) for part in parts(path)]
    first = headers[0]
    for header in headers:
        if len(headers) > 1 and header.kinds.get("split.no") != UINT16:
            raise _refused(header, "it does not say which part of the model it is (split.no)")
        if not vocab_only:
            _check_tensors(header)
    problem = "" if vocab_only else network_problem(first.metadata)
    if problem:
        raise _refused(first, problem)
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    missing = vocabulary_check.check(first)
    return CheckedFile(first.path, first.metadata, missing, layers_of(tensors), tensors)


def parts(path: str | Path) -> list[Path]:
    """The files a model consists of, the first part first.

    Any part of `name-00001-of-00003.gguf` stands for all three.
    """
    path = Path(path)
    match = _PART.fullmatch(path.name)
    if match is None:
        return [path]
    stem, count = match["stem"], int(match["count"])
    number = int(match["number"])
    if not 1 <= number <= count:
        raise ModelFileError(f"{path.name} says it is part {number} of {count}. Rename it.")
    files = [
        path.with_name(f"{stem}-{part:05d}-of-{count:05d}.gguf") for part in range(1, count + 1)
    ]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelFileError(
            f"{path.name} is one of {count} parts, and {', '.join(missing[:5])} "
            f"{'is' if len(missing) == 1 else 'are'} missing in {path.parent}. Fetch all parts."
        )
    return files


def _refused(header: Header, why: str) -> ModelFileError:
    return ModelFileError(
        f"{header.path.name} cannot be loaded: {why}. Fetch another conversion of the model."
    )


def _check_tensors(header: Header) -> None:
    alignment = header.metadata.get("general.alignment", LEAST_ALIGNMENT)
    if header.tensors and alignment < LEAST_ALIGNMENT:
        raise _refused(header, f"general.alignment is {alignment}, the least is {LEAST_ALIGNMENT}")
    for tensor in header.tensors:
        _check_extent(header, tensor)
        if _INDEX_TABLES.search(tensor.name):
            continue
        is_vector = len(tensor.shape) < 2 or _ALWAYS_F32.search(tensor.name)
        if is_vector and tensor.kind != _F32:
            raise _refused(header, f"{tensor.name} must be stored as F32 and is not")
        if tensor.kind in _NO_WEIGHTS:
            kind = GGMLQuantizationType(tensor.kind).name
            raise _refused(
                header, f"{tensor.name} is stored as {kind}, which is no type of weights"
            )


def must_be_whole(header: Header) -> None:
    """Refuse a file that ends before its tensors do; ModelFileError."""
    for tensor in header.tensors:
        _check_extent(header, tensor)


def _check_extent(header: Header, tensor: TensorInfo) -> None:
    sizes = GGML_QUANT_SIZES.get(tensor.kind)  # type: ignore[call-overload]
    if sizes is None:
        return  # a type newer than the gguf library: llama.cpp knows
    block, block_bytes = sizes
    end = header.data_start + tensor.offset + prod(tensor.shape) // block * block_bytes
    if end > header.size_bytes:
        raise ModelFileError(
            f"{header.path.name} is truncated: tensor {tensor.name} ends at byte {end}, and "
            f"the file has {header.size_bytes}. Fetch it again."
        )

"""Read the header of a GGUF file, and say plainly when it is not one.

llama.cpp reads the file itself; this reader comes first. It gives the metadata, large arrays
included (decoded when asked for), and refuses a file whose counts do not fit its size before
llama.cpp sees it. It reads no weights.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from mullama_lab.errors import ModelFileError
from mullama_lab.files.stamp import FileStamp

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
LONGEST_NAME = 63  # llama.cpp's GGML_MAX_NAME, less the closing NUL
MOST_DIMENSIONS = 4
_EAGER = 64  # arrays up to this length are read at once

_SCALARS = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("?"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
UINT16, UINT32, INT32, FLOAT32, STRING, ARRAY = 2, 4, 5, 6, 8, 9

_LOOKS = (
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer: run `git lfs pull` to get it"),
    (re.compile(rb"\s*<(!doctype|html|\?xml)", re.I), "a web page: download the file itself"),
    (re.compile(rb".{8}\{\s*\"", re.S), "a safetensors file: convert it to GGUF first"),
    (re.compile(rb"\s*[\{\[]"), "JSON text"),
    (re.compile(rb"PK\x03\x04"), "a ZIP or PyTorch file: convert it to GGUF first"),
    (re.compile(rb"\x80[\x02-\x05]"), "a pickled PyTorch file: convert it to GGUF first"),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"), "a compressed file: unpack it first"),
    (re.compile(rb"lmgg|tjgg|fmgg|algg"), "a file of the time before GGUF: convert it again"),
    (re.compile(rb"FUGG"), "a GGUF file with its bytes reversed"),
    (re.compile(rb"\x08[\x00-\x20]\x12"), "an ONNX file: convert it to GGUF first"),
)


class GGUFArray(Sequence[Any]):
    """An array of the metadata that is read from the file when it is first used.

    `kind` is the GGUF type of the elements.
    """

    __slots__ = ("_end", "_length", "_path", "_stamp", "_start", "_values", "kind")

    def __init__(
        self, path: Path, stamp: FileStamp, kind: int, length: int, start: int, end: int
    ) -> None:
        self.kind = kind
        self._path, self._stamp = path, stamp
        self._length, self._start, self._end = length, start, end
        self._values: list[Any] | None = None

    def raw(self) -> bytes:
        """The bytes of the array as they are in the file.

        Raises:
            ModelFileError: the file is gone, or is not what it was.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(self._start)
                raw = file.read(self._end - self._start)
                change = self._stamp.change(FileStamp.of(file.fileno()))
        except OSError as error:
            raise ModelFileError(f"{self._path} cannot be read: {error.strerror}.") from error
        if change:
            raise ModelFileError(
                f"{self._path} {change} since its header was read, so an array of it cannot be "
                "read any more. Load the model again."
            )
        return raw

    def texts(self) -> list[bytes]:
        """The elements of an array of strings, as bytes."""
        raw, texts, at = self.raw(), [], 0
        for _ in range(self._length):
            end = at + 8 + int.from_bytes(raw[at : at + 8], "little")
            texts.append(raw[at + 8 : end])
            at = end
        return texts

    def values(self) -> list[Any]:
        """All elements, decoded."""
        values = self._values
        if values is None:
            if self.kind == STRING:
                values = [text.decode("utf-8", "replace") for text in self.texts()]
            else:
                values = np.frombuffer(self.raw(), _SCALARS[self.kind]).tolist()
            self._values = values
        return values

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.values()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return len(self) == len(other) and self.values() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        first = ", ".join(repr(value) for value in self.values()[:3])
        return f"[{first}, ... {self._length} in all]"


@dataclass(frozen=True)
class TensorInfo:
    """What the header says of one tensor. `shape` is in GGUF's order, row length first."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Header:
    """The header of one GGUF file: everything but the weights."""

    path: Path
    version: int
    metadata: Mapping[str, Any]
    kinds: Mapping[str, int]  # the GGUF type of each key
    arrays: Mapping[str, GGUFArray]  # every array, as it is in the file
    tensors: tuple[TensorInfo, ...]
    data_start: int
    size_bytes: int


def read_header(path: str | Path) -> Header:
    """Read and check the header of a GGUF file.

    Raises:
        ModelFileError: the file is missing, empty, not GGUF, of a version llama.cpp does not
            read, truncated, or has counts that do not fit its size.
    """
    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f"{path} is a directory. Name the .gguf file in it.")
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise ModelFileError(f"{path} is empty. Fetch it again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(path, content, FileStamp.of(file.fileno())).header()
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist. Check the path.") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}.") from error


class _Reader:
    """Walks over a header; every step is checked against the size of the file."""

    def __init__(self, path: Path, content: mmap.mmap, stamp: FileStamp) -> None:
        self.path, self.content, self.size = path, content, len(content)
        self.stamp = stamp
        self.at = 0
        self.arrays: dict[str, GGUFArray] = {}

    def fail(self, what: str) -> ModelFileError:
        return ModelFileError(
            f"{self.path.name}: {what}. The file has {self.size} bytes; "
            "it is damaged or its download stopped early: fetch it again."
        )

    def number(self, layout: struct.Struct, what: str) -> int:
        start, self.at = self.at, self.at + layout.size
        if self.at > self.size:
            raise self.fail(f"the file ends inside {what}")
        return layout.unpack_from(self.content, start)[0]

    def u32(self, what: str) -> int:
        return self.number(_U32, what)

    def u64(self, what: str) -> int:
        return self.number(_U64, what)

    def text(self, what: str) -> str:
        length = self.u64(what)
        if length > self.size - self.at:
            raise self.fail(f"{what} claims {length} bytes, {self.size - self.at} are left")
        start, self.at = self.at, self.at + length
        return self.content[start : self.at].decode("utf-8", "replace")

    def header(self) -> Header:
        version, n_tensors, n_keys = self.start()
        metadata, kinds = self.keys(n_keys)
        tensors = tuple(self.tensor(index) for index in range(n_tensors))
        if len({tensor.name for tensor in tensors}) != n_tensors:
            raise self.fail("two tensors have the same name")
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self.fail(f"general.alignment is {alignment!r}, which is no power of two")
        data_start = -(-self.at // alignment) * alignment
        return Header(
            self.path, version, metadata, kinds, self.arrays, tensors, data_start, self.size
        )

    def start(self) -> tuple[int, int, int]:
        magic = self.content[:4]
        if magic != MAGIC:
            raise ModelFileError(f"{self.path.name} is not a GGUF file{self.looks()}.")
        self.at = 4
        version = self.u32("the version")
        if version & 0xFFFF == 0:
            raise ModelFileError(
                f"{self.path.name} is a big-endian GGUF file, which this machine cannot run. "
                "Fetch the little-endian one, or convert it with `gguf-convert-endian`."
            )
        if version not in VERSIONS:
            raise ModelFileError(
                f"{self.path.name} is GGUF version {version}; llama.cpp reads versions 2 and 3. "
                "Fetch a newer conversion of the model, or update llama-cpp-python."
            )
        n_tensors, n_keys = self.u64("the number of tensors"), self.u64("the number of keys")
        # A key takes at least 13 bytes, a tensor at least 24.
        for count, least, what in ((n_keys, 13, "keys"), (n_tensors, 24, "tensors")):
            if count * least > self.size - self.at:
                raise self.fail(f"the header claims {count} {what}, more than fit into the file")
        return version, n_tensors, n_keys

    def looks(self) -> str:
        start = bytes(self.content[:64])
        for pattern, name in _LOOKS:
            if pattern.match(start):
                return f"; it looks like {name}"
        return f": it starts with {start[:4]!r} where GGUF files have b'GGUF'"

    def keys(self, n_keys: int) -> tuple[dict[str, Any], dict[str, int]]:
        metadata: dict[str, Any] = {}
        kinds: dict[str, int] = {}
        for index in range(n_keys):
            key = self.text(f"key {index}")
            if not key or key in metadata:
                raise self.fail(f"key {index} is {'a second ' + key if key else 'empty'}")
            kinds[key] = self.u32(f"the type of {key}")
            metadata[key] = self.value(key, kinds[key])
        return metadata, kinds

    def value(self, key: str, kind: int) -> Any:
        if kind == STRING:
            return self.text(key)
        if kind == ARRAY:
            return self.array(key)
        dtype = _SCALARS.get(kind)
        if dtype is None:
            raise self.fail(f"{key} has type {kind}, which GGUF does not have")
        start, self.at = self.at, self.at + dtype.itemsize
        if self.at > self.size:
            raise self.fail(f"the file ends inside {key}")
        return np.frombuffer(self.content[start : self.at], dtype)[0].item()

    def array(self, key: str) -> Sequence[Any]:
        kind, length = self.u32(f"the element type of {key}"), self.u64(f"the length of {key}")
        start = self.at
        if kind == STRING:
            self.at = self.skip_strings(key, length)
        elif kind in _SCALARS:
            self.at += length * _SCALARS[kind].itemsize
            if self.at > self.size:
                raise self.fail(f"{key} claims {length} elements, more than are in the file")
        else:
            raise self.fail(f"{key} is an array of type {kind}, which llama.cpp does not read")
        array = GGUFArray(self.path, self.stamp, kind, length, start, self.at)
        self.arrays[key] = array
        return array.values() if length <= _EAGER else array

    def skip_strings(self, key: str, length: int) -> int:
        at, size, content, unpack = self.at, self.size, self.content, _U64.unpack_from
        if length * 8 > size - at:
            raise self.fail(f"{key} claims {length} strings, more than fit into the file")
        for index in range(length):
            if at + 8 > size:
                raise self.fail(f"the file ends inside {key}, at element {index} of {length}")
            at += 8 + unpack(content, at)[0]
        if at > size:
            raise self.fail(f"the file ends inside {key}")
        return at

    def tensor(self, index: int) -> TensorInfo:
        name = self.text(f"the name of tensor {index}")
        if len(name.encode()) > LONGEST_NAME:
            raise self.fail(f"the name of tensor {index} is longer than {LONGEST_NAME} bytes")
        n_dimensions = self.u32(f"the shape of {name}")
        if n_dimensions > MOST_DIMENSIONS:
            raise self.fail(f"tensor {name} claims {n_dimensions} dimensions; the most is 4")
        shape = tuple(self.u64(f"the shape of {name}") for _ in range(n_dimensions))
        kind = self.u32(f"the type of {name}")
        return TensorInfo(name, shape, kind, self.u64(f"the offset of {name}"))


_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

"""GGUF files with something wrong in them: a value, a count, a shape, a type, a place, a byte.

A case is a source (what `tiny` writes), sizes that its network has instead of the usual ones, and
some edits, so that a failing one shrinks to one edit of one key. An edit names what it alters by a
number that is taken modulo what there is. After the edit "laid" each tensor lies where and as long
as the header says: llama.cpp refuses most of the other files before it looks at their network.
"""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from hypothesis import strategies as st

from mullama_lab.engine import tiny
from mullama_lab.engine.gguf.file import read_header
from mullama_lab.engine.tiny.networks import Shape

SOURCES = (
    *((name, "wpm" if name == "bert" else "spm") for name in
      ("llama", "gemma3", "mamba", "jamba", "bert", "lfm2", "gemma-embedding")),
    *(("llama", name) for name in ("bpe", "wpm", "ugm", "rwkv", "plamo2")),
)  # fmt: skip
NASTY = {
    0: [0, 1, 127, 255],
    1: [0, 1, -1, 127, -128],
    2: [0, 1, 2, 2**15, 2**16 - 1],
    3: [0, 1, -1, 2**15 - 1, -(2**15)],
    4: [0, 1, 2, 3, 5, 16, 31, 33, 64, 100, 255, 1024, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1],
    5: [0, 1, -1, 3, 259, 2**20, 2**31 - 1, -(2**31)],
    6: [0.0, -1.0, 1e-45, 0.5, 3e38, -3e38, float("nan"), float("inf"), float("-inf")],
    7: [0, 1, 2, 255],
    8: [b"", b"x", b"none", b"llama", b"gpt2", b"bert", b"t5", b"rwkv", b"default", b"a\0b",
        b"\xff\xfe", b"whitespace", b"yarn", b"x" * 70_000],
    10: [0, 1, 2**31, 2**32, 2**63, 2**64 - 1],
    11: [0, 1, -1, 2**31, 2**63 - 1, -(2**63)],
    12: [0.0, -1.0, 1e308, float("nan"), float("inf")],
}  # fmt: skip
KINDS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST_DATA = 4 << 20  # bytes that a file is filled up to where its tensors want more

Value = tuple[int, Any]  # GGUF type and value; of an array, its elements' type and the list
Edit = tuple[str, int, int, Any]


@dataclass(frozen=True)
class Parsed:
    """A GGUF file taken apart."""

    keys: tuple[tuple[bytes, int, Any], ...]
    tensors: tuple[tuple[bytes, tuple[int, ...], int, int], ...]
    data: bytes
    laid: bool = False


def _known_keys() -> list[str]:
    """The keys of a network that llama.cpp knows, without the architecture's name."""
    groups = (gguf.Keys.LLM, gguf.Keys.Attention, gguf.Keys.Rope, gguf.Keys.SSM, gguf.Keys.Split)
    found = {
        value.removeprefix("{arch}.")
        for group in groups
        for value in vars(group).values()
        if isinstance(value, str) and value.startswith("{arch}.")
    }
    return sorted(found)


KNOWN = _known_keys()
places = st.integers(0, 999)
numbers = st.sampled_from(
    [0, 1, 2, 3, 31, 32, 33, 48, 64, 259, 2**16, 2**31, 2**32, 2**63, 2**64 - 1]
)
values = st.one_of(
    *[st.tuples(st.just(kind), st.sampled_from(some)) for kind, some in NASTY.items()],
    st.tuples(
        st.just(ARRAY),
        st.one_of(
            *[
                st.tuples(st.just(kind), st.lists(st.sampled_from(some), max_size=4))
                for kind, some in NASTY.items()
            ]
        ),
    ),
)
edits = st.one_of(
    st.tuples(st.just("same kind"), places, places, st.none()),
    st.tuples(st.just("same kind"), places, places, st.none()),
    st.tuples(st.just("value"), places, places, values),
    st.tuples(st.just("new key"), st.integers(0, len(KNOWN) - 1), places, values),
    st.tuples(st.just("layers"), places, places, st.lists(st.sampled_from(NASTY[4]), max_size=3)),
    st.tuples(st.just("drop"), places, places, st.none()),
    st.tuples(st.just("length"), places, st.sampled_from([0, 1, 2, 258, 260, 1000]), st.none()),
    st.tuples(st.just("element"), places, places, places),
    st.tuples(st.just("shape"), places, st.integers(0, 4), numbers),
    st.tuples(st.just("type"), places, st.integers(0, 45), st.none()),
    st.tuples(st.just("offset"), places, places, numbers),
    st.tuples(st.just("rename"), places, places, st.none()),
    st.tuples(st.just("lose"), places, places, st.none()),
    st.tuples(st.just("laid"), places, places, st.none()),
    st.tuples(st.just("laid"), places, places, st.none()),
    st.tuples(st.just("flip"), st.integers(0, 1 << 16), st.integers(0, 255), st.none()),
)
SIZES = {
    "n_embd": [1, 2, 8, 31, 33, 64, 256],
    "n_layer": [1, 3, 5],
    "n_head": [1, 3, 4, 7],
    "n_head_kv": [0, 2, 3, 4],
    "head_size": [1, 2, 8, 16, 31, 33, 64, 128, 256, 512],
    "n_ff": [0, 1, 2, 33, 256],
    "n_ctx_train": [0, 1, 2, 7],
}
sizes = st.dictionaries(st.sampled_from(sorted(SIZES)), st.integers(0, 9), max_size=2).map(
    lambda some: {name: SIZES[name][place % len(SIZES[name])] for name, place in some.items()}
)
cases = st.tuples(
    st.sampled_from(SOURCES),
    st.one_of(st.just({}), sizes),
    st.lists(edits, max_size=4),
)


def write(path: Path, architecture: str, vocabulary: str, sizes: dict[str, int]) -> Path:
    """A file of `tiny` whose network has other sizes."""
    if not sizes:
        return tiny.write(
            path, architecture=architecture, vocabulary=vocabulary, pieces=["hello", " wor"]
        )
    shape = Shape(**{"n_vocab": tiny.N_VOCAB, **sizes})
    keys, tensors = tiny.ARCHITECTURES[architecture](shape, np.random.default_rng(0))
    return tiny.write(
        path,
        architecture=architecture,
        vocabulary=vocabulary,
        n_layer=1,
        metadata={f"{architecture}.{key}": value for key, value in keys.items()},
        tensors={name: array for name, array in tensors.items() if array.size},
    )


def parsed(path: Path) -> Parsed:
    """A file that `tiny` wrote."""
    header = read_header(path)
    keys = []
    for name, kind in header.kinds.items():
        value = header.metadata[name]
        if kind == ARRAY:
            array = header.arrays[name]
            value = (array.kind, array.texts() if array.kind == STRING else array.values())
        keys.append((name.encode(), kind, value.encode() if kind == STRING else value))
    tensors = tuple((t.name.encode(), t.shape, t.kind, t.offset) for t in header.tensors)
    return Parsed(tuple(keys), tensors, path.read_bytes()[header.data_start :])


@cache
def _size_of(kind: int) -> tuple[int, int]:
    """Numbers and bytes of a block of a tensor type."""
    with suppress(ValueError):
        return gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return 1, 4


def _laid(file: Parsed) -> Parsed:
    """The same tensors one after the other, their bytes taken from those that were there."""
    tensors, data = [], bytearray()
    for name, shape, kind, offset in file.tensors:
        block, n_bytes = _size_of(kind)
        size = min(math.prod(shape) // block * n_bytes, MOST_DATA)
        start = offset if offset < len(file.data) else 0
        old = file.data[start : start + size]
        tensors.append((name, shape, kind, len(data)))
        data += (old * (size // max(1, len(old)) + 1))[:size] if old else bytes(size)
        data += bytes(-len(data) % 32)
    return replace(file, tensors=tuple(tensors), data=bytes(data))


def mutated(source: Parsed, steps: list[Edit]) -> bytes:
    """The file after some edits."""
    flips = [step for step in steps if step[0] == "flip"]
    for step in steps:
        if step[0] != "flip":
            source = _edited(source, *step)
    if source.laid:
        source = _laid(source)
    head = _head(source)
    content = bytearray(head + _data(source))
    for _, at, byte, _ in flips:
        content[at % len(head)] = byte
    return bytes(content)


def _edited(file: Parsed, what: str, place: int, other: int, value: Any) -> Parsed:
    keys, tensors = list(file.keys), list(file.tensors)
    if what == "laid":
        return replace(file, laid=True)
    if what == "new key":
        architecture = next((v for name, _, v in keys if name == b"general.architecture"), b"llama")
        if isinstance(architecture, bytes):
            keys.append((b"%s.%s" % (architecture[:99], KNOWN[place].encode()), *value))
    elif what in ("shape", "type", "offset", "rename", "lose"):
        if tensors:
            _edit_tensor(tensors, place % len(tensors), what, other, value)
    elif keys:
        place = place % len(keys)
        name, kind, held = keys[place]
        if what == "same kind" and kind != ARRAY:
            value = kind, NASTY[kind][other % len(NASTY[kind])]
        elif what == "layers":
            value = ARRAY, (4, value)
        elif what in ("length", "element", "same kind"):
            arrays = [key for key in keys if key[1] == ARRAY]
            name, kind, held = arrays[place % len(arrays)] if arrays else keys[place]
            place = keys.index((name, kind, held))
            value = (kind, _edit_array(held, what, other, value)) if kind == ARRAY else (4, other)
        if what == "drop":
            del keys[place]
        elif value is not None:
            keys[place] = (name, *value)
    return replace(file, keys=tuple(keys), tensors=tuple(tensors))


def _edit_array(held: Any, what: str, other: int, value: Any) -> Any:
    kind, elements = held
    if what == "length":
        return kind, [elements[i % len(elements)] for i in range(other)] if elements else []
    if not elements:
        return held
    elements, nasty = list(elements), NASTY[kind]
    elements[other % len(elements)] = nasty[(value or 0) % len(nasty)]
    return kind, elements


def _edit_tensor(tensors: list[Any], place: int, what: str, other: int, value: Any) -> None:
    name, shape, kind, offset = tensors[place]
    if what == "shape":
        shape = (*shape[:other], value, *shape[other + 1 :])[:4]
    elif what == "type":
        kind = other
    elif what == "offset":
        offset = value
    elif what == "rename":
        name = tensors[other % len(tensors)][0].replace(b"blk.0", b"blk.1")
    tensors[place] = (name, shape, kind, offset)
    if what == "lose":
        del tensors[place]


def _head(file: Parsed) -> bytes:
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(file.tensors), len(file.keys)))
    for name, kind, value in file.keys:
        out += _text(name) + struct.pack("<I", kind) + _value(kind, value)
    for name, shape, kind, offset in file.tensors:
        out += _text(name) + struct.pack("<I", len(shape))
        out += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, offset)
    return bytes(out) + bytes(-len(out) % 32)


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        inner, elements = value
        head = struct.pack("<IQ", inner, len(elements))
        return head + b"".join(_value(inner, element) for element in elements)
    return struct.pack("<" + KINDS[kind], value)


def _data(file: Parsed) -> bytes:
    """The weights, and zeros for what the tensors want beyond them."""
    wanted = 0
    for _, shape, kind, offset in file.tensors:
        size = 4
        for length in shape:
            size *= length
        wanted = max(wanted, offset + size) if kind >= 0 else wanted
    return file.data + bytes(min(max(0, wanted - len(file.data)), MOST_DATA))

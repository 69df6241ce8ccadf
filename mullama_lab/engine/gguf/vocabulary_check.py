"""Refuse vocabularies that would make llama.cpp abort or never end.

llama.cpp reports most faults of a vocabulary when it loads it. Some it meets with an assertion,
and some only when it tokenizes, where an exception cannot pass through its C interface.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.gguf.file import INT32, STRING, GGUFArray, Header
from mullama_lab.errors import ModelFileError

MOST_TOKENS = 10_000_000  # for vocabularies that are only a number
LONGEST_TOKEN = 4096  # bytes, where llama.cpp calls itself again for each of them
_BYTE = 6  # llama.cpp's LLAMA_TOKEN_TYPE_BYTE
_NOTHING: frozenset[int] = frozenset()


def check(header: Header) -> frozenset[int]:
    """Check the vocabulary of a file; return the bytes a SentencePiece one has no token for.

    Raises:
        ModelFileError: llama.cpp would not survive this vocabulary.
    """
    model = header.metadata.get("tokenizer.ggml.model")
    if model in ("none", "no_vocab"):
        _check_size(header)
        return _NOTHING
    array = header.arrays.get("tokenizer.ggml.tokens")
    if array is None or array.kind != STRING or not isinstance(model, str):
        return _NOTHING  # llama.cpp says what is missing
    # llama.cpp reads each as a C string, which a NUL ends.
    texts = [text.partition(b"\0")[0] if b"\0" in text else text for text in array.texts()]
    known = _check_texts(header, texts)
    if model == "bert" and _BYTE in _types(header):
        raise _refused(header, "a WordPiece vocabulary cannot have byte tokens")
    if model in ("rwkv", "t5"):
        _check_lengths(header, texts)
    if model == "rwkv":
        _check_rwkv(header, texts)
    if model == "t5":
        _check_charsmap(header)
    if model != "whitespace" and header.metadata.get("tokenizer.ggml.pre") == "whitespace":
        raise _refused(header, f"its tokenizer {model!r} does not go with splitting at whitespace")
    return _missing_bytes(known) if model == "llama" else _NOTHING


def _refused(header: Header, why: str) -> ModelFileError:
    return ModelFileError(
        f"{header.path.name} has a damaged vocabulary: {why}. "
        "Fetch another conversion of the model."
    )


def _check_size(header: Header) -> None:
    architecture = header.metadata.get("general.architecture")
    size = header.metadata.get(f"{architecture}.vocab_size", 0)
    if isinstance(size, int) and size > MOST_TOKENS:
        raise _refused(header, f"it claims {size} tokens, the most is {MOST_TOKENS}")


def _check_texts(header: Header, texts: list[bytes]) -> set[bytes]:
    """No vocabulary may be empty or have a text twice: llama.cpp asserts on both."""
    if not texts:
        raise _refused(header, "it has no tokens")
    known = {text or b"[EMPTY_%d]" % index for index, text in enumerate(texts)}
    if len(known) < len(texts):
        raise _refused(header, f"{len(texts) - len(known)} of its {len(texts)} tokens are doubles")
    return known


def _check_lengths(header: Header, texts: list[bytes]) -> None:
    longest = max(map(len, texts))
    if longest > LONGEST_TOKEN:
        raise _refused(header, f"a token has {longest} bytes, the most is {LONGEST_TOKEN}")


def _types(header: Header) -> list[Any]:
    array = header.arrays.get("tokenizer.ggml.token_type")
    return array.values() if array is not None and array.kind == INT32 else []


def _missing_bytes(known: set[bytes]) -> frozenset[int]:
    return frozenset(
        byte
        for byte in range(256)
        if b"<0x%02X>" % byte not in known and bytes([byte]) not in known
    )


def _check_rwkv(header: Header, texts: list[bytes]) -> None:
    """Each byte that begins a token must be a token, or the tokenizer goes round for ever."""
    decoded = [_unescape(text) for text in texts]
    singles = {text for text in decoded if len(text) == 1}
    stuck = {text[:1] for text in decoded} - singles - {b""}
    if stuck:
        raise _refused(header, f"tokens begin with {min(stuck)!r}, which is not a token itself")


def _unescape(text: bytes) -> bytes:
    """A token of an RWKV vocabulary as bytes: \\t, \\n, \\r, \\xHH, and \\ before anything else."""
    if b"\\" not in text:
        return text
    plain, at = bytearray(), 0
    while at < len(text):
        byte = text[at]
        at += 1
        if byte != 0x5C or at == len(text):
            if byte != 0x5C:
                plain.append(byte)
            continue
        escaped = text[at : at + 1]
        at += 1
        if escaped == b"x":
            if at + 2 <= len(text):
                plain.append(_hex_digit(text[at]) << 4 & 0xFF | _hex_digit(text[at + 1]) & 0xFF)
            at += 2
        else:
            plain += {b"t": b"\t", b"n": b"\n", b"r": b"\r"}.get(escaped, escaped)
    return bytes(plain)


def _hex_digit(byte: int) -> int:
    return byte - 0x57 if byte >= 0x61 else byte - 0x30


def _check_charsmap(header: Header) -> None:
    """Every path through the table that normalises text must end inside it."""
    array = header.arrays.get("tokenizer.ggml.precompiled_charsmap")
    if array is None or len(array) < 4:
        return  # llama.cpp refuses a table without its size
    problem = _charsmap_problem(array)
    if problem:
        raise _refused(header, f"its table for normalising text {problem}")


def _charsmap_problem(array: GGUFArray) -> str:
    raw = array.raw()
    size = int.from_bytes(raw[:4], "little")
    if size + 4 >= len(raw):
        return "is shorter than it says"
    nodes = np.frombuffer(raw, "<u4", size // 4, 4).astype(np.int64)
    if not len(nodes):
        return ""
    replacements = raw[4 + size :]
    last_end = replacements.rfind(b"\0")
    front, seen = {_base(nodes, 0)}, set()
    every_byte = np.arange(1, 256)
    while front:
        start = front.pop()
        seen.add(start)
        steps = start ^ every_byte
        if steps.max() >= len(nodes):
            return "points outside itself"
        children = steps[(nodes[steps] & (1 << 31 | 0xFF)) == every_byte]
        for child in children.tolist():
            target = child ^ _base(nodes, child)
            if nodes[child] >> 8 & 1 and not _is_replacement(nodes, target, last_end):
                return "has a replacement outside itself"
            if target not in seen:
                front.add(target)
    return ""


def _base(nodes: NDArray[np.int64], index: int) -> int:
    node = int(nodes[index])
    return (node >> 10) << ((node & 1 << 9) >> 6)


def _is_replacement(nodes: NDArray[np.int64], index: int, last_end: int) -> bool:
    return index < len(nodes) and (int(nodes[index]) & 0x7FFFFFFF) <= last_end

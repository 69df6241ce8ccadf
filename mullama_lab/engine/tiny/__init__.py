"""Write tiny but real GGUF files in milliseconds.

A file written here is what llama.cpp expects, only small: two layers, 32 numbers wide, one
token for each byte and three special ones, random weights from a seed. Tests and examples run
real llama.cpp on it, so nothing needs a mock.

Token ids of the default vocabulary: 0 `<unk>`, 1 `<s>` (begins a text), 2 `</s>` (ends it), then
byte `b` is token `b + 3`. A vocabulary larger than 259 goes on with lower-case pairs of letters
("aa", "ab", ...), then triples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from mullama_lab.engine.tiny.networks import ARCHITECTURES, Shape
from mullama_lab.engine.tiny.vocabularies import (
    BOS,
    EOS,
    N_BYTES,
    N_SPECIAL,
    N_VOCAB,
    UNK,
    VOCABULARIES,
)

__all__ = [
    "ARCHITECTURES",
    "BOS",
    "CHATML",
    "EOS",
    "N_BYTES",
    "N_SPECIAL",
    "N_VOCAB",
    "UNK",
    "VOCABULARIES",
    "write",
    "write_adapter",
    "write_file",
]
__dir__ = __all__.copy  # what tab completion offers

CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write(
    path: str | Path,
    *,
    n_vocab: int | None = None,
    seed: int = 0,
    architecture: str = "llama",
    vocabulary: str = "spm",
    pieces: Sequence[str] = (),
    chat_template: str | None = None,
    split: int = 1,
    vocab_only: bool = False,
    n_layer: int = 2,
    n_ctx_train: int = 512,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray | None] | None = None,
) -> Path:
    """Write a tiny GGUF file of about 160 kB; return its path (of its first part, if split).

    Args:
        path: where to write; an existing file is replaced.
        n_vocab: tokens in the vocabulary, at least 259 plus `pieces`; None means exactly that.
        seed: of the random weights; the same seed gives the same file.
        architecture: one of `ARCHITECTURES`.
        vocabulary: one of `VOCABULARIES`.
        pieces: further tokens, as text, after the bytes.
        chat_template: Jinja source to store, for example `tiny.CHATML`.
        split: number of files to spread the tensors over; `path` is then
            `<stem>-00001-of-0000N.gguf` next to it.
        vocab_only: write no tensors.
        n_layer: number of layers.
        n_ctx_train: the context length the file claims.
        metadata: keys to set, or to leave out where the value is None. An array keeps its type.
        tensors: arrays to set by name, or to leave out where the value is None.

    Raises:
        ValueError: an unknown architecture or vocabulary, or fewer than 259 tokens.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write(Path(folder) / "tiny.gguf")
    ...     150_000 < path.stat().st_size < 165_000
    True
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"architecture {architecture!r} is not one of {', '.join(sorted(ARCHITECTURES))}"
        )
    if vocabulary not in VOCABULARIES:
        raise ValueError(
            f"vocabulary {vocabulary!r} is not one of {', '.join(sorted(VOCABULARIES))}"
        )
    least = N_VOCAB + len(pieces)
    n_vocab = least if n_vocab is None else n_vocab
    if n_vocab < least:
        raise ValueError(f"n_vocab={n_vocab} is below {least}: 3 special tokens, 256 bytes, pieces")

    shape = Shape(n_vocab=n_vocab, n_layer=n_layer, n_ctx_train=n_ctx_train)
    keys, arrays = ARCHITECTURES[architecture](shape, np.random.default_rng(seed))
    keys = {
        "general.name": "tiny",
        "general.file_type": int(gguf.LlamaFileType.ALL_F32),
        **{f"{architecture}.{key}": value for key, value in keys.items()},
        **VOCABULARIES[vocabulary](n_vocab, pieces),
        "tokenizer.chat_template": chat_template,
        **(metadata or {}),
    }
    arrays = {} if vocab_only else {**arrays, **(tensors or {})}
    return write_file(Path(path), architecture, keys, arrays, split)


def write_adapter(
    path: str | Path,
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    alpha: float = 4.0,
    architecture: str = "llama",
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a LoRA adapter; return its path.

    Args:
        path: where to write; an existing file is replaced.
        pairs: A of shape (rank, numbers in) and B of shape (numbers out, rank), by the weight's
            name.
        alpha: what llama.cpp multiplies by, divided by the rank.
        architecture: of the model that it is for.
        metadata: keys to set, or to leave out where the value is None.
    """
    keys = {
        "general.type": "adapter",
        "general.name": "tiny adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
        **(metadata or {}),
    }
    halves = {
        f"{name}.{half}": array
        for name, pair in pairs.items()
        for half, array in zip(("lora_a", "lora_b"), pair, strict=True)
    }
    return write_file(Path(path), architecture, keys, halves, 1)


def write_file(
    path: Path,
    architecture: str,
    keys: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray | None],
    split: int,
) -> Path:
    """Write a GGUF file of any keys and tensors; its path, or that of the first of its parts."""
    kept = {name: array for name, array in arrays.items() if array is not None}
    per_file = -(-len(kept) // split) if split > 1 else 0
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=per_file)
    for key, value in keys.items():
        _add_key(writer, key, value)
    for name, array in kept.items():
        writer.add_tensor(name, array)
    files = writer.format_shard_names(path)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return files[0]


def _add_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Store a key with the GGUF type llama.cpp expects for a Python value of this type."""
    if value is None or key == "general.architecture":
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        (writer.add_uint32 if value >= 0 else writer.add_int32)(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, np.ndarray):
        kind = gguf.GGUFValueType[value.dtype.name.upper()]
        writer.add_key_value(key, value.tolist(), gguf.GGUFValueType.ARRAY, sub_type=kind)
    else:
        writer.add_array(key, value)

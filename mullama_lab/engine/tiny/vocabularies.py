"""The vocabularies of tiny models: one of every type llama.cpp has.

Each has three special tokens, then 256 that stand for bytes or characters, then the pieces that
were asked for, then words until it is as large as it shall be.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gguf

N_BYTES = 256
N_SPECIAL = 3
N_VOCAB = N_SPECIAL + N_BYTES
UNK, BOS, EOS = 0, 1, 2

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes a space

_NORMAL, _UNKNOWN, _CONTROL, _BYTE = (
    int(kind)
    for kind in (
        gguf.TokenType.NORMAL,
        gguf.TokenType.UNKNOWN,
        gguf.TokenType.CONTROL,
        gguf.TokenType.BYTE,
    )
)


def _words() -> Iterator[str]:
    """aa, ab, ..., zz, aaa, ...: the tokens that fill a vocabulary."""
    for length in itertools.count(2):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield "".join(letters)


def _filled(n_vocab: int, pieces: Sequence[str]) -> list[str]:
    taken = set(pieces)
    n_words = n_vocab - N_VOCAB - len(pieces)
    return [*pieces, *itertools.islice((w for w in _words() if w not in taken), n_words)]


def _spm(n_vocab: int, pieces: Sequence[str]) -> dict[str, Any]:
    """SentencePiece with byte fallback; a space is the token of its own that SPM writes U+2581."""
    byte_texts = [f"<0x{byte:02X}>" for byte in range(N_BYTES)]
    byte_kinds = [_BYTE] * N_BYTES
    byte_texts[ord(" ")], byte_kinds[ord(" ")] = _SPACE, _NORMAL
    words = [word.replace(" ", _SPACE) for word in _filled(n_vocab, pieces)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *byte_texts, *words],
        "tokenizer.ggml.scores": [0.0] * N_VOCAB + [-float(i + 1) for i in range(len(words))],
        "tokenizer.ggml.token_type": [_UNKNOWN, _CONTROL, _CONTROL, *byte_kinds]
        + [_NORMAL] * len(words),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
        **_special(unk=UNK, bos=BOS, eos=EOS),
    }


def _special(**ids: int) -> dict[str, Any]:
    names = {"unk": "unknown", "pad": "padding", "sep": "seperator"}  # GGUF spells it so
    return {
        f"tokenizer.ggml.{names.get(name, name)}_token_id": token for name, token in ids.items()
    }


def _bpe(n_vocab: int, pieces: Sequence[str]) -> dict[str, Any]:
    """GPT-2's byte-level BPE; the only merges are those of the further tokens."""
    letters = _gpt2_letters()
    words = ["".join(letters[byte] for byte in word.encode()) for word in _filled(n_vocab, pieces)]
    merges = {f"{word[:end]} {word[end]}": None for word in words for end in range(1, len(word))}
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *letters, *words],
        "tokenizer.ggml.token_type": [_UNKNOWN, _CONTROL, _CONTROL]
        + [_NORMAL] * (N_BYTES + len(words)),
        "tokenizer.ggml.merges": list(merges) or ["\N{LATIN SMALL LETTER A WITH MACRON} a"],
        "tokenizer.ggml.add_bos_token": True,
        **_special(unk=UNK, bos=BOS, eos=EOS),
    }


def _gpt2_letters() -> list[str]:
    """The printable letter that GPT-2 writes for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(N_BYTES)]


def _wpm(n_vocab: int, pieces: Sequence[str]) -> dict[str, Any]:
    """BERT's WordPiece: characters that begin a word (with U+2581) and that go on with it."""
    letters = [chr(code) for code in range(33, 161) if chr(code).lower() == chr(code)]
    texts = [*(_SPACE + letter for letter in letters), *letters]
    texts = texts[:N_BYTES] + [f"[unused{i}]" for i in range(N_BYTES - len(texts))]
    words = [_SPACE + word for word in _filled(n_vocab, pieces)]
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.tokens": ["[UNK]", "[CLS]", "[SEP]", *texts, *words],
        "tokenizer.ggml.token_type": [_UNKNOWN, _CONTROL, _CONTROL]
        + [_NORMAL] * (N_BYTES + len(words)),
        **_special(unk=UNK, bos=BOS, eos=EOS, sep=EOS, pad=UNK, mask=UNK),
    }


def _ugm(n_vocab: int, pieces: Sequence[str]) -> dict[str, Any]:
    """SentencePiece's Unigram, as T5 has it, with printable ASCII as its characters."""
    letters = [_SPACE, *(chr(code) for code in range(33, 127))]
    filler = [f"<extra_{i}>" for i in range(N_BYTES - len(letters))]
    words = [word.replace(" ", _SPACE) for word in _filled(n_vocab, pieces)]
    return {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *letters, *filler, *words],
        "tokenizer.ggml.scores": [0.0] * N_SPECIAL
        + [-5.0] * len(letters)
        + [-20.0] * len(filler)
        + [-6.0 - i / 1000 for i in range(len(words))],
        "tokenizer.ggml.token_type": [_UNKNOWN, _CONTROL, _CONTROL]
        + [_NORMAL] * (N_BYTES + len(words)),
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": True,
        **_special(unk=UNK, bos=BOS, eos=EOS),
    }


def _rwkv(n_vocab: int, pieces: Sequence[str]) -> dict[str, Any]:
    """RWKV's greedy longest match over bytes."""
    escaped = [f"\\x{byte:02x}" for byte in range(N_BYTES)]
    return {
        "tokenizer.ggml.model": "rwkv",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *escaped, *_filled(n_vocab, pieces)],
        "tokenizer.ggml.token_type": [_UNKNOWN, _CONTROL, _CONTROL]
        + [_NORMAL] * (n_vocab - N_SPECIAL),
        **_special(unk=UNK, bos=BOS, eos=EOS),
    }


def _plamo2(n_vocab: int, pieces: Sequence[str]) -> dict[str, Any]:
    """PLaMo-2's table of pieces with byte fallback."""
    words = _filled(n_vocab, pieces)
    return {
        "tokenizer.ggml.model": "plamo2",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"]
        + [f"<0x{byte:02X}>" for byte in range(N_BYTES)]
        + words,
        "tokenizer.ggml.scores": [0.0] * N_VOCAB + [-1.0 - i / 1000 for i in range(len(words))],
        "tokenizer.ggml.token_type": [_UNKNOWN, _CONTROL, _CONTROL]
        + [_BYTE] * N_BYTES
        + [_NORMAL] * len(words),
        **_special(unk=UNK, bos=BOS, eos=EOS),
    }


VOCABULARIES: dict[str, Callable[[int, Sequence[str]], dict[str, Any]]] = {
    "spm": _spm,
    "bpe": _bpe,
    "wpm": _wpm,
    "ugm": _ugm,
    "rwkv": _rwkv,
    "plamo2": _plamo2,
}

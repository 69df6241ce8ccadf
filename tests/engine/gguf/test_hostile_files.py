"""Files that are no models, damaged ones, and those made to take the process down.

What could crash is loaded in a subprocess, many files in each, so that a crash is a failed
test and names the file.
"""

from __future__ import annotations

import json
import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.gguf.file import read_header
from mullama_lab.engine.gguf.fingerprint import fingerprint
from mullama_lab.engine.gguf.network_check import network_problem
from mullama_lab.engine.model import Model
from mullama_lab.errors import ModelFileError, ModelLoadError

# Loads each file it is given, tokenizes with it and decodes; says which it survived, and how.
PROBE = """
import json, sys
from mullama_lab.engine.model import Model
from mullama_lab.engine.gguf.network_check import network_problem
from mullama_lab.errors import MullamaError
for path in json.load(sys.stdin):
    print(json.dumps(path), flush=True)
    try:
        with Model.load(path) as model:
            model.tokenize("Hello wörld €\\0\\n <s></s> 😀 '123", parse_special=True)
            for token in range(model.n_vocab):
                model.piece(token)
            with model.session(n_ctx=32, n_batch=32, n_ubatch=32, n_threads=1) as session:
                session.generate([1, 2, 3], max_tokens=2)
        said = "fine"
    except (MullamaError, ValueError) as error:
        said = type(error).__name__ + ": " + str(error)
    print(json.dumps(said), flush=True)
"""


def probe(paths: Iterable[Path]) -> list[str]:
    """What became of each file; fails when one of them ends the process."""
    names = [str(path) for path in paths]
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1]} ended the process: {done.stderr[-800:]}"
    assert lines[::2] == names
    return lines[1::2]


# What is no GGUF file.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"GG", "not a GGUF file"),
        (b"\x89PNG\r\n\x1a\n", r"not a GGUF file: it starts with b'\\x89PNG'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer: run `git lfs pull`"),
        (b"<!DOCTYPE html><html>", "looks like a web page"),
        (b'{"error": "Repository not found"}', "looks like JSON"),
        (struct.pack("<Q", 20) + b'{"a": {"dtype": "F32"', "looks like a safetensors file"),
        (b"PK\x03\x04" + bytes(40), "looks like a ZIP or PyTorch file"),
        (b"\x1f\x8b\x08" + bytes(40), "looks like a compressed file"),
        (b"lmgg" + bytes(40), "of the time before GGUF"),
        (b"GGUF", "ends inside the version"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(40), "GGUF version 1"),
        (b"GGUF" + struct.pack("<I", 4) + bytes(40), "GGUF version 4"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(40), "big-endian"),
        (b"GGUF" + struct.pack("<I", 3), "ends inside the number of tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**62), "claims 4611686018427387904 keys"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "claims 9223372036854775808 tensors"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63) + bytes(40), "key 0 claims 922"),
    ],
)
def test_what_is_no_model_is_said_to_be_none(tmp_path, content, message):
    path = tmp_path / "file.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        Model.load(path)


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="is a directory"):
        read_header(tmp_path)
    with pytest.raises(ModelFileError, match="does not exist"):
        read_header(tmp_path / "none.gguf")


KEY = struct.pack("<Q", 1) + b"k"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (struct.pack("<IQ", 8, 2**40), "k claims 1099511627776 bytes"),
        (struct.pack("<IIQ", 9, 4, 2**40), "k claims 1099511627776 elements"),
        (struct.pack("<IIQ", 9, 8, 2**61), "k claims 2305843009213693952 strings"),
        (struct.pack("<IIQQQ", 9, 8, 2, 2**63, 0), "the file ends inside k"),
        (struct.pack("<IIQ", 9, 9, 1), "array of type 9"),
        (struct.pack("<I", 13), "has type 13"),
        (struct.pack("<IB", 4, 1), "the file ends inside k"),
    ],
)
def test_counts_that_do_not_fit_the_file_are_refused(tmp_path, value, message):
    path = tmp_path / "file.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + value)
    with pytest.raises(ModelFileError, match=message):
        read_header(path)


@pytest.mark.parametrize(("alignment", "offset"), [(32, 2**64 - 32), (2**63, 0), (2**62, 2**63)])
def test_places_past_the_end_of_the_file_are_not_read(tmp_path, alignment, offset):
    key = struct.pack("<Q", 17) + b"general.alignment" + struct.pack("<IQ", 10, alignment)
    tensor = struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 8, 0, offset)
    path = tmp_path / "far.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + key + tensor + bytes(64))
    with pytest.raises(ModelFileError, match="is truncated"):
        Model.load(path)
    assert fingerprint(path)["size_bytes"] == path.stat().st_size


def test_a_file_that_ends_anywhere_is_refused(tmp_path, tiny_path):
    whole = tiny_path.read_bytes()
    path = tmp_path / "short.gguf"
    for length in [*range(0, 300, 7), *range(300, len(whole), 2999), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            Model.load(path)


@pytest.mark.parametrize("name", ["m-00000-of-00002.gguf", "m-00003-of-00002.gguf"])
def test_part_numbers_that_cannot_be_are_refused(tmp_path, name):
    path = tiny.write(tmp_path / name)
    with pytest.raises(ModelFileError, match="says it is part"):
        Model.load(path)


def test_a_part_that_does_not_say_which_it_is_is_refused(tmp_path, tiny_path):
    for part in (1, 2):
        (tmp_path / f"m-0000{part}-of-00002.gguf").write_bytes(tiny_path.read_bytes())
    with pytest.raises(ModelFileError, match=r"does not say which part .* \(split\.no\)"):
        Model.load(tmp_path / "m-00001-of-00002.gguf")


# What llama.cpp would not survive.

WEIGHTS = np.ones((259, 32), np.float32)
NORM = np.ones(32, np.float32)

DEADLY = {
    "no layers": {"llama.block_count": 0},
    "too many layers": {"llama.block_count": 2**31},
    "more predictions than layers": {"llama.nextn_predict_layers": 3},
    "a negative epsilon": {"llama.attention.layer_norm_rms_epsilon": -1.0},
    "an epsilon that is no number": {"llama.attention.layer_norm_rms_epsilon": float("nan")},
    "an unknown rope scaling": {"llama.rope.scaling.type": "x"},
    "keys and values of two sizes": {"llama.attention.value_length": 16},
    "an odd rotation": {"llama.rope.dimension_count": 31},
    "more rotated than there is": {"llama.rope.dimension_count": 64},
    "experts that are not used": {"llama.expert_count": 4},
    "more experts used than there are": {"llama.expert_used_count": 2},
    "too many experts": {"llama.expert_count": 2**31, "llama.expert_used_count": 1},
    "groups without experts": {"llama.expert_group_count": 1},
    "groups that do not divide": {
        "llama.expert_count": 8,
        "llama.expert_used_count": 2,
        "llama.expert_group_count": 3,
        "llama.expert_group_used_count": 1,
    },
    "too small an alignment": {"general.alignment": 1},
    "tokens twice": {"tokenizer.ggml.tokens": ["<unk>"] * 259},
    "tokens that end alike": {"tokenizer.ggml.tokens": [f"a\0{i}" for i in range(259)]},
    "a vocabulary that is only a huge number": {
        "tokenizer.ggml.model": "none",
        "llama.vocab_size": 2**32 - 1,
    },
    "a tokenizer that keeps the spaces": {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "whitespace",
        "tokenizer.ggml.merges": ["a b"],
    },
}
DEADLY_TENSORS = {
    "integers for weights": {"output.weight": WEIGHTS.astype(np.int32)},
    "doubles for weights": {"token_embd.weight": WEIGHTS.astype(np.float64)},
    "a norm in half precision": {"output_norm.weight": NORM.astype(np.float16)},
    "a vector in half precision": {"blk.0.attn_q.bias": np.ones(64, np.float16)},
}
# A table for normalising text: its size, its nodes, the replacements. Node 0 says where the others
# begin; a node that ends a match has bit 8 set and points to where its replacement is.
SHORT_CHARSMAP = struct.pack("<II", 4, 255 << 10) + b"x\0"
FALSE_CHARSMAP = struct.pack("<I256I", 1024, *[0, *(byte | 1 << 8 for byte in range(1, 256))])
FALSE_CHARSMAP += b"x\0"

DEADLY_VOCABULARIES = {
    "a token too long for the stack": (
        "rwkv",
        {"tokenizer.ggml.tokens": [*map(chr, range(33, 127)), "x" * 70_000]},
    ),
    "byte tokens in WordPiece": ("wpm", {"tokenizer.ggml.token_type": [6] * 259}),
    "a byte RWKV cannot pass": ("rwkv", {"tokenizer.ggml.tokens": [f"ab{i}" for i in range(259)]}),
    "a table that points outside itself": (
        "ugm",
        {"tokenizer.ggml.precompiled_charsmap": np.frombuffer(SHORT_CHARSMAP, np.int8)},
    ),
    "a replacement outside the table": (
        "ugm",
        {"tokenizer.ggml.precompiled_charsmap": np.frombuffer(FALSE_CHARSMAP, np.int8)},
    ),
}


@pytest.mark.parametrize("what", DEADLY)
def test_deadly_numbers_are_refused(tmp_path, what):
    path = tiny.write(tmp_path / "deadly.gguf", metadata=DEADLY[what])
    with pytest.raises(ModelFileError, match=r"Fetch another conversion"):
        Model.load(path)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [("smallthinker", "no experts"), ("paddleocr", r"sections \(rope\.dimension_sections\)")],
)
def test_what_one_architecture_needs_is_asked_for(architecture, message):
    assert re.search(message, network_problem({"general.architecture": architecture}))
    assert network_problem({"general.architecture": "llama"}) == ""


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [
        ("jamba", {"attention.head_count_kv": [0, 1]}),
        ("deci", {"attention.head_count_kv": [0] * 80}),
        ("modern-bert", {"block_count": 2, "attention.sliding_window": 128}),
        ("gemma3", {"block_count": 2, "attention.sliding_window": 16}),
        ("gemma-embedding", {"block_count": 24, "attention.sliding_window": 512}),
        (["llama"], {}),
    ],
)
def test_what_llama_cpp_lives_with_is_left_to_it(architecture, keys):
    named = {f"{architecture}.{key}": value for key, value in keys.items()}
    assert network_problem({"general.architecture": architecture, **named}) == ""


@pytest.mark.parametrize("pattern", [1, [False, False]])
def test_a_sliding_window_that_no_layer_uses_is_refused(tmp_path, pattern):
    path = tiny.write(
        tmp_path / "deadly.gguf",
        architecture="gemma3",
        metadata={"gemma3.attention.sliding_window_pattern": pattern},
    )
    with pytest.raises(ModelFileError, match="sliding window of 16 that no layer uses"):
        Model.load(path)


@pytest.mark.parametrize(
    ("architecture", "metadata", "message"),
    [
        ("lfm2", {"shortconv.l_cache": 1}, "convolutions see 1 tokens"),
        ("lfm2", {"shortconv.l_cache": 4, "attention.causal": False}, "none is in the middle"),
        ("lfm2", {"attention.key_length": 16, "attention.value_length": 32}, "keys of 16 numbers"),
        ("lfm2", {"rope.dimension_count": 0}, "rotates 0 numbers"),
        ("gemma3", {"rope.dimension_count": 0}, "rotates 0 numbers"),  # llama.cpp does not end
        (
            "gemma3",
            {"attention.sliding_window": 2**31 - 1},
            "window of 2147483647 tokens",
        ),
        ("llama", {"attention.head_count_kv": [1, 0]}, r"a layer without heads .*head_count_kv is"),
        ("llama", {"attention.head_count_kv": 3}, "2 heads cannot share 3 heads of keys"),
        ("llama", {"attention.head_count_kv": [1, 5]}, "2 heads cannot share 5 heads"),
        ("lfm2", {"attention.head_count_kv": [1]}, r"all of one kind .*head_count_kv is \[1\]"),
        ("jamba", {"attention.head_count_kv": 1}, "all of one kind"),
        ("llama", {"attention.head_count": [0, 2]}, "a layer without heads"),
        ("jamba", {"ssm.inner_size": 5}, "states have 5 numbers .*, and must have 64"),
        ("jamba", {"embedding_length": 64}, "states have 64 numbers .*, and must have 128"),
        ("gemma-embedding", {"attention.sliding_window_pattern": 0}, "one must see everything"),
        ("gemma-embedding", {"attention.sliding_window_pattern": 3}, "one must see everything"),
        ("gemma-embedding", {"attention.sliding_window_pattern": [True] * 2}, "one must see every"),
        ("gemma-embedding", {"attention.sliding_window_pattern": None}, "one must see everything"),
        ("gemma-embedding", {"dense_2_feat_in": 64}, "dense_2_feat_in is 64, and must be .* 32"),
        ("gemma-embedding", {"dense_3_feat_out": 64}, "dense_3_feat_out is 64"),
    ],
)
def test_deadly_numbers_of_one_architecture_are_refused(tmp_path, architecture, metadata, message):
    path = tiny.write(
        tmp_path / "deadly.gguf",
        architecture=architecture,
        metadata={f"{architecture}.{key}": value for key, value in metadata.items()},
    )
    with pytest.raises(ModelFileError, match=message):
        Model.load(path)


@pytest.mark.parametrize("what", DEADLY_TENSORS)
def test_deadly_tensors_are_refused(tmp_path, what):
    path = tiny.write(tmp_path / "deadly.gguf", tensors=DEADLY_TENSORS[what])
    with pytest.raises(ModelFileError, match=r"Fetch another conversion"):
        Model.load(path)


@pytest.mark.parametrize("what", DEADLY_VOCABULARIES)
def test_deadly_vocabularies_are_refused(tmp_path, what):
    kind, metadata = DEADLY_VOCABULARIES[what]
    path = tiny.write(tmp_path / "deadly.gguf", vocabulary=kind, metadata=metadata)
    with pytest.raises(ModelFileError, match="has a damaged vocabulary"):
        Model.load(path, vocab_only=True)


def test_the_rules_do_not_refuse_sound_models(tmp_path):
    kinds = {"llama": "spm", "gemma3": "bpe", "mamba": "rwkv", "bert": "wpm"}
    paths = [
        tiny.write(tmp_path / f"{name}.gguf", architecture=name, vocabulary=kind)
        for name, kind in kinds.items()
    ]
    said = dict(zip(kinds, probe(paths)))
    assert said.pop("bert").startswith("ModelLoadError: tiny (bert) does not predict")
    assert set(said.values()) == {"fine"}


# What nobody thought of.


def flipped(content: bytes, header_size: int, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        at = rng.randrange(header_size)
        byte = changed[at]
        changed[at] = rng.choice([0, 255, byte ^ 1, byte ^ 128, (byte + 1) % 256, (byte - 1) % 256])
    if rng.random() < 0.1:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


@pytest.mark.parametrize("kind", ["spm", "bpe", "wpm", "ugm", "rwkv", "plamo2"])
def test_flipped_bytes_never_end_the_process(tmp_path, kind):
    source = tiny.write(tmp_path / "source.gguf", vocabulary=kind, pieces=["hello", " wor"])
    content, header_size = source.read_bytes(), read_header(source).data_start
    rng = random.Random(kind)
    paths = []
    for number in range(150):
        paths.append(tmp_path / f"{number}.gguf")
        paths[-1].write_bytes(flipped(content, header_size, rng))
    said = probe(paths)
    assert "fine" in said
    assert any(text.startswith("ModelFileError") for text in said)


ODD = [0, 1, 3, 2**31 - 1, 2**32 - 1, -1, 0.0, -1.0, float("nan"), 1e30, "x", True, [1], [-1] * 2]


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba"])
def test_odd_values_never_end_the_process(tmp_path, architecture):
    source = tiny.write(tmp_path / "source.gguf", architecture=architecture)
    keys = [key for key in read_header(source).metadata if key != "general.architecture"]
    cases = [(key, value) for key in keys for value in ODD]
    random.Random(architecture).shuffle(cases)
    paths = [
        tiny.write(tmp_path / f"{number}.gguf", architecture=architecture, metadata={key: value})
        for number, (key, value) in enumerate(cases[:150])
    ]
    probe(paths)


def test_weights_that_are_no_numbers_load_and_fail_when_used(tmp_path):
    nan = np.full((259, 32), np.nan, np.float32)
    path = tiny.write(tmp_path / "nan.gguf", tensors={"output.weight": nan})
    assert probe([path])[0].startswith("DecodeError")


def test_what_llama_cpp_refuses_well_is_left_to_it(tmp_path):
    path = tiny.write(tmp_path / "odd.gguf", metadata={"tokenizer.ggml.model": "abacus"})
    with pytest.raises(ModelLoadError, match="unknown tokenizer: 'abacus'"):
        Model.load(path)

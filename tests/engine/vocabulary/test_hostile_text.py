"""Texts that llama.cpp would not survive: tokenized all the same, or refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model


def load(path: Path, kind: str, **metadata: object) -> Model:
    keys = {key.replace("__", "."): value for key, value in metadata.items()}
    return Model.load(tiny.write(path, vocabulary=kind, metadata=keys), vocab_only=True)


def test_a_character_without_bytes_is_refused_where_bytes_are_missing(tmp_path):
    words = [chr(0x4E00 + number) for number in range(256)]
    model = load(
        tmp_path / "few.gguf",
        "spm",
        tokenizer__ggml__tokens=["<unk>", "<s>", "</s>", "▁", *words[1:]],
        tokenizer__ggml__token_type=[2, 3, 3] + [1] * 256,
    )
    assert model.detokenize(model.tokenize("一丁"[1:] + " ")) == "丁 "
    with pytest.raises(ValueError, match="no token for 'a' and none for its bytes"):
        model.tokenize("丁a")


@pytest.mark.parametrize(("kind", "missing"), [("ugm", "bos"), ("wpm", "sep")])
def test_a_special_token_that_is_not_there_is_not_added(tmp_path, kind, missing):
    keys = {"seperator" if missing == "sep" else missing: None}
    metadata: dict[str, object] = {f"tokenizer.ggml.{key}_token_id": None for key in keys}
    metadata["tokenizer.ggml.add_bos_token"] = True
    if kind == "wpm":  # so small that llama.cpp's default ids are outside
        metadata["tokenizer.ggml.tokens"] = ["[UNK]", "[CLS]", "[SEP]", "▁a"]
    path = tiny.write(tmp_path / "none.gguf", vocabulary=kind, metadata=metadata)
    model = Model.load(path, vocab_only=True)
    with pytest.raises(ValueError, match=f"adds {missing} to every text .* add_special=False"):
        model.tokenize("a")
    assert model.tokenize("a", add_special=False)


def test_text_nothing_stands_for_is_refused(tmp_path):
    metadata = {
        "tokenizer.ggml.unknown_token_id": None,
        "tokenizer.ggml.tokens": [f"a{i}" if i else "a" for i in range(259)],
    }
    path = tiny.write(tmp_path / "a.gguf", vocabulary="rwkv", metadata=metadata)
    model = Model.load(path, vocab_only=True)
    assert model.tokenize("aa1") == [0, 1]
    with pytest.raises(ValueError, match="no token for a part of 'ab', and none for unknown"):
        model.tokenize("ab")


LONG_RUNS: dict[str, Callable[[int], str]] = {
    "letters": lambda n: "a" * n,
    "digits": lambda n: "1" * n,
    "signs": lambda n: "!" * n,
    "spaces": lambda n: " " * n,
    "lines": lambda n: "\n" * n,
    "ideograms": lambda n: "中" * n,
    "NULs": lambda n: "\0" * n,
    "short words": lambda n: "a b " * (n // 4),
}


@pytest.mark.parametrize("pre", ["default", "deepseek-llm", "exaone-moe", "minicpm5"])
def test_a_long_run_of_one_kind_does_not_overflow_the_stack(tmp_path, pre):
    program = (
        "import json, sys\n"
        "from mullama_lab.engine.model import Model\n"
        "model = Model.load(sys.argv[1], vocab_only=True)\n"
        "for text in json.load(sys.stdin):\n"
        "    assert model.detokenize(model.tokenize(text)) == text\n"
    )
    path = tiny.write(tmp_path / "bpe.gguf", vocabulary="bpe", metadata={"tokenizer.ggml.pre": pre})
    texts = [make(100_000) for make in LONG_RUNS.values()]
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_a_run_there_can_be_no_room_for_is_refused(tmp_path):
    model = load(tmp_path / "bpe.gguf", "bpe")
    with pytest.raises(ValueError, match=r"a run of 1000001 characters .* Tokenize it in parts"):
        model.tokenize("a" * 1_000_001)
    assert len(model.tokenize("word " * 250_000)) == 1 + 5 * 250_000


def test_room_for_a_long_run_leaves_other_threads_as_they_were(tmp_path):
    model = load(tmp_path / "bpe.gguf", "bpe")
    before = threading.stack_size()
    assert len(model.tokenize("a" * 50_000)) == 50_001
    assert threading.stack_size() == before

"""Every vocabulary type of llama.cpp gives the tokens it must give."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model

# The vocabularies of llama.cpp's tests/test-tokenizer-0 and their types.
WITH_EXPECTATIONS = {
    "bert-bge": "WPM",
    "command-r": "BPE",
    "deepseek-coder": "BPE",
    "deepseek-llm": "BPE",
    "falcon": "BPE",
    "gemma-4": "BPE",
    "gpt-2": "BPE",
    "llama-bpe": "BPE",
    "llama-spm": "SPM",
    "mpt": "BPE",
    "phi-3": "SPM",
    "qwen2": "BPE",
    "qwen35": "BPE",
    "refact": "BPE",
    "starcoder": "BPE",
}
LOSSLESS = sorted(set(WITH_EXPECTATIONS) - {"bert-bge"})

TEXTS = ["", " ", "Hello world", "  two  spaces ", "\n\n\t", "Grüße 中文 😀", "a\0b", "'s 33 x=1;"]


@pytest.fixture(scope="module")
def vocabulary(llama_source):
    """Load one of llama.cpp's vocabularies by its short name."""
    models: dict[str, Model] = {}

    def load(name: str) -> Model:
        if name not in models:
            path = llama_source / "models" / f"ggml-vocab-{name}.gguf"
            models[name] = Model.load(path, vocab_only=True)
        return models[name]

    yield load
    for model in models.values():
        model.close()


def expectations(path: Path) -> dict[str, list[int]]:
    """The texts and token ids of a vocabulary, read as llama.cpp's test reads them."""
    text = path.with_name(path.name + ".inp").read_bytes().decode()
    ids = path.with_name(path.name + ".out").read_text().splitlines()
    texts = text.split("\n__ggml_vocab_test__\n")
    if not texts[-1]:
        texts.pop()
    assert len(texts) == len(ids)
    return {text: [int(token) for token in line.split()] for text, line in zip(texts, ids)}


def test_no_vocabulary_with_expectations_is_forgotten(llama_source):
    found = (llama_source / "models").glob("ggml-vocab-*.gguf.out")
    names = {path.name.removeprefix("ggml-vocab-").removesuffix(".gguf.out") for path in found}
    assert names == set(WITH_EXPECTATIONS)


@pytest.mark.parametrize("name", sorted(WITH_EXPECTATIONS))
def test_tokens_are_those_llama_cpp_expects(llama_source, vocabulary, name):
    model = vocabulary(name)
    expected = expectations(llama_source / "models" / f"ggml-vocab-{name}.gguf")
    assert model.vocab_type == WITH_EXPECTATIONS[name]
    assert len(expected) > 40
    got = {text: model.tokenize(text, add_special=False) for text in expected}
    assert got == expected


@pytest.mark.parametrize("name", LOSSLESS)
def test_text_comes_back_from_its_tokens(llama_source, vocabulary, name):
    model = vocabulary(name)
    texts = [*TEXTS, *expectations(llama_source / "models" / f"ggml-vocab-{name}.gguf")]
    wrong = [text for text in texts if model.detokenize(model.tokenize(text)) != text]
    assert not wrong


def test_many_threads_may_tokenize_with_one_vocabulary(llama_source, vocabulary):
    model = vocabulary("llama-bpe")
    expected = expectations(llama_source / "models" / "ggml-vocab-llama-bpe.gguf")

    def tokenize_all(_):
        return {text: model.tokenize(text, add_special=False) for text in expected}

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenize_all, range(4))) == [expected] * 4


def test_a_real_unigram_vocabulary_gives_the_tokens_of_xlm_roberta(vocabulary):
    model = vocabulary("nomic-bert-moe")
    assert model.vocab_type == "UGM"
    assert model.tokenize("Hello world") == [0, 35378, 8999, 2]
    assert model.detokenize(model.tokenize("Hello world")) == "Hello world"
    # Its table of normalised characters: full-width letters become plain ones.
    assert model.tokenize("Ｈｅｌｌｏ") == model.tokenize("Hello")


# Vocabularies small enough to check by hand: byte b is token b + 3, further tokens from 259.


@pytest.fixture
def tiny_vocabulary(tmp_path):
    def load(kind: str, *pieces: str, **options) -> Model:
        path = tiny.write(tmp_path / "tiny.gguf", vocabulary=kind, pieces=pieces, **options)
        return Model.load(path, vocab_only=True)

    return load


@pytest.mark.parametrize("kind", ["spm", "bpe", "rwkv", "plamo2"])
def test_byte_vocabularies_write_each_byte_as_a_token(tiny_vocabulary, kind):
    model = tiny_vocabulary(kind)
    assert model.vocab_type == kind.upper()
    assert model.tokenize("a\0ü ", add_special=False) == [100, 3, 198, 191, 35]
    for text in TEXTS:
        assert model.detokenize(model.tokenize(text)) == text


def test_sentencepiece_merges_the_best_pair_first(tiny_vocabulary):
    # "ab" has the better score, so "abc" is ab + c and never a + bc.
    model = tiny_vocabulary("spm", "ab", "bc")
    assert model.tokenize("abc") == [tiny.BOS, 259, ord("c") + 3]


def test_sentencepiece_puts_a_space_before_a_text_and_takes_it_away_again(tiny_vocabulary):
    model = tiny_vocabulary("spm", metadata={"tokenizer.ggml.add_space_prefix": True})
    assert model.tokenize("a", add_special=False) == [ord(" ") + 3, ord("a") + 3]
    assert [model.detokenize(model.tokenize(text)) for text in ("a", " a", "")] == ["a", " a", ""]


def test_bpe_merges_in_the_order_of_its_list(tiny_vocabulary):
    model = tiny_vocabulary("bpe", "ab", "abc", " x")
    assert model.tokenize("abc x", add_special=False) == [260, 261]


def test_wordpiece_takes_the_longest_start_and_gives_unknown_for_the_rest(tiny_vocabulary):
    model = tiny_vocabulary("wpm", "play")
    ing = [model.tokenize("x" + letter, add_special=False)[1] for letter in "ing"]
    cls, sep = model.bos, model.special_tokens["sep"]
    assert model.tokenize("PLAYing 中") == [cls, 259, *ing, tiny.UNK, sep]
    assert model.piece(259) == b" play"


def test_unigram_prefers_the_likelier_split_and_joins_unknowns(tiny_vocabulary):
    # One piece of score -6 beats five letters of -5 each; U+2581 begins the text.
    model = tiny_vocabulary("ugm", " hello")
    assert model.tokenize("hello 中文") == [259, 3, tiny.UNK, tiny.EOS]
    assert model.detokenize(model.tokenize("hello")) == "hello"


def test_rwkv_takes_the_longest_token_from_the_left(tiny_vocabulary):
    model = tiny_vocabulary("rwkv", "ab", "abcd")
    assert model.tokenize("abcabcd") == [259, ord("c") + 3, 260]


def test_plamo2_takes_the_split_with_the_best_sum(tiny_vocabulary):
    # Scores -1.000, -1.001, -1.002: ab + cd is one token less than a piece and two bytes.
    model = tiny_vocabulary("plamo2", "ab", "cd", "bc")
    assert model.tokenize("abcd") == [259, 260]


def test_special_tokens_are_read_only_when_asked(tiny_vocabulary):
    model = tiny_vocabulary("bpe")
    as_text = model.tokenize("</s>", add_special=False)
    assert as_text == [byte + 3 for byte in b"</s>"]
    assert model.tokenize("</s>", add_special=False, parse_special=True) == [tiny.EOS]
    assert model.detokenize([tiny.BOS, 100]) == "a"
    assert model.detokenize([tiny.BOS, 100], special=True) == "<s>a"

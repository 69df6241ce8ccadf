"""A long text is tokenized in parts, and its tokens are those of the whole."""

from __future__ import annotations

import random
import time

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.native import model as native
from mullama_lab.engine.vocabulary import text_parts

NAMES = {
    "spm": ["<|im_start|>", "\n\n", "\n", "  ", "<b>", "aab"],
    "bpe": ["<|im_start|>", "###", "##", "==", "<b>", "aab"],  # as bytes it has them all
}
CONTROL, USER_DEFINED = 3, 4  # in tokenizer.ggml.token_type


def model_with_names(folder, vocabulary: str, **metadata) -> Model:
    names = NAMES[vocabulary]
    kinds = [CONTROL, *[USER_DEFINED] * (len(names) - 1)]
    found = tiny.VOCABULARIES[vocabulary](tiny.N_VOCAB + len(names), names)
    types = [*found["tokenizer.ggml.token_type"][: tiny.N_VOCAB], *kinds]
    path = tiny.write(
        folder / "names.gguf",
        vocabulary=vocabulary,
        pieces=names,
        metadata={"tokenizer.ggml.token_type": types, **metadata},
    )
    return Model.load(path, probe=False)


def whole(model: Model, text: str, adds: bool, special: bool) -> list[int]:
    with model._memory.in_use() as vocabulary:
        return native.tokenize(vocabulary, text.encode(), adds, special)


@pytest.mark.parametrize("vocabulary", ["spm", "bpe"])
@pytest.mark.parametrize("adds_space", [False, True])
def test_the_parts_of_a_text_have_the_tokens_of_the_whole(
    tmp_path, monkeypatch, vocabulary, adds_space
):
    monkeypatch.setattr(text_parts, "SHORT", 20)
    monkeypatch.setattr(text_parts, "MOST", 3)
    chance = random.Random(7)
    metadata = {"tokenizer.ggml.add_space_prefix": adds_space, "tokenizer.ggml.add_eos_token": True}
    names = NAMES[vocabulary]
    letters = [*names, *names, "a", "b", " ", "\n", "😀", "<|im", "</s>"]
    n_parts = 0
    with model_with_names(tmp_path, vocabulary, **metadata) as model:
        for _ in range(150):
            text = "".join(chance.choices(letters, k=chance.randint(1, 60)))
            for special in (False, True):
                n_parts += len(text_parts.parts_of(model, text, special)) > 1
                got = model.tokenize(text, add_special=False, parse_special=special)
                assert got == whole(model, text, False, special), ascii(text)
            assert model.tokenize(text) == whole(model, text, True, False), ascii(text)
    assert n_parts > 100


def test_names_that_overlap_are_left_to_llama_cpp(tmp_path):
    with model_with_names(tmp_path, "spm") as model:
        assert len(text_parts.parts_of(model, "aab\n" * 2000, False)) > 1
        marks = {mark.name: mark for mark in text_parts.marks_of(model)}
        twin = marks["aab"]._replace(name="baa")
        assert text_parts._is_ambiguous([marks["aab"], twin])
        assert not text_parts._is_ambiguous([marks["aab"], marks["\n\n"], marks["\n"]])


def test_a_long_text_of_many_lines_is_tokenized_in_no_time(tmp_path):
    with model_with_names(tmp_path, "spm") as model:
        text = "ab\n" * 40_000
        start = time.monotonic()
        tokens = model.tokenize(text)
        assert len(tokens) == 1 + 3 * 40_000
        assert time.monotonic() - start < 30  # at once, it took over a minute

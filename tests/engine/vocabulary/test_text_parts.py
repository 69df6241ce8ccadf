"""A long text is tokenized in parts, and its tokens are those of the whole."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import contextmanager

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


def model_with_names(folder, vocabulary: str, more: Sequence[str] = (), **metadata) -> Model:
    names = [*NAMES[vocabulary], *more]
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


@pytest.fixture
def whole(native_vocabulary):
    """A function that makes a function which tokenizes a text with llama.cpp's own in one call."""

    @contextmanager
    def of(model):
        with native_vocabulary(model) as vocabulary:
            yield lambda text, adds, special: native.tokenize(
                vocabulary, text.encode(), adds, special
            )

    return of


@pytest.mark.parametrize("vocabulary", ["spm", "bpe"])
@pytest.mark.parametrize("adds_space", [False, True])
def test_the_parts_of_a_text_have_the_tokens_of_the_whole(
    tmp_path, monkeypatch, whole, vocabulary, adds_space
):
    monkeypatch.setattr(text_parts, "SHORT", 20)
    monkeypatch.setattr(text_parts, "MOST", 3)
    chance = random.Random(7)
    metadata = {"tokenizer.ggml.add_space_prefix": adds_space, "tokenizer.ggml.add_eos_token": True}
    names = NAMES[vocabulary]
    letters = [*names, *names, "a", "b", " ", "\n", "😀", "<|im", "</s>"]
    n_parts = 0
    with (
        model_with_names(tmp_path, vocabulary, **metadata) as model,
        whole(model) as in_one_call,
    ):
        for _ in range(150):
            text = "".join(chance.choices(letters, k=chance.randint(1, 60)))
            for special in (False, True):
                n_parts += len(text_parts.parts_of(model, text, special)) > 1
                got = model.tokenize(text, add_special=False, parse_special=special)
                assert got == in_one_call(text, False, special), ascii(text)
            assert model.tokenize(text) == in_one_call(text, True, False), ascii(text)
    assert n_parts > 100


def test_names_that_overlap_are_left_to_llama_cpp(tmp_path):
    alone, both = "aab\n\n" * 2000, "aab\nbaa" * 2000
    with model_with_names(tmp_path, "spm") as model:
        assert len(text_parts.parts_of(model, alone, False)) > 1
        assert len(text_parts.parts_of(model, both, False)) > 1
    with model_with_names(tmp_path, "spm", ["baa"]) as model:
        assert len(text_parts.parts_of(model, alone, False)) > 1
        assert text_parts.parts_of(model, both, False) == [both]


def test_a_long_text_of_many_lines_is_tokenized_in_no_time(tmp_path):
    with model_with_names(tmp_path, "spm") as model:
        text = "ab\n" * 40_000
        start = time.monotonic()
        tokens = model.tokenize(text)
        assert len(tokens) == 1 + 3 * 40_000
        assert time.monotonic() - start < 30  # at once, it took over a minute

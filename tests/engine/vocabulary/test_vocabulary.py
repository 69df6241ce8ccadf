"""The tokens of a model, one by one."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.errors import ClosedError

A = ord("a") + 3


def test_a_token_has_a_name_and_adds_a_text_and_a_control_token_adds_none(tiny_model):
    vocabulary = tiny_model.vocabulary
    assert vocabulary.bytes_of(A) == vocabulary.bytes_of(np.int64(A)) == (b"a", b"a")
    assert vocabulary.bytes_of(tiny.EOS) == (b"</s>", b"")


@pytest.mark.parametrize("token", [1.0, True, "a", None, np.zeros(1)])
def test_what_is_no_token_is_none_also_when_its_number_is_known(tiny_model, token):
    tiny_model.vocabulary.bytes_of(1)
    tiny_model.vocabulary.is_eog(1)
    for ask in (tiny_model.vocabulary.bytes_of, tiny_model.vocabulary.is_eog, tiny_model.piece):
        with pytest.raises(TypeError, match="a token id must be a whole number"):
            ask(token)


def test_a_vocabulary_keeps_no_model_open_and_tells_what_it_was_asked_before(tiny_path):
    model = Model.load(tiny_path, vocab_only=True)
    vocabulary, gone = model.vocabulary, weakref.ref(model)
    vocabulary.bytes_of(A)
    del model
    gc.collect()
    assert gone() is None
    assert vocabulary.bytes_of(A) == (b"a", b"a")
    with pytest.raises(ClosedError, match="the model tiny is closed"):
        vocabulary.bytes_of(A + 1)


def test_threads_ask_one_vocabulary_while_its_model_is_closed(tiny_path):
    expected = {token: bytes([token - 3]) for token in range(3, 259)}
    for _ in range(20):
        model = Model.load(tiny_path, vocab_only=True)

        def ask(vocabulary=model.vocabulary):
            found = {}
            try:
                for token in expected:
                    found[token] = vocabulary.bytes_of(token)[1]
            except ClosedError:
                pass
            return found

        with ThreadPoolExecutor(4) as threads:
            answers = [threads.submit(ask) for _ in range(4)]
            model.close()
        for answer in answers:
            assert answer.result().items() <= expected.items()

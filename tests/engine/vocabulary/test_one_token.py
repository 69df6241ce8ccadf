"""A token may be named by its text, where that text is one token."""

from __future__ import annotations

import pytest

from mullama_lab.engine.vocabulary.one_token import one_token


def test_a_text_that_is_one_token_is_that_token(tiny_model, smollm2):
    assert one_token(tiny_model, "z") == ord("z") + 3
    assert one_token(tiny_model, 5) == 5
    assert one_token(smollm2, " Paris") != one_token(smollm2, "P")
    assert smollm2.piece(one_token(smollm2, " Paris")) == b" Paris"
    assert smollm2.piece(one_token(smollm2, "<|im_end|>")) == b"<|im_end|>"
    with pytest.raises(ValueError, match=r"is not one token but 3 \(' Paris', ' is', ' a'\)"):
        one_token(smollm2, " Paris is a")

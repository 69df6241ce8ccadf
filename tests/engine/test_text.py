"""A text knows which of its tokens were generated, and under which weights it is computed."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.text import Text

VECTOR = ControlVector({1: np.ones(32)})
PARTS = st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.booleans()))


def text_of(parts, epoch=""):
    text = Text(epoch=epoch)
    for tokens, generated in parts:
        text.extend(tokens, generated=generated)
    return text


def marked(text):
    """Each token with whether it was generated."""
    return [(token, part.generated) for part in text.segments for token in part.tokens]


@given(PARTS, st.integers(0, 40))
def test_a_cut_keeps_how_each_token_came_about(parts, n):
    whole = [(token, generated) for tokens, generated in parts for token in tokens]
    text = text_of(parts)
    assert marked(text) == whole
    assert marked(text.first(n)) == whole[:n]
    assert marked(text) == whole  # which is a copy
    text.cut(n)
    assert marked(text) == whole[:n]
    text.extend([7], generated=True)
    assert marked(text) == [*whole[:n], (7, True)]


@given(PARTS)
def test_segments_next_to_each_other_differ_and_the_prompt_is_the_first_given_one(parts):
    segments = list(text_of(parts).segments)
    assert all(a.generated != b.generated for a, b in itertools.pairwise(segments))
    first = segments[0] if segments else None
    n_given = len(first.tokens) if first is not None and not first.generated else 0
    assert text_of(parts).n_given == n_given


def test_texts_of_two_epochs_have_nothing_in_common():
    one, other = text_of([([1, 2, 3], False)]), text_of([([1, 2, 3], False)], epoch="lora")
    assert one.n_common(text_of([([1, 2, 9], True)])) == 2
    assert one.n_common(other) == 0
    assert one != other


def test_what_other_weights_computed_is_not_taken_from_the_cache(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        session.logits("x" * 100)
        session.logits("x" * 100)
        assert session.ledger.reused == 100  # and the token that begins a text
        session.control = VECTOR
        before = session.ledger
        session.logits("x" * 100)
        assert (session.ledger - before).decoded == 101
        assert (session.ledger - before).saved == 0


def test_a_rewound_text_that_is_decoded_again_is_one_of_the_weights_that_do_it(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1, kv_unified=False, n_seq_max=2) as session:
        session.logits("x" * 100)
        session.control = VECTOR
        fork = session.fork(n_tokens=50)  # which these sequences cannot share

        def reused(sequence):
            before = session.ledger
            session.generate("x" * 100, max_tokens=0, sequence=sequence)
            return (session.ledger - before).reused

        assert reused(fork) == 50
        session.control = None
        assert reused(0) == 100 and reused(fork) == 0

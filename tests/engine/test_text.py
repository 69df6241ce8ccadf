"""A text knows which of its tokens were generated, and under which weights it is computed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mullama_lab.engine import tiny
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Mask
from mullama_lab.engine.text import Text
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.parts import changed

NO_END = Mask(ban=[tiny.EOS])
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
        session._cache.epoch = "lora"  # as when an adapter is put on
        before = session.ledger
        session.logits("x" * 100)
        assert (session.ledger - before).decoded == 101
        assert (session.ledger - before).saved == 0


def test_a_rewound_text_that_is_decoded_again_is_one_of_the_weights_that_do_it(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1, kv_unified=False, n_seq_max=2) as session:
        session.logits("x" * 100)
        session._cache.epoch = "lora"
        fork = session.fork(n_tokens=50)  # which these sequences cannot share
        held = session._cache.sequences
        assert held[0].text.epoch == "" and held[fork].text.epoch == "lora"


def test_a_trace_says_which_weights_computed_each_step_and_no_branch_mixes_them(
    tiny_model, tmp_path
):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        trace = session.generate("abc", NO_END, max_tokens=4, seed=1)
        assert trace.epochs == [(0, "")]
        session._cache.epoch = "lora"
        with pytest.raises(ValueError, match="other weights"):
            session.branch(trace, 2, 100)
        other = session.generate("abc", NO_END, max_tokens=4, seed=1)
        assert other.epochs == [(0, "lora")] and other.tokens.tolist() == trace.tokens.tolist()
        branch = session.branch(other, 2, 100, max_tokens=2)
        for made in (branch, branch[1:], Trace.from_dict(branch.to_dict())):
            assert made.epochs == [(0, "lora")] and made.epoch_at(1) == "lora"
        assert session.score("def", given="abc").epochs == [(0, "lora")]
        session.save(tmp_path / "session")
    with Session.load(tmp_path / "session", tiny_model) as loaded:
        assert loaded.last_trace.epochs == [(0, "lora")]
        assert loaded._cache.sequences[0].text.epoch == "lora"
        loaded.generate("abc", NO_END, max_tokens=4, seed=1)
        assert loaded.last_trace.n_prompt_reused == 0  # these are the model's own weights


def test_a_change_of_weights_stands_at_its_step():
    trace = Trace()
    trace.change_epoch("lora")
    assert trace.epochs == [(0, "lora")]
    trace.change_epoch("")
    assert trace.epochs == [(0, "")]
    assert changed([(0, "a"), (3, "b")], 3, "a") == [(0, "a")]
    assert changed([(0, "a"), (3, "b")], 5, "c") == [(0, "a"), (3, "b"), (5, "c")]
    with pytest.raises(ValueError, match="epochs do not begin"):
        Trace.from_dict({**trace.to_dict(), "epochs": [[1, "a"]]})
    old = {name: value for name, value in trace.to_dict().items() if name != "epochs"}
    assert Trace.from_dict(old).epochs == [(0, "")]

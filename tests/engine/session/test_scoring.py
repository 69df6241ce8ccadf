"""A text after a prompt has the log-probability that fresh decodes of llama.cpp give it."""

from __future__ import annotations

import math
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import ContextFull

NOISE = 0.05  # other batch sizes give other roundings; another prompt differs by more than 1
PIECES = ["ab", " ab", "at", "cat", " cat", "cats", "b ", " s"]


def byte(text):
    return [b + 3 for b in text.encode()]


def fresh(session, prompt, text):
    """The log-probability of each token of a text, each from a decode onto an empty cache."""
    found = []
    for i, token in enumerate(text):
        session.reset()
        row = session.logits([*prompt, *text[:i]]).astype(np.float64)
        found.append(row[token] - row.max() - math.log(np.exp(row - row.max()).sum()))
    return found


def test_a_text_after_a_prompt_is_scored_as_fresh_decodes_score_it(any_model):
    prompt, text = byte("hello, "), byte("world and all")
    with any_model.session(n_ctx=256, n_batch=5, n_threads=1) as session:
        expected = fresh(session, prompt, text)
        session.reset()
        for _ in range(2):  # the second time the cache has it
            trace = session.score(text, given=prompt)
            assert trace.prompt_tokens.tolist() == prompt
            assert trace.tokens.tolist() == text
            assert trace.finish_reason == "scored"
            np.testing.assert_allclose(trace.logprob, expected, atol=NOISE)
        assert session.last_trace is trace


def test_candidates_have_what_fresh_decodes_and_score_give_them(any_model):
    prompt = byte("once upon a time")
    texts = [byte(t) for t in ("x", "y", " there", " there was", "!" * 30, *"abcdefgh")]
    with any_model.session(n_ctx=256, n_batch=9, n_threads=1) as session:
        choices = session.choose(prompt, texts)
        assert [list(c.tokens) for c in choices] == texts
        for choice, text in zip(choices, texts, strict=True):
            np.testing.assert_allclose(choice.logprobs, fresh(session, prompt, text), atol=NOISE)
            scored = session.score(text, given=prompt).logprob
            np.testing.assert_allclose(choice.logprobs, scored, atol=NOISE)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tiny.write(tmp_path_factory.mktemp("scoring") / "t.gguf", pieces=PIECES)
    with ml.Model.load(path) as model:
        yield model


@pytest.fixture(scope="module")
def session(model):
    with model.session(n_ctx=256, n_threads=1) as session:
        yield session


TEXT = st.text(st.sampled_from("abcs t "), min_size=1, max_size=9)


@settings(max_examples=100)
@given(prompt=TEXT, texts=st.lists(TEXT, min_size=1, max_size=12, unique=True))
def test_choose_and_score_agree_whatever_is_chosen_from(prompt, texts, session):
    choices = session.choose(prompt, texts)
    assert sum(c.probability for c in choices) == pytest.approx(1)
    for text, choice in zip(texts, choices, strict=True):
        trace = session.score(text, given=prompt)
        assert trace.tokens.tolist() == list(choice.tokens)
        np.testing.assert_allclose(choice.logprobs, trace.logprob, atol=NOISE)
        assert choice.logprob == pytest.approx(trace.logprob.sum(), abs=NOISE * len(trace))
    best = max(zip(choices, texts), key=lambda pair: pair[0].logprob)
    assert choices.best is best[0]


@settings(max_examples=200)
@given(prompt=TEXT, text=TEXT)
def test_prompt_and_text_keep_their_bytes_and_the_prompt_its_tokens(prompt, text, session):
    trace = session.score(text, given=prompt)
    bare = prompt.rstrip(" ")
    assert trace.prompt_tokens.tolist() == session.prompt_tokens(bare)
    assert trace.text == prompt[len(bare) :] + text


def pieces(session, prompt, text):
    return [piece.decode() for piece in session.score(text, given=prompt).pieces]


def test_a_prompt_and_a_text_are_tokenised_together_and_cut_between(session):
    assert pieces(session, "x", " cat") == [" cat"]
    assert pieces(session, "x ", "cat") == [" cat"], "the space goes to the text"
    assert pieces(session, "x ", "ab") == pieces(session, "x", " ab") == [" ab"]


def test_where_a_token_would_lie_across_the_seam_each_is_tokenised_alone(session):
    assert len(session.model.tokenize("cats", add_special=False)) == 1
    assert pieces(session, "xcat", "s") == ["s"]
    assert pieces(session, "xb", " c") == [" ", "c"]


def test_a_space_that_the_vocabulary_puts_before_a_text_is_not_scored(tmp_path):
    keys = {"tokenizer.ggml.add_space_prefix": True}
    path = tiny.write(tmp_path / "t.gguf", pieces=PIECES, metadata=keys)
    with ml.Model.load(path) as model, model.session(n_ctx=64, n_threads=1) as session:
        assert pieces(session, "xcat", "s") == ["s"]
        assert pieces(session, byte("x"), "ab") == ["ab"]


def test_token_ids_are_taken_as_they_are(session):
    prompt, text = byte("a "), byte("ab")
    trace = session.score(text, given=prompt)
    assert trace.prompt_tokens.tolist() == prompt
    assert trace.tokens.tolist() == text
    choices = session.choose("a ", [text, "b"])
    assert [c.text for c in choices] == ["ab", "b"]
    assert [len(c.tokens) for c in choices] == [2, 1]


def test_an_empty_text_has_no_step_and_an_empty_prompt_is_what_begins_a_text(session):
    assert len(session.score("", given="ab ")) == 0
    assert session.score("ab", given="").prompt_tokens.tolist() == [tiny.BOS]
    assert session.score("ab", given=" ").prompt_tokens.tolist() == [tiny.BOS]


def test_special_tokens_of_a_text_are_read_as_such(session):
    assert session.score("a</s>", given="x").tokens.tolist()[-1] == tiny.EOS
    assert session.choose("x", ["a</s>"])[0].n_bytes == len("a</s>")


# What it costs.


def test_a_prompt_is_decoded_once_for_all_candidates(session, cost):
    prompt, texts = byte("x" * 100), [byte(t) for t in ("a", "bc", "def", "g" * 40)]
    session.reset()
    _, spent = cost(session, lambda: session.choose(prompt, texts))
    assert spent.decoded == 100 + sum(len(text) - 1 for text in texts)
    assert spent.batches == 3
    _, spent = cost(session, lambda: session.choose(prompt, texts))
    assert spent.decoded == 1 + sum(len(text) - 1 for text in texts)


def test_more_candidates_than_sequences_decode_the_prompt_once_too(any_model, cost):
    prompt, texts = byte("x" * 50), [byte(a + b) for a in "abcde" for b in "fghij"]
    with any_model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        _, spent = cost(session, lambda: session.choose(prompt, texts))
        assert spent.decoded <= 50 + len(texts)  # texts that begin alike share more
        assert spent.batches <= 2 + math.ceil(len(texts) / 3)


def test_a_prompt_that_many_texts_share_is_scored_once(session, cost):
    prompt = byte("x" * 100)
    session.reset()
    first, spent = cost(session, lambda: session.score(byte("abc"), given=prompt))
    assert (spent.decoded, first.n_prompt_reused, first.n_prompt_decoded) == (102, 0, 100)
    second, spent = cost(session, lambda: session.score(byte("def"), given=prompt))
    assert (spent.decoded, second.n_prompt_reused, second.n_prompt_decoded) == (3, 99, 1)


@pytest.mark.parametrize("settings", [{"n_seq_max": 1}, {"kv_unified": False}])
def test_with_one_sequence_candidates_come_one_after_the_other(any_model, settings):
    prompt, texts = byte("once upon"), [byte(t) for t in ("abc", "de", "f" * 20, "gh")]
    with any_model.session(n_ctx=64, n_threads=1, **settings) as session:
        choices = session.choose(prompt, texts)
        for choice, text in zip(choices, texts, strict=True):
            np.testing.assert_allclose(choice.logprobs, fresh(session, prompt, text), atol=NOISE)


def test_candidates_that_do_not_fit_side_by_side_come_in_turn(any_model):
    prompt, texts = byte("once upon"), [byte(c * 30) for c in "abcdefgh"]
    with any_model.session(n_ctx=64, n_threads=1) as session:
        choices = session.choose(prompt, texts)
        for choice, text in zip(choices, texts, strict=True):
            np.testing.assert_allclose(choice.logprobs, fresh(session, prompt, text), atol=NOISE)


def test_a_kept_sequence_stays_as_it_is(session):
    session.reset()
    session.logits(byte("keep me"))
    mine = session.fork()
    session.choose("x", ["a", "bc", "def"])
    assert session.sequences[mine].tolist() == byte("keep me")
    session.remove(mine)


def test_ctrl_c_stops_a_choice_and_the_session_stays_usable(session):
    texts = [byte(f"{i:04}" + "x" * 40) for i in range(4000)]
    before = session.ledger.batches

    def interrupt():
        while session.ledger.batches == before:  # it waits for the session from then on
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        session.choose("once", texts)
    np.testing.assert_allclose(
        session.choose("once", texts[:2])[0].logprobs,
        fresh(session, session.prompt_tokens("once"), texts[0]),
        atol=NOISE,
    )


# What is refused.


def test_what_does_not_fit_is_refused_before_anything_is_decoded(session, cost):
    for call in (
        lambda: session.choose("a", ["b", "c" * 300]),
        lambda: session.score("c" * 300, given="a"),
        lambda: session.choose("a" * 300, ["b"]),
    ):

        def refused(call=call):
            with pytest.raises(ContextFull, match="room for 256"):
                call()

        assert cost(session, refused)[1].decoded == 0
    session.choose("a", ["b"])


def test_beside_kept_sequences_there_may_be_no_room(model):
    with model.session(n_ctx=64, n_threads=1) as session:
        session.logits(byte("k" * 40))
        session.fork()
        with pytest.raises(ContextFull, match="Remove one with session.remove"):
            session.choose(byte("x" * 10), [byte("y" * 30), byte("z")])
        assert len(session.choose(byte("x" * 10), [byte("y" * 3), byte("z")])) == 2


@pytest.mark.parametrize(
    ("candidates", "error", "message"),
    [
        ("Yes", TypeError, "it must be a list of texts"),
        (7, TypeError, "it must be a list of texts"),
        ([7], TypeError, "a text is a str or a list of token ids, not int"),
        ([], ValueError, "at least one text to choose from"),
        (["a", ""], ValueError, "candidate 1 is empty"),
        ([[], "a"], ValueError, "candidate 0 is empty"),
        (["a", "b", "a"], ValueError, "candidates 0 and 2 are the same: 'a'"),
        (["ab", [259]], ValueError, "candidates 0 and 1 are the same"),
        ([[10**6]], ValueError, "outside the vocabulary"),
    ],
)
def test_what_is_nothing_to_choose_from_is_refused(candidates, error, message, session):
    with pytest.raises(error, match=message):
        session.choose("x", candidates)


# The result.


def test_choices_are_a_table_a_value_and_a_list(session):
    choices = session.choose("x", ["a", "bb", " cat"])
    table = choices.to_pandas()
    assert list(table.index) == ["a", "bb", " cat"]
    assert table["logprob"].tolist() == [c.logprob for c in choices]
    assert table["n_bytes"].tolist() == [1, 2, 4]
    assert table.loc["bb", "per_byte"] == pytest.approx(table.loc["bb", "logprob"] / 2)
    assert table.loc[" cat", "per_token"] == table.loc[" cat", "logprob"]
    assert table["probability"].sum() == pytest.approx(1)
    assert choices[1].text == "bb" and len(choices[:2]) == 2
    assert pickle.loads(pickle.dumps(choices)) == choices
    assert len({choices, pickle.loads(pickle.dumps(choices))}) == 1
    lines = repr(choices).splitlines()
    assert "among 3" in lines[0] and repr(choices.best.text) in lines[1]
    assert choices.to_pandas()["logprob"].idxmax() == choices.best.text

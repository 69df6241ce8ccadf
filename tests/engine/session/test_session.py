"""A session decodes what is new, stops where it should, and says what it cannot do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.cache import cache
from mullama_lab.engine.cache.cache import PAUSE
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Greedy, LogitBias, Mask
from mullama_lab.errors import ContextFull

EOS = tiny.EOS
NO_END = Mask(ban=[EOS])
NOISE = 0.02  # other batch sizes give other roundings; another prompt differs by more than 1


def byte(text):
    """The tokens of a text in a tiny vocabulary: byte b is token b + 3."""
    return [b + 3 for b in text.encode()]


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=1024, n_threads=1) as session:
        yield session


# What is decoded.


def test_the_same_prompt_again_decodes_one_token(session):
    prompt = byte("abcd" * 128)
    session.reset()
    first = session.generate(prompt, NO_END, max_tokens=8, seed=1)
    assert (first.n_prompt_decoded, first.n_prompt_reused) == (512, 0)
    decoded = session.n_decoded
    again = session.generate(prompt, NO_END, max_tokens=8, seed=1)
    assert (again.n_prompt_decoded, again.n_prompt_reused) == (1, 511)
    assert session.n_decoded == decoded + 1 + 7  # the last token of 8 is not decoded
    assert again.tokens.tolist() == first.tokens.tolist()


def test_only_what_follows_the_common_prefix_is_decoded(session):
    session.reset()
    shared = byte("hello " * 40)
    session.logits([*shared, *byte("world")])
    assert session.tokens.tolist() == [*shared, *byte("world")]
    trace = session.generate([*shared, *byte("there")], max_tokens=0)
    assert (trace.n_prompt_reused, trace.n_prompt_decoded) == (128, 117)  # whole blocks
    trace = session.generate([*shared, *byte("there, you")], max_tokens=0)
    assert (trace.n_prompt_reused, trace.n_prompt_decoded) == (245, 5)  # it goes on
    trace = session.generate(byte("other"), max_tokens=0)
    assert (trace.n_prompt_reused, trace.n_prompt_decoded) == (0, 5)
    session.reset()
    assert session.tokens.tolist() == []


def test_reused_and_fresh_give_the_same_row_on_every_kind_of_model(any_model):
    start, longer, other = byte("x" * 30), byte("x" * 30 + "yz" * 10), byte("x" * 20 + "abc")
    with any_model.session(n_ctx=256, n_threads=1) as session:
        fresh = {}
        for name, prompt in (("start", start), ("longer", longer), ("other", other)):
            session.reset()
            fresh[name] = session.logits(prompt)
        session.reset()
        session.logits(start)
        for name, prompt in (("longer", longer), ("other", other), ("start", start)):
            row = session.logits(prompt)  # goes on, back to a branch, and on again
            np.testing.assert_allclose(row, fresh[name], atol=NOISE)
            assert session.tokens.tolist() == prompt
        assert np.abs(fresh["start"] - fresh["other"]).max() > 1


def test_a_prompt_in_pieces_gives_the_row_of_one_batch(any_model):
    prompt = byte("the quick brown fox jumps over the lazy dog")
    rows = []
    for n_batch, n_ubatch in ((512, 512), (16, 16), (7, 3), (1, 1)):
        with any_model.session(
            n_ctx=256, n_batch=n_batch, n_ubatch=n_ubatch, n_threads=1
        ) as session:
            rows.append(session.logits(prompt))
    for row in rows[1:]:
        np.testing.assert_allclose(row, rows[0], atol=NOISE)


def test_score_gives_the_logprob_that_single_prompts_give(any_model):
    text = byte("hello, world")
    with any_model.session(n_ctx=256, n_batch=5, n_threads=1) as session:
        trace = session.score(text)
        assert trace.tokens.tolist() == text[1:]
        assert trace.prompt_tokens.tolist() == text[:1]
        assert trace.finish_reason == "scored"
        assert session.last_trace is trace
        for i, token in enumerate(text[1:]):
            row = session.logits(text[: i + 1]).astype(np.float64)
            expected = row[token] - np.log(np.exp(row).sum())
            assert trace.logprob[i] == pytest.approx(expected, abs=NOISE)
            assert trace.logprob_after[i] == trace.logprob[i]
            assert trace.rank[i] == np.count_nonzero(row > row[token])


def test_scoring_one_token_has_no_step(session):
    trace = session.score([5])
    assert (len(trace), trace.finish_reason) == (0, "scored")


def test_an_empty_text_is_the_token_that_begins_a_text(session):
    assert session.generate("", max_tokens=0).prompt_tokens.tolist() == [tiny.BOS]
    assert session.generate([], max_tokens=0).prompt_tokens.tolist() == [tiny.BOS]


# Where it ends.


def test_max_tokens_zero_processes_the_prompt_and_one_gives_one(session):
    none = session.generate(byte("abc"), max_tokens=0)
    assert (len(none), none.text, none.finish_reason) == (0, "", "length")
    assert session.tokens.tolist() == byte("abc")
    one = session.generate(byte("abc"), NO_END, max_tokens=1)
    assert (len(one), one.finish_reason) == (1, "length")


def test_an_end_token_ends_it_and_is_no_text(session):
    trace = session.generate(byte("abc"), LogitBias({EOS: 1000}), max_tokens=50)
    assert trace.finish_reason == "eog"
    assert trace.tokens.tolist() == [EOS]
    assert trace.text == ""


@pytest.mark.parametrize(
    ("stop", "text", "n_tokens"),
    [
        ("lo w", "hel", 7),
        (["wor", "lo w"], "hel", 7),
        (["zzz", "d"], "hello worl", 11),
        ("h", "", 1),
        ("hello world", "", 11),
        (["o", "l"], "he", 3),
        (["ello", "ll"], "he", 4),  # "ll" is complete first
        (["hex", "ex"], "hello world", 11),
        ((), "hello world", 11),
        (None, "hello world", 11),
    ],
)
def test_a_stop_string_ends_the_text_before_it_across_tokens(session, stop, text, n_tokens, writes):
    trace = session.generate(byte("abc"), writes(b"hello world"), max_tokens=11, stop=stop)
    assert trace.text == text
    assert len(trace) == n_tokens
    assert trace.finish_reason == ("length" if text == "hello world" else "stop")


def test_a_stop_string_of_several_bytes_is_found_in_single_bytes(session, writes):
    trace = session.generate(byte("abc"), writes("aé→😀b".encode()), max_tokens=20, stop="→")
    assert (trace.text, trace.finish_reason) == ("aé", "stop")


def test_a_stop_string_inside_a_token_cuts_the_token(tmp_path):
    path = tiny.write(tmp_path / "t.gguf", pieces=["one, two"])
    with Model.load(path) as model:
        trace = model.session(n_ctx=256).generate(
            "a", Mask(allow=[tiny.N_VOCAB]), max_tokens=5, stop=", "
        )
    assert trace.text == "one"
    assert trace.pieces == [b"one, two"]


def test_a_seed_repeats_a_text_and_none_picks_one_that_the_trace_names(session):
    texts = {
        seed: session.generate("ab", NO_END, max_tokens=20, seed=seed).text for seed in range(5)
    }
    assert len(set(texts.values())) > 1
    for seed, text in texts.items():
        assert session.generate("ab", NO_END, max_tokens=20, seed=seed).text == text
    picked = [session.generate("ab", NO_END, max_tokens=20) for _ in range(3)]
    assert len({trace.seed for trace in picked}) == 3
    again = session.generate("ab", NO_END, max_tokens=20, seed=picked[0].seed)
    assert again.text == picked[0].text


def test_a_full_context_ends_it_and_a_longer_prompt_is_refused(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        trace = session.generate([5] * 250, NO_END, max_tokens=100)
        assert (len(trace), trace.finish_reason) == (7, "context")
        full = session.generate([5] * 256, NO_END, max_tokens=100)
        assert (len(full), full.finish_reason) == (1, "context")
        for call in (session.generate, session.logits, session.score):
            with pytest.raises(
                ContextFull, match=r"has 257 tokens.*room for 256.*larger n_ctx, or shorten"
            ):
                call([5] * 257)
        assert len(session.generate("a", NO_END, max_tokens=3)) == 3


def test_a_context_of_one_token_has_room_for_one_and_draws_one_more(tiny_model):
    with tiny_model.session(n_ctx=1) as session:
        trace = session.generate([5], NO_END, max_tokens=1000)
        assert trace.finish_reason == "context"
        assert len(trace) == session.n_ctx


def test_sequences_that_share_no_buffer_have_a_part_of_the_context_each(tiny_model):
    with tiny_model.session(n_ctx=1024, n_seq_max=4, kv_unified=False) as session:
        assert session.n_ctx == 256
        with pytest.raises(ContextFull):
            session.logits([5] * 257)
        assert session.generate([5] * 250, NO_END).finish_reason == "context"


# A conversation.


def test_a_chat_is_the_generation_from_the_rendered_template(session):
    chat = session.chat([{"role": "user", "content": "hi"}], Greedy(), max_tokens=5)
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert session.model.detokenize(chat.prompt_tokens) == prompt
    plain = session.generate([tiny.BOS, *byte(prompt)], Greedy(), max_tokens=5)
    assert chat.tokens.tolist() == plain.tokens.tolist()
    with pytest.raises(TypeError, match="messages must be a list, not str"):
        session.chat("hi")


def test_a_conversation_that_cannot_fit_is_refused_before_it_is_tokenized(smollm2, monkeypatch):
    monkeypatch.setattr(type(smollm2), "tokenize", lambda *_, **__: pytest.fail("tokenized"))
    with (
        smollm2.session(n_ctx=64) as session,
        pytest.raises(ContextFull, match="no token has more than"),
    ):
        session.chat([{"role": "user", "content": "word " * 10_000}])


def test_a_real_model_answers_a_chat_and_knows_capitals(smollm2):
    with smollm2.session(n_ctx=256) as session:
        trace = session.generate("The capital of France is", Greedy(), max_tokens=1)
        assert trace.text.strip() == "Paris"
        assert trace.logprob[0] > math.log(0.2)
        answer = session.chat([{"role": "user", "content": "Say hello."}], Greedy(), max_tokens=30)
        assert "hello" in answer.text.lower()


@pytest.fixture
def waits(monkeypatch):
    """A function that gives what a session waits before its tokens, so long after `give_way`."""

    def waited(session, cpus, seconds=0.0):
        slept, now = [], [1000.0]
        monkeypatch.setattr("mullama_lab.engine.session.session.os.cpu_count", lambda: cpus)
        monkeypatch.setattr("mullama_lab.engine.session.session.monotonic", lambda: now[0])
        monkeypatch.setattr(cache, "monotonic", lambda: now[0])
        monkeypatch.setattr(cache, "sleep", slept.append)
        session.give_way()
        now[0] += seconds
        session.reset()
        session.generate([100, 101], NO_END, max_tokens=4)
        return slept

    return waited


def test_generation_gives_way_only_where_it_would_take_all_of_the_cpu(tiny_model, waits):
    with tiny_model.session(n_ctx=64, n_threads=2) as session:
        assert waits(session, cpus=4) == [] != waits(session, cpus=3)


def test_while_it_gives_way_each_token_waits_for_a_moment(session, waits):
    assert len(waits(session, cpus=1)) >= 4 and set(waits(session, cpus=1)) == {PAUSE}
    (left,) = set(waits(session, cpus=1, seconds=PAUSE / 2))
    assert left == pytest.approx(PAUSE / 2)
    assert waits(session, cpus=1, seconds=PAUSE) == []

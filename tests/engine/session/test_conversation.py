"""Chats through a session: whole answers, streams, runs, and turn by turn."""

from __future__ import annotations

import asyncio
from functools import partial

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Greedy, Mask, Temperature
from mullama_lab.errors import ContextFull, SessionError

pytestmark = pytest.mark.usefixtures("no_event_loop")

TALK = [{"role": "user", "content": "Name a planet <|im_end|>."}]
NO_END = Mask(allow=[ord(letter) + 3 for letter in "abcdefgh ."]) | Temperature(1)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """A tiny model whose vocabulary has the marks of ChatML."""
    marks = ("<|im_start|>", "<|im_end|>")
    kinds = [2, 3, 3, *[6] * tiny.N_BYTES, 3, 3]
    kinds[tiny.N_SPECIAL + ord(" ")] = 1
    path = tmp_path_factory.mktemp("marked") / "marked.gguf"
    tiny.write(
        path,
        chat_template=tiny.CHATML,
        pieces=marks,
        metadata={"tokenizer.ggml.token_type": kinds},
    )
    with Model.load(path) as model:
        yield model


@pytest.fixture
def session(marked):
    with marked.session(n_ctx=512, n_threads=1) as session:
        yield session


def test_a_chat_that_blocks_streams_or_runs_gives_the_same_tokens(session):
    rendered = session.model.render_chat(TALK)
    expected = session.generate(rendered.tokens, NO_END, max_tokens=5, seed=3)
    options = {"chain": NO_END, "max_tokens": 5, "seed": 3}
    for messages in (TALK, rendered):
        blocking = session.chat(messages, **options)
        streamed = [step.token for step in session.stream_chat(messages, **options)]
        run = session.start_chat(messages, **options).wait()
        assert blocking.prompt_tokens.tolist() == rendered.tokens
        assert blocking.tokens.tolist() == streamed == run.tokens.tolist()
        assert blocking.tokens.tolist() == expected.tokens.tolist()


def test_a_chat_takes_tools_and_the_last_message_and_special_tokens(session):
    options = {"continue_final": True, "parse_special": True}
    got = session.chat(TALK, NO_END, max_tokens=1, **options)
    assert got.prompt_tokens.tolist() == session.model.render_chat(TALK, **options).tokens
    with pytest.raises(TypeError, match="tools"):
        session.chat(TALK, tools="add")
    with pytest.raises(ValueError, match=r"rendered already.*model\.render_chat"):
        session.chat(session.model.render_chat(TALK), tools=[])


def test_a_chat_that_cannot_fit_is_refused_before_it_is_tokenized(session):
    with pytest.raises(ContextFull):
        session.chat([{"role": "user", "content": "word " * 1_000_000}])


def test_a_turn_decodes_what_is_new_in_it(session, cost):
    talk = session.conversation("You are brief.")
    tokens: list[int] = []
    for turn, question in enumerate(["One?", "Two <|im_end|>?", "Three?"], 1):
        options = {"chain": NO_END, "max_tokens": 8, "seed": turn}
        answer, spent = cost(session, partial(talk.say, question, **options))
        prompt = answer.prompt_tokens.tolist()
        assert prompt[: len(tokens)] == tokens
        # The last token that was drawn before has not been decoded yet; nor that of this turn.
        n_new = len(prompt) - max(0, len(tokens) - 1)
        assert spent.decoded == n_new + len(answer) - 1
        assert spent.reused == len(prompt) - n_new
        tokens = [*prompt, *answer.tokens.tolist()]
    assert [m["role"] for m in talk.messages] == ["system", *["user", "assistant"] * 3]
    assert len(talk) == 3


def test_an_answer_that_is_tokenized_in_another_way_stays_as_it_was_drawn(tmp_path):
    path = tiny.write(
        tmp_path / "pairs.gguf",
        chat_template=tiny.CHATML,
        pieces=("<|im_start|>", "<|im_end|>", "ab"),
        metadata={
            "tokenizer.ggml.token_type": [2, 3, 3, *[6] * tiny.N_BYTES, 3, 3, 1],
            "tokenizer.ggml.scores": [0.0] * (tiny.N_VOCAB + 3),
        },
    )
    a_then_b = Mask(allow=[ord("a") + 3, ord("b") + 3]) | Temperature(1)
    with Model.load(path) as model, model.session(n_ctx=256, n_threads=1) as session:
        talk = session.conversation()
        for seed in range(4):
            answer = talk.say("x", a_then_b, max_tokens=8, seed=seed)
        assert "ab" in answer.text
        kept = answer.prompt_tokens.tolist()
        again = model.render_chat(talk.messages[:-1]).tokens
        assert len(again) < len(kept)
        assert model.detokenize(kept, special=True) == model.detokenize(again, special=True)
        assert answer.n_prompt_reused == len(kept) - answer.n_prompt_decoded > 0


def test_a_template_that_rewrites_what_was_said_is_followed(tmp_path):
    strips = tiny.CHATML.replace("message['content']", "message['content'] | trim")
    space = Mask(allow=[ord(" ") + 3]) | Greedy()
    path = tiny.write(tmp_path / "strips.gguf", chat_template=strips)
    with Model.load(path) as model, model.session(n_ctx=512, n_threads=1) as session:
        talk = session.conversation()
        talk.say("One?", space, max_tokens=4)
        second = talk.say("Two?", space, max_tokens=1)
        assert second.prompt_tokens.tolist() == model.render_chat(talk.messages[:-1]).tokens


def test_a_stop_string_leaves_a_text_that_is_tokenized_again(session, writes):
    talk = session.conversation()
    first = talk.say("One?", writes(b"abcd"), max_tokens=8, stop="cd")
    assert first.text == "ab"
    second = talk.say("Two?", NO_END, max_tokens=2, seed=1)
    assert second.prompt_tokens.tolist() == session.model.render_chat(talk.messages[:-1]).tokens


def test_a_stream_that_is_left_counts_as_far_as_it_went(session):
    talk = session.conversation()
    for step in talk.stream("One?", NO_END, max_tokens=50, seed=1):
        if step.index == 2:
            break
    assert [m["role"] for m in talk.messages] == ["user", "assistant"]
    assert talk.messages[1]["content"] == session.last_trace.text
    assert session.run.done


def test_a_stream_can_be_awaited_and_the_next_turn_waits_for_it(session):
    talk = session.conversation()

    async def read():
        return [step.text async for step in talk.stream("One?", NO_END, max_tokens=6, seed=1)]

    assert "".join(asyncio.run(read())) == talk.messages[1]["content"]
    stream = talk.stream("Two?", NO_END, max_tokens=40, seed=2)
    assert len(talk) == 1  # nothing was asked of it yet
    next(stream)
    talk.say("Three?", NO_END, max_tokens=2, seed=3)
    assert [m["content"] for m in talk.messages[::2]] == ["One?", "Two?", "Three?"]
    assert len(talk.messages[3]["content"]) == 40


def test_a_turn_that_fails_was_not_said(session):
    talk = session.conversation()
    talk.say("One?", NO_END, max_tokens=2, seed=1)
    before = talk.messages
    with pytest.raises(ContextFull):
        talk.say("word " * 1000)
    with pytest.raises(TypeError, match="a text or a list of messages, not 7"):
        talk.say(7)
    with pytest.raises(ContextFull):
        list(talk.stream("word " * 1000))
    assert talk.messages == before and len(talk) == 1


def test_a_turn_taken_back_leaves_no_trace(session):
    talk = session.conversation()
    with pytest.raises(ValueError, match="no turn to take back"):
        talk.undo()
    talk.say("One?", NO_END, max_tokens=4, seed=1)
    second = talk.say("Two?", NO_END, max_tokens=4, seed=2)
    talk.undo()
    again = talk.say("Two?", NO_END, max_tokens=4, seed=2)
    assert again.prompt_tokens.tolist() == second.prompt_tokens.tolist()
    assert len(talk.messages) == 4


def test_a_fork_goes_its_own_way_and_shares_the_cache(session):
    talk = session.conversation("Be brief.")
    talk.say("One?", NO_END, max_tokens=4, seed=1)
    other = talk.fork()
    talk.say("Two?", NO_END, max_tokens=4, seed=2)
    answer = other.say("Three?", NO_END, max_tokens=4, seed=3)
    assert answer.n_prompt_reused > 10
    assert [m["content"] for m in other.messages][-2] == "Three?"
    assert [m["content"] for m in talk.messages][-2] == "Two?"
    assert other.sequence != talk.sequence == 0
    session.remove(other.sequence)
    with pytest.raises(ValueError, match="no sequence"):
        session.conversation(sequence=other.sequence)


def test_forks_end_where_the_sequences_end(marked):
    with marked.session(n_ctx=128, n_threads=1, n_seq_max=1) as session:
        talk = session.conversation()
        with pytest.raises(SessionError):
            talk.fork()


def test_the_messages_a_caller_gets_are_a_copy(session):
    talk = session.conversation("Be brief.")
    talk.messages.clear()
    talk.messages[0]["content"] = "Be long."
    assert talk.messages == [{"role": "system", "content": "Be brief."}]
    assert repr(talk) == "<Conversation of 0 turns in sequence 0>\nsystem     'Be brief.'"
    talk.say("Hi", max_tokens=1)
    assert repr(talk).startswith("<Conversation of 1 turn in sequence 0>")


def test_a_real_model_decodes_only_what_is_new(smollm2, cost):
    with smollm2.session(n_ctx=1024) as session:
        talk = session.conversation("You are brief.")
        for turn, question in enumerate(["Name a planet.", "Another one?", "And a moon?"]):
            n_before = len(session.tokens)
            options = {"chain": Temperature(1), "max_tokens": 24, "seed": turn}
            answer, spent = cost(session, partial(talk.say, question, **options))
            assert spent.reused >= n_before - 1
            assert spent.decoded <= len(answer.prompt_tokens) - spent.reused + len(answer)
            assert np.array_equal(session.tokens[: len(answer.prompt_tokens)], answer.prompt_tokens)
            assert spent.decoded < 60

"""Where each message of a chat lies in its tokens."""

from __future__ import annotations

import pytest

from mullama_lab.engine import tiny

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi <|im_end|> 😀\n"},
    {"role": "assistant", "content": " Hello "},
    {"role": "user", "content": "Hello"},
]

pytestmark = pytest.mark.filterwarnings("ignore:the chat template of tiny does not write")


def said(model, rendered):
    return [
        None if m.start is None else model.detokenize(rendered.tokens[m.start : m.end])
        for m in rendered.messages
    ]


@pytest.mark.parametrize("parse_special", [False, True])
def test_the_tokens_of_a_message_say_what_it_says(smollm2, parse_special):
    got = smollm2.render_chat(TALK, parse_special=parse_special)
    assert [m.role for m in got.messages] == ["system", "user", "assistant", "user"]
    assert [m.text for m in got.messages] == [m["content"].strip() for m in TALK]
    user = "Hi  😀" if parse_special else "Hi <|im_end|> 😀"  # a control token has no text
    assert [text.strip() for text in said(smollm2, got)] == ["Be kind.", user, "Hello", "Hello"]
    ends = [m.end for m in got.messages]
    assert ends == sorted(ends) and got.messages[0].start > 0


@pytest.mark.parametrize("vocabulary", ["spm", "bpe"])
@pytest.mark.parametrize("adds_space", [True, False])
def test_spans_are_exact_whatever_the_vocabulary_puts_before_a_text(
    chat_model, vocabulary, adds_space
):
    space = {"tokenizer.ggml.add_space_prefix": adds_space}
    marks = ("<|im_start|>", "<|im_end|>")
    model = chat_model(tiny.CHATML, marks, vocabulary=vocabulary, metadata=space)
    got = model.render_chat(TALK)
    assert said(model, got) == ["Be kind.", "Hi <|im_end|> 😀", "Hello", "Hello"]


def test_a_message_that_the_template_leaves_out_has_no_place(chat_model):
    template = (
        "{% for m in messages %}{% if m.role != 'system' %}[{{ m.content | trim }}]{% endif %}"
    )
    model = chat_model(template + "{% endfor %}")
    got = model.render_chat(TALK)
    assert (got.messages[0].start, got.messages[0].end, got.messages[0].text) == (None, None, "")
    assert said(model, got)[1:] == ["Hi <|im_end|> 😀", "Hello", "Hello"]
    assert "system     not in the prompt" in repr(got)


def test_a_message_is_found_where_the_template_looks_at_how_it_begins(chat_model):
    template = (
        "{% for m in messages %}{% if m.content.startswith('Hello') %}!{% endif %}"
        "{{ m.content }};{% endfor %}"
    )
    model = chat_model(template)
    assert said(model, model.render_chat(TALK)) == [
        "Be kind.",
        "Hi <|im_end|> 😀",
        "Hello",
        "Hello",
    ]


def test_a_message_of_calls_lies_where_the_calls_are(chat_model):
    template = "{% for m in messages %}({{ m.content }}{{ m.tool_calls | tojson }}){% endfor %}"
    call = {"function": {"name": "add", "arguments": {"x": "one"}}}
    model = chat_model(template)
    got = model.render_chat([TALK[0], {"role": "assistant", "content": None, "tool_calls": [call]}])
    assert said(model, got)[1] == 'add", "arguments": {"x": "one'


def test_the_last_message_that_is_gone_on_with_ends_the_prompt(smollm2):
    got = smollm2.render_chat(TALK[:3], continue_final=True)
    assert got.messages[-1].end == len(got.tokens) - 1  # the space at its end is a token
    assert got.messages[-1].text == "Hello"


def test_a_rendered_chat_shows_its_messages_as_text_and_as_a_table(smollm2):
    got = smollm2.render_chat(TALK)
    assert repr(got).splitlines() == [
        "<RenderedChat: 4 messages, 42 tokens>",
        "  0 system     tokens 3 to 6        'Be kind.'",
        "  1 user       tokens 11 to 21      'Hi <|im_end|> 😀'",
        "  2 assistant  tokens 28 to 29      'Hello'",
        "  3 user       tokens 35 to 36      'Hello'",
    ]
    table = got.to_pandas()
    assert list(table.columns) == ["role", "start", "end", "n_tokens", "text"]
    assert table["n_tokens"].tolist() == [m.end - m.start for m in got.messages]

"""A chat becomes a prompt, by the model's own template."""

from __future__ import annotations

import warnings

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.native import model as native
from mullama_lab.errors import ModelError

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Grüße\n<b>&\0 😀"},
    {"role": "assistant", "content": "  spaces  "},
]
ALL_TEXT = "{% for m in messages %}{{ m.content }}{% endfor %}"
HELLO = [{"role": "user", "content": "Hello"}]

pytestmark = pytest.mark.filterwarnings("ignore:the chat template of tiny does not write")


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_chatml_equals_llama_cpps_own_rendering(smollm2, length, add_generation_prompt):
    talk = [{**message, "content": message["content"].replace("\0", "")} for message in TALK]
    pairs = [(message["role"], message["content"]) for message in talk[:length]]
    expected = native.apply_builtin_template(smollm2.chat_template, pairs, add_generation_prompt)
    got = smollm2.render_chat(talk[:length], add_generation_prompt=add_generation_prompt)
    assert got.text == expected
    assert got.tokens == smollm2.tokenize(expected, add_special=False, parse_special=True)


def test_the_models_own_template_does_what_llama_cpps_list_leaves_out(smollm2):
    assert smollm2.render_chat([{"role": "user", "content": "Hi"}]).text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
        "trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_text_of_a_message_is_not_changed(chat_model):
    text = chat_model(ALL_TEXT).render_chat(TALK).text
    assert text == "".join(message["content"] for message in TALK)


def test_a_template_sees_what_transformers_gives_it(chat_model):
    model = chat_model(
        "{{ bos_token }}|{{ eos_token }}|{{ messages | tojson }}|{{ tools is none }}|"
        "{{ strftime_now('%Y') | length }}|"
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}"
        "{% endfor %}|{% generation %}kept{% endgeneration %}|{{ thinking }}"
    )
    talk = [{"role": "user", "content": "é<"}, {"role": "user", "content": "-"}]
    assert model.render_chat(talk, thinking="no").text == (
        '<s>|</s>|[{"role": "user", "content": "é<"}, {"role": "user", "content": "-"}]|True|'
        "4|user|kept|no"
    )


def test_tools_reach_the_template_and_its_variant_for_tools(chat_model):
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    template = "{{ tools | tojson }}"
    assert chat_model(template).render_chat(HELLO, tools=[tool]).text.count('"add"') == 1
    two = {"tokenizer.chat_template.tool_use": "with {{ tools[0].function.name }}"}
    model = chat_model("without", metadata=two)
    assert model.render_chat(HELLO, [tool]).text == "with add"
    assert model.render_chat(HELLO).text == "without"
    for wrong in ("add", [int], {"a": 1}, 3):
        with pytest.raises(TypeError, match='"function": {"name"'):
            model.render_chat(HELLO, tools=wrong)


def test_a_content_of_parts_is_its_texts_and_no_content_is_no_field(chat_model):
    model = chat_model("{% for m in messages %}[{{ m.content }}{{ 'content' in m }}]{% endfor %}")
    parts = [{"type": "text", "text": "a"}, "b", {"text": "c"}]
    talk = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}]
    assert model.render_chat(talk).text == "[a\nb\ncTrue][False]"


@pytest.mark.parametrize(
    "part",
    [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "image"}, 7, {"type": "text"}],
)
def test_a_part_that_is_no_text_is_refused_by_name(chat_model, part):
    talk = [{"role": "system", "content": "a"}, {"role": "user", "content": ["look", part]}]
    kind = part.get("type") if isinstance(part, dict) else "int"
    with pytest.raises(ValueError, match=rf"message 1 \(user\): part 1 .* type '{kind}'"):
        chat_model(ALL_TEXT).render_chat(talk)


def test_the_last_message_can_be_gone_on_with(smollm2, chat_model):
    talk = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two,"}]
    assert smollm2.render_chat(talk, continue_final=True).text.endswith(
        "<|im_start|>user\nCount.<|im_end|>\n<|im_start|>assistant\nOne, two,"
    )
    strips = chat_model("{% for m in messages %}{{ m.content | trim }};{% endfor %}")
    final = [*talk[:1], {"role": "assistant", "content": " One, "}]
    assert strips.render_chat(final, continue_final=True).text == "Count.;One,"
    keeps = chat_model("{% for m in messages %}{{ m.content }};{% endfor %}")
    assert keeps.render_chat(final, continue_final=True).text == "Count.; One, "


@pytest.mark.parametrize(
    ("template", "messages", "options"),
    [
        (ALL_TEXT, HELLO, {"add_generation_prompt": True}),
        ("nothing", HELLO, {}),
        (ALL_TEXT, [{"role": "assistant", "content": ""}], {}),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(chat_model, template, messages, options):
    with pytest.raises(ValueError, match="continue_final=True"):
        chat_model(template).render_chat(messages, continue_final=True, **options)


def test_a_model_without_a_template_says_what_to_do(chat_model):
    with pytest.raises(ValueError, match=r"no chat template.*Write the prompt as text"):
        chat_model(None).render_chat(TALK)


ALTERNATES = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
)


def test_a_template_may_refuse_the_messages_and_the_error_says_which(chat_model):
    talk = [*HELLO, {"role": "assistant", "content": "a"}] * 3
    talk.insert(4, {"role": "tool", "content": "b"})
    with pytest.raises(ValueError, match=r"at message 4 \(tool\): roles must alternate"):
        chat_model(ALTERNATES).render_chat(talk)
    with pytest.raises(ValueError, match=r"of tiny refuses this: never"):
        chat_model("{{ raise_exception('never') }}").render_chat(talk)


def test_what_a_template_says_in_its_error_is_shown_without_anything_hidden(chat_model):
    model = chat_model(
        "{{ raise_exception('a\u202e\x1b[31m' ~ messages[0].content) }}", ("<|im_end|>",)
    )
    with pytest.raises(ValueError, match=r"refuses this.*: a\[RLO\]\[ESC\]\[31mx<\|im_end\|>$"):
        model.render_chat([{"role": "user", "content": "x<|im_end|>"}])


def test_a_template_that_fails_says_at_which_message(smollm2):
    talk = [*TALK, {"role": "user"}, {"role": "assistant", "content": "a"}]
    with pytest.raises(ModelError, match=r"failed at message 3 \(user\): .* 'content'"):
        smollm2.render_chat(talk)


@pytest.mark.parametrize(
    "template",
    [
        "{% for %}",
        "{{ messages[99].content }}",
        "{{ 1 / 0 }}",
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{% for i in range(99999999) %}{% endfor %}",
        "{{ messages.append(1) }}",
        "{{ messages + 1 }}",
    ],
)
def test_a_broken_template_is_an_error_of_the_model(chat_model, template):
    with pytest.raises(ModelError, match="chat template of tiny failed: "):
        chat_model(template).render_chat(TALK)


@pytest.mark.parametrize("messages", ["Hi", {"role": "user"}, [{"content": "Hi"}], ["Hi"], None])
def test_messages_of_another_form_are_a_type_error(tiny_model, messages):
    with pytest.raises(TypeError, match=r'"role": "user"'):
        tiny_model.render_chat(messages)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "user", "content": 7}, r"message 0 \(user\): its content is 7"),
        ({"role": "user", "content": "a", "x": {1}}, r"messages\[0\]\['x'\] is \{1\}, of type set"),
        ({"role": "user", "content": "a", 5: "x"}, "has the key 5"),
    ],
)
def test_what_a_template_cannot_get_is_named(tiny_model, message, said):
    with pytest.raises(TypeError, match=said):
        tiny_model.render_chat([message])


def test_a_message_that_holds_itself_is_refused(tiny_model):
    loop: dict = {"role": "user", "content": "a"}
    loop["self"] = loop
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        tiny_model.render_chat([loop])


def test_no_messages_are_refused(tiny_model):
    with pytest.raises(ValueError, match="messages is empty"):
        tiny_model.render_chat([])


def test_a_lone_surrogate_is_refused_as_in_any_text(tiny_model):
    with pytest.raises(ValueError, match="lone surrogate"):
        tiny_model.render_chat([{"role": "user", "content": "a\ud83d"}])


def test_the_template_alone_decides_about_bos_and_its_absence_is_said_once(chat_model):
    with_bos = chat_model("{{ bos_token }}" + ALL_TEXT)
    assert with_bos.render_chat(HELLO).tokens[:2] == [tiny.BOS, ord("H") + 3]
    without = chat_model(ALL_TEXT)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        tokens = [without.render_chat(HELLO).tokens for _ in range(2)]
    assert tokens[0][0] == ord("H") + 3
    assert [str(w.message)[:42] for w in said] == ["the chat template of tiny does not write '"]
    assert said[0].filename == __file__


def test_what_a_template_does_not_read_is_said(chat_model):
    tool = {"type": "function", "function": {"name": "add"}}
    with pytest.warns(UserWarning, match="does not read") as said:
        chat_model(ALL_TEXT).render_chat(HELLO, tools=[tool], enable_thinkin=False)
    tools, unread = (str(w.message) for w in said[:2])
    assert "does not read tools, so the system message says them" in tools
    assert "does not read enable_thinkin, so giving that changes nothing" in unread
    assert {w.filename for w in said[:2]} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chat_model("{{ bos_token }}{{ enable_thinking }}{{ tools }}" + ALL_TEXT).render_chat(
            HELLO, tools=[tool], enable_thinking=False
        )

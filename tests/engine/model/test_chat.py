from __future__ import annotations

import pytest

from mullama_lab.engine import _native_model, tiny
from mullama_lab.engine.model import Model, chat
from mullama_lab.errors import ModelError

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Grüße\n<b>&\0 😀"},
    {"role": "assistant", "content": "  spaces  "},
]


@pytest.fixture
def with_template(tmp_path):
    def load(template):
        path = tiny.write(tmp_path / "chat.gguf", chat_template=template)
        return Model.load(path, vocab_only=True)

    return load


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_chatml_equals_llama_cpps_own_rendering(smollm2, length, add_generation_prompt):
    talk = [{**message, "content": message["content"].replace("\0", "")} for message in TALK]
    pairs = [(message["role"], message["content"]) for message in talk[:length]]
    expected = _native_model.apply_builtin_template(
        smollm2.chat_template, pairs, add_generation_prompt
    )
    assert chat.render(smollm2, talk[:length], add_generation_prompt) == expected


def test_the_models_own_template_does_what_llama_cpps_list_leaves_out(smollm2):
    question = [{"role": "user", "content": "Hi"}]
    assert chat.render(smollm2, question) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
        "trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_text_of_a_message_is_not_changed(with_template):
    model = with_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert chat.render(model, TALK) == "".join(message["content"] for message in TALK)


def test_a_template_sees_what_transformers_gives_it(with_template):
    model = with_template(
        "{{ bos_token }}|{{ eos_token }}|{{ messages | tojson }}|{{ tools is none }}|"
        "{{ strftime_now('%Y') | length }}|"
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}"
        "{% endfor %}|{% generation %}kept{% endgeneration %}|{{ thinking }}"
    )
    talk = [{"role": "user", "content": "é<"}, {"role": "user", "content": "-"}]
    assert chat.render(model, talk, variables={"thinking": "no"}) == (
        '<s>|</s>|[{"role": "user", "content": "é<"}, {"role": "user", "content": "-"}]|True|'
        "4|user|kept|no"
    )


def test_a_model_without_a_template_says_what_to_do(with_template):
    with pytest.raises(ValueError, match=r"no chat template.*Write the prompt as text"):
        chat.render(with_template(None), TALK)


def test_a_template_may_refuse_the_messages(with_template):
    model = with_template("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ValueError, match="refuses this: roles must alternate"):
        chat.render(model, TALK)


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
def test_a_broken_or_hostile_template_is_an_error_of_the_model(with_template, template):
    with pytest.raises(ModelError, match="chat template of tiny failed"):
        chat.render(with_template(template), TALK)


@pytest.mark.parametrize("messages", ["Hi", {"role": "user"}, [{"content": "Hi"}], ["Hi"], None])
def test_messages_of_another_form_are_a_type_error(with_template, messages):
    with pytest.raises(TypeError, match=r'"role": "user"'):
        chat.render(with_template(tiny.CHATML), messages)


def test_no_messages_are_refused(with_template):
    with pytest.raises(ValueError, match="messages is empty"):
        chat.render(with_template(tiny.CHATML), [])

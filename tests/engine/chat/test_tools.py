"""Tools: laid out by the template, called as their schemas allow, run, and answered."""

from __future__ import annotations

import enum
import json
import pickle
import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.chat.call_format import HERMES, CallFormat, call_format
from mullama_lab.engine.chat.calling import Answers, calling
from mullama_lab.engine.chat.tools import ToolCall, tools_of
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.errors import GrammarError

# As Qwen's template does it.
TAGS = """{{ bos_token }}{%- if tools -%}
{{ '<|im_start|>system\\nTools:' }}{% for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}
{{- '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{ '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif message.tool_calls -%}
{{ '<|im_start|>assistant' }}{% if message.content %}{{ '\\n' + message.content }}{% endif %}
{%- for call in message.tool_calls -%}
{{ '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\\n' }}
{%- else -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""
# As Llama 3.1's: one call, and nothing around it.
BARE = """{{ bos_token }}{{- '<|start|>system\\n' + tools | tojson + '<|eot|>' if tools else '' -}}
{%- for message in messages -%}
{{- '<|start|>' + message.role + '\\n' -}}
{%- if message.tool_calls -%}
{%- if message.tool_calls | length != 1 %}{{ raise_exception('one call at once!') }}{% endif -%}
{%- set call = message.tool_calls[0].function -%}
{{- '{"name": "' + call.name + '", "parameters": ' + call.arguments | tojson + '}' -}}
{%- else -%}{{- message.content -}}{%- endif -%}
{{- '<|eot|>' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif -%}
"""
# As Mistral's: a list of calls, and what they result in by their ids.
LIST = """{{ bos_token }}{{- '[AVAILABLE_TOOLS]' + tools | tojson if tools else '' -}}
{%- for message in messages -%}
{%- if message.tool_calls is defined and message.tool_calls is not none -%}
{{- '[TOOL_CALLS] [' }}
{%- for call in message.tool_calls -%}
{{- (call.function | tojson)[:-1] }}
{%- if not call.id is defined or call.id | length != 9 %}{{ raise_exception('ids!') }}{% endif -%}
{{- ', "id": "' + call.id + '"}' + (']' + eos_token if loop.last else ', ') }}
{%- endfor -%}
{%- elif message.role == 'tool' -%}
{%- if not message.tool_call_id is defined %}{{ raise_exception('ids!') }}{% endif -%}
{{- '[TOOL_RESULTS]' + message.content + message.tool_call_id -}}
{%- elif message.role == 'assistant' -%}{{- ' ' + message.content + eos_token -}}
{%- else -%}{{- '[INST] ' + message.content + '[/INST]' -}}{%- endif -%}
{%- endfor -%}
"""
NO_JSON = "{{ tools | length }}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}"
NO_JSON += "<function={{ c.function.name }}>{% endfor %}{% endfor %}"

HELLO = [{"role": "user", "content": "Hello"}]
FORM = {
    "type": "function",
    "function": {
        "name": "area",
        "description": "The area of a field.",
        "parameters": {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "unit": {"$ref": "#/$defs/unit"}},
            "required": ["width", "unit"],
            "additionalProperties": False,
            "$defs": {"unit": {"enum": ["m", "km"]}},
        },
    },
}


class Unit(enum.Enum):
    CELSIUS = "C"
    KELVIN = "K"


@dataclass
class Place:
    name: str


def weather(place: Place, unit: Unit = Unit.CELSIUS) -> str:
    """The weather at a place."""
    assert isinstance(place, Place) and isinstance(unit, Unit)
    return f"{place.name}: 20 {unit.value}"


def dice(sides: Literal[6, 20]) -> dict[str, int]:
    """Throw a die."""
    return {"sides": sides}


def units(unit: Unit, more: list[bool]) -> list[Unit]:
    """Units in a row."""
    return [unit] * len(more)


def loaded(path, template, *, control=(), vocab_only=False):
    """A tiny model with a chat template, and control tokens of these names."""
    kinds = [2, 3, 3, *[6] * tiny.N_BYTES, *[3] * len(control)]
    kinds[tiny.N_SPECIAL + ord(" ")] = 1
    metadata = {"tokenizer.ggml.token_type": kinds} if control else {}
    tiny.write(path, chat_template=template, pieces=control, metadata=metadata, n_ctx_train=4096)
    return ml.Model.load(path, vocab_only=vocab_only)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tools")


@pytest.fixture(scope="module")
def tags(folder):
    with loaded(folder / "tags.gguf", TAGS) as model:
        yield model


@pytest.fixture(scope="module")
def bare(folder):
    with loaded(folder / "bare.gguf", BARE) as model:
        yield model


@pytest.fixture(scope="module")
def marks(folder):
    names = ("<tool_call>", "</tool_call>", "<|im_start|>", "<|im_end|>")
    with loaded(folder / "marks.gguf", TAGS, control=names) as model:
        yield model


@pytest.fixture(scope="module", params=[(), ("[TOOL_CALLS]", "[INST]")])
def lists(folder, request):
    with loaded(folder / f"list{len(request.param)}.gguf", LIST, control=request.param) as model:
        yield model


@pytest.fixture(scope="module")
def session(tags):
    with tags.session(n_ctx=4096) as session:
        yield session


def test_how_a_model_writes_calls_is_found_in_its_template(folder, tags, bare, marks, tiny_model):
    assert call_format(tags) == call_format(marks) == HERMES
    assert call_format(bare) == CallFormat("", "", None, "name", "parameters")
    assert call_format(tiny_model) == HERMES
    unknown = pytest.raises(ValueError, match="in a form that is not known here: '<function=find")
    with loaded(folder / "none.gguf", NO_JSON, vocab_only=True) as model, unknown:
        call_format(model)
    strings = TAGS.replace("call.function.arguments | tojson", "call.function.arguments")
    with loaded(folder / "strings.gguf", strings, vocab_only=True) as model:
        assert call_format(model) == HERMES


def accepted(model, grammar, text):
    """How many bytes of a text are allowed; True if it may end there."""
    walk = matcher(model, grammar)
    for place, byte in enumerate(text.encode()):
        if not walk.accept(byte + 3):
            return place
    return walk.is_complete


CALL = '<tool_call>\n{"name": "area", "arguments": {"width": 2, "unit": "km"}}\n</tool_call>'
DICE = '<tool_call>\n{"name": "dice", "arguments": {"sides": 20}}\n</tool_call>'


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_is_one_that_its_schema_allows(tags, choice):
    grammar = calling(tags, tools_of([FORM, dice]), choice)
    for text in (CALL, DICE, f"{CALL}\n{DICE}\n{CALL}"):
        assert accepted(tags, grammar, text) is True
    for text, place in [
        (CALL.replace("area", "volume"), 22),
        (CALL.replace("km", "cm"), CALL.index("km")),
        (DICE.replace("20", "7"), DICE.index("20")),
        (DICE.replace('"sides"', '"sites"'), DICE.index("des")),
        (CALL + "!", len(CALL)),
        (CALL + CALL, len(CALL)),
    ]:
        assert accepted(tags, grammar, text) == place
    assert grammar.parse(f"{CALL}\n{DICE}") == [
        ToolCall("area", {"width": 2, "unit": "km"}),
        ToolCall("dice", {"sides": 20}),
    ]
    assert pickle.loads(pickle.dumps(grammar)).parse(DICE)[0]() == {"sides": 20}


def test_a_text_may_come_before_calls_or_instead_of_them(tags):
    grammar = calling(tags, tools_of([dice]), "auto")
    for text in ("", "Hello.", "a < b, <tool_call", f"I throw. {DICE}", f"<<tool_call{DICE}"):
        assert accepted(tags, grammar, text) is True
    assert accepted(tags, grammar, "So: <tool_call>x") == 15
    assert grammar.parse("Hello.") == grammar.parse('{"name": "dice"}') == []
    assert accepted(tags, calling(tags, tools_of([dice]), "required"), "Hello") == 0


def test_a_template_without_words_around_a_call_has_one_at_the_beginning(bare):
    grammar = calling(bare, tools_of([dice]), "auto")
    call = '{"name": "dice", "parameters": {"sides": 6}}'
    assert accepted(bare, grammar, call) is True
    assert accepted(bare, grammar, call + call) == len(call)
    assert accepted(bare, grammar, "It is {6}.") is True
    assert accepted(bare, grammar, '{"name": "die') == 12
    assert grammar.parse(call) == [ToolCall("dice", {"sides": 6})]


def test_calls_may_be_a_list_that_is_told_by_a_word_or_a_token(lists):
    form = call_format(lists)
    assert form == CallFormat("[TOOL_CALLS] [", "]", ", ")
    mark = lists.tokenize("[TOOL_CALLS]", add_special=False, parse_special=True)
    one = '{"name": "dice", "arguments": {"sides": 6}}'
    other = one.replace("6", "20")
    called = [ToolCall("dice", {"sides": 6}), ToolCall("dice", {"sides": 20})]
    for choice in ("auto", "required"):
        grammar = calling(lists, tools_of([dice]), choice)
        walk, rest = matcher(lists, grammar), f" [{one}, {other}]"
        assert all(walk.accept(token) for token in mark)
        assert all(walk.accept(byte + 3) for byte in rest.encode()) and walk.is_complete
        shown = rest if len(mark) == 1 else f"[TOOL_CALLS]{rest}"
        assert grammar.parse(shown) == called and grammar.parse(shown[:-20]) == called[:1]
        assert grammar.reads.content(f"So: {shown}") == "So:"
    with lists.session(n_ctx=4096) as session:
        options = {"tools": [dice], "tool_choice": "required", "max_tokens": 600, "seed": 3}
        trace = session.chat(HELLO, ml.Temperature(1.0), **options)
        calls = trace.tool_calls
        assert trace.finish_reason == "eog" and calls
        ids = [call.id for call in calls]
        assert len(set(ids)) == len(ids) and {len(one) for one in ids} == {9}
        talk = [*HELLO, trace.message, *(call.answer() for call in calls)]
        assert '[TOOL_RESULTS]{"sides": ' in lists.render_chat(talk, tools=[dice]).text


def test_the_words_around_a_call_are_the_tokens_of_their_names(marks):
    begin = marks.tokenize("<tool_call>", add_special=False, parse_special=True)
    assert len(begin) == 1
    for choice in ("auto", "required"):
        walk = matcher(marks, calling(marks, tools_of([dice]), choice))
        assert walk.allowed()[begin[0]]
        assert walk.allowed()[ord("H") + 3] == (choice == "auto")
        assert walk.accept(begin[0])
        assert walk.allowed().nonzero()[0].tolist() == [ord("\n") + 3]
    with marks.session(n_ctx=2048) as session:
        trace = session.chat(HELLO, tools=[dice], tool_choice="required", max_tokens=1500, seed=1)
    assert trace.tokens[0] == begin[0] and "<tool_call>" not in trace.text
    assert trace.tool_calls and trace.tool_calls[0].name == "dice"


def test_a_function_is_a_tool_by_its_hints(tags):
    (tool,) = tools_of([weather])
    said = tool.form["function"]
    assert said["name"] == "weather" and said["description"] == "The weather at a place."
    assert said["parameters"]["required"] == ["place"]
    text = tags.render_chat(HELLO, tools=[weather, FORM]).text
    assert '"name": "weather"' in text and '"name": "area"' in text


def test_a_chat_with_tools_writes_calls_that_can_be_run(session):
    done = 0
    for seed in range(6):
        trace = session.chat(
            HELLO,
            ml.Temperature(1.0),
            tools=[units, dice],
            tool_choice="required",
            max_tokens=1500,
            seed=seed,
        )
        if trace.finish_reason != "eog":
            continue
        assert trace.parsed == trace.tool_calls and len(trace.tool_calls) >= 1
        for call in trace.tool_calls:
            if call.name == "dice":
                assert call() == call.arguments
            else:
                assert call() == [Unit(call.arguments["unit"])] * len(call.arguments["more"])
            done += 1
    assert done >= 3


def test_calls_drawn_by_chance_are_read_and_run(pieces_like):
    model, grammar = pieces_like, calling(pieces_like, tools_of([weather, dice]), "auto")
    pieces, done = token_texts(model).pieces, 0
    for seed in range(20):
        chance, walk = random.Random(seed), matcher(model, grammar)
        text = b"<tool_call>"
        for byte in text:
            assert walk.accept(byte + 3)
        for _ in range(400):
            allowed = walk.allowed().nonzero()[0].tolist()
            tokens = [token for token in allowed if not model.is_eog(token)]
            if not tokens or (len(tokens) < len(allowed) and chance.random() < 0.5):
                calls = grammar.parse(text.decode())
                assert [call() for call in calls]
                done += 1
                break
            closers = [token for token in tokens if pieces[token][-1:] in (b'"', b"}", b"]")]
            token = chance.choice(closers if closers and chance.random() < 0.4 else tokens)
            assert walk.accept(token)
            text += pieces[token]
    assert done >= 10


@pytest.fixture(scope="module")
def pieces_like(tags):
    return tags


def test_a_trace_that_was_read_from_a_file_has_its_calls(session):
    options = {"tools": [dice], "tool_choice": "required", "max_tokens": 1500, "seed": 0}
    trace = session.chat(HELLO, ml.Temperature(1.0), **options)
    data = trace.to_dict()
    for stored in (data, json.loads(json.dumps(data)), ml.Trace.from_dict(data).to_dict()):
        loaded = ml.Trace.from_dict(stored)
        assert loaded.tool_calls == trace.tool_calls == loaded.parsed != []
        assert loaded.message == trace.message and loaded == trace
        with pytest.raises(TypeError, match="nothing to run"):
            loaded.tool_calls[0]()
    local = session.chat(HELLO, **{**options, "tools": [local_tool()], "max_tokens": 3})
    assert pickle.loads(pickle.dumps(local)).tool_calls == []
    reads = data["chains"][0][1]["stages"][0]["grammar"]["reads"]
    for damaged in ({"form": 5}, {"tools": [5]}, {"word": 7}, {"form": {"name_key": 3}}):
        reads["calls"] = {**trace.chain[0].grammar.reads.to_dict(), **damaged}
        with pytest.raises(ValueError, match="does not say how"):
            _ = ml.Trace.from_dict(data).tool_calls
    for damaged in ({"calls": 5}, {"class": 5}, {"other": ""}, 5):
        data["chains"][0][1]["stages"][0]["grammar"]["reads"] = damaged
        with pytest.raises(ValueError, match="does not say how texts are read"):
            ml.Trace.from_dict(data)


def local_tool():
    """A tool that cannot be pickled."""

    def local(n: int) -> int:
        return n

    return local


def test_the_result_of_a_call_goes_back_to_the_model(session):
    chain = ml.Temperature(1.0)
    trace = session.chat(
        HELLO, chain, tools=[dice], tool_choice="required", max_tokens=1500, seed=0
    )
    assert trace.finish_reason == "eog"
    calls = trace.tool_calls
    assert trace.message["tool_calls"][0]["function"]["name"] == "dice"
    assert trace.message["content"] == ""
    messages = [*HELLO, trace.message, *(call.answer() for call in calls)]
    text = session.model.render_chat(messages, tools=[dice]).text
    assert f'<tool_response>\n{{"sides": {calls[0].arguments["sides"]}}}\n</tool_response>' in text
    assert text.count("<tool_call>") == len(calls)
    answer = session.chat(messages, chain, tools=[dice], max_tokens=5, seed=1)
    assert answer.tool_calls == [] and answer.message == {
        "role": "assistant",
        "content": answer.text,
    }


def test_what_is_said_before_a_call_is_the_content_of_the_message():
    read = Answers(HERMES, "<tool_call>", {"area": None})
    assert read.content(f"I look it up.\n{CALL}\n{CALL}") == "I look it up."
    assert read.content("Only this.") == "Only this."
    said = '{"name": "f", "arguments": {}}'
    assert Answers(HERMES, None, {"f": None})(f"a {said} {said[:-1]}") == [ToolCall("f", {})]
    assert Answers(HERMES, "", {"f": None})(f" {said} {said}") == [ToolCall("f", {})]
    assert Answers(HERMES, "", {"f": None})(f"a {said}") == []
    assert Answers(HERMES, "<tool_call>", {"f": None})(said) == []
    assert Answers(HERMES, "", {"g": None})(said) == []
    assert read("{" * 3000 + '{"name": ["a"], "arguments": {}}') == []


def test_a_call_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="dice cannot be called with this: sides: "):
        ToolCall("dice", {"sides": 7}, dice)()
    with pytest.raises(TypeError, match=r"nothing to run: give call.answer\(...\)"):
        ToolCall("area", {}).answer()
    answer = ToolCall("area", {}).answer({"m2": 4})
    assert answer == {"role": "tool", "name": "area", "content": '{"m2": 4}'}
    assert ToolCall("area", {}).answer("a text")["content"] == "a text"
    assert ToolCall("area", {}).answer(None)["content"] == "null"
    assert ToolCall("area", {}).answer(Unit.KELVIN)["content"] == '"Unit.KELVIN"'


def test_tools_that_are_none_are_refused(session):
    for tools in ("dice", {"name": "dice"}, [5], [Unit], [print], [lambda x: x], [lambda *x: x]):
        with pytest.raises(TypeError):
            session.chat(HELLO, tools=tools)
    with pytest.raises(ValueError, match="two tools have the name 'dice'"):
        session.chat(HELLO, tools=[dice, dice])
    with pytest.raises(ValueError, match="has no name"):
        session.chat(HELLO, tools=[{"function": {}}])
    with pytest.raises(GrammarError, match="of the tool 'f': 'not' at #/properties/a is no"):
        parameters = {"type": "object", "properties": {"a": {"not": {}}}}
        session.chat(HELLO, tools=[{"name": "f", "parameters": parameters}])
    with pytest.raises(ValueError, match="Leave one out"):
        session.chat(HELLO, tools=[dice], grammar=ml.Grammar.choice(["a"]))
    with pytest.raises(ValueError, match="tool_choice=.*one of auto, required"):
        session.chat(HELLO, tools=[dice], tool_choice="always")
    with pytest.raises(ValueError, match="tool_choice=.*one of auto, required"):
        session.chat(HELLO, tool_choice=np.array([1, 2]))
    with pytest.raises(ValueError, match="there are none: give some"):
        session.chat(HELLO, tools=[], tool_choice="required")
    assert session.chat(HELLO, tools=[], max_tokens=2).tool_calls == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_of_a_conversation_calls_tools_as_a_chat_does(session, stream):
    options = {"tool_choice": "required", "max_tokens": 1500, "seed": 0}
    talk = session.conversation(tools=[dice])
    chain = ml.Temperature(1.0)
    expected = session.chat(HELLO, chain, tools=[dice], **options)
    if stream:
        tokens = [step.token for step in talk.stream("Hello", chain, **options)]
        trace = session.last_trace
        assert tokens == trace.tokens.tolist()
    else:
        trace = talk.say("Hello", chain, **options)
    assert trace.tokens.tolist() == expected.tokens.tolist() and trace.finish_reason == "eog"
    assert trace.tool_calls == expected.tool_calls != []
    assert talk.messages == [*HELLO, expected.message]
    results = [call.answer() for call in trace.tool_calls]
    talk.say(results, chain, max_tokens=5, seed=1)
    assert talk.messages[2:-1] == results and len(talk) == 2
    assert f"{expected.message['tool_calls']}" in repr(talk)
    rendered = session.model.render_chat([*HELLO, expected.message, *results], tools=[dice])
    assert session.last_trace.prompt_tokens.tolist() == rendered.tokens
    talk.undo()
    assert talk.messages == [*HELLO, expected.message]
    with pytest.raises(ValueError, match="Leave one out"):
        talk.say("Now", grammar=ml.Grammar.choice(["a"]), tool_choice="required")
    assert talk.say("Now", grammar=ml.Grammar.choice(["a"]), max_tokens=3).text == "a"
    with pytest.raises(ValueError, match="there are none"):
        session.conversation().say("Hello", tool_choice="required")


@pytest.mark.filterwarnings("ignore:.*does not read tools")
def test_a_template_that_takes_no_tools_has_them_said_in_the_system_message(smollm2):
    with pytest.warns(UserWarning, match="does not read tools, so the system message says them"):
        text = smollm2.render_chat(HELLO, tools=[dice]).text
    assert text.startswith("<|im_start|>system\n# Tools\n") and '{"name": <function-name>' in text
    call = {"type": "function", "function": {"name": "dice", "arguments": {"sides": 6}}}
    messages = [
        {"role": "system", "content": "Be brief."},
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "4"},
    ]
    with pytest.warns(UserWarning, match="does not read tools"):
        text = smollm2.render_chat(messages, tools=[dice]).text
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    said = '<tool_call>\n{"name": "dice", "arguments": {"sides": 6}}\n</tool_call><|im_end|>'
    assert f"<|im_start|>assistant\n{said}" in text
    assert "<|im_start|>user\n<tool_response>\n4\n</tool_response><|im_end|>" in text
    for odd in (5, ["x"], [{"function": 3}], [{"function": {"arguments": "{"}}]):
        smollm2.render_chat([*HELLO, {**messages[3], "tool_calls": odd}], tools=[dice])


@pytest.mark.filterwarnings("ignore:.*does not read tools")
def test_smollm2_calls_a_tool(smollm2):
    messages = [{"role": "user", "content": "Throw a die with 20 sides."}]
    with smollm2.session(n_ctx=2048) as session:
        trace = session.chat(
            messages, ml.Greedy(), tools=[dice], tool_choice="required", max_tokens=80, seed=1
        )
        (call, *_) = trace.tool_calls
        assert call.name == "dice" and call() == {"sides": call.arguments["sides"]}
        messages += [trace.message, *(one.answer() for one in trace.tool_calls)]
        assert json.loads(messages[-1]["content"]) == call()
        assert session.chat(messages, ml.Greedy(), tools=[dice], max_tokens=12, seed=1).text

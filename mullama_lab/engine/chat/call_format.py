"""How a model writes a call: found by having its chat template write one.

Templates differ in the words around a call (`<tool_call>` ... `</tool_call>`), in whether several
are a list (`[TOOL_CALLS] [..., ...]`), and in the keys ("arguments", "parameters"). They agree
in one thing: a call is a JSON object. So a call of known words is laid out, and looked for in the
text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from mullama_lab.engine.chat.layout import Chat, takes_tools
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.errors import ModelError
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model


class CallFormat(NamedTuple):
    """The text of calls, around the JSON objects that they are.

    Attributes:
        before, after: what stands right before the first object, and after the last.
        between: what stands between two of them; None where a message has one at most.
        name_key, arguments_key: of the object.
    """

    before: str = "<tool_call>\n"
    after: str = "\n</tool_call>"
    between: str | None = "\n</tool_call>\n<tool_call>\n"
    name_key: str = "name"
    arguments_key: str = "arguments"


HERMES = CallFormat()  # of Hermes and Qwen, and of those whose template takes no tools

_NAME, _ARGUMENTS = "find_the_answer", {"of_what": "the question"}
_ID = "aCall0001"  # nine characters, as Mistral's templates demand
_ANSWER = "A plain answer."
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "Find it.",
        "parameters": {
            "type": "object",
            "properties": {"of_what": {"type": "string"}},
            "required": ["of_what"],
        },
    },
}
_QUESTION = {"role": "user", "content": "What is it?"}


@once_per_model
def call_format(model: Model) -> CallFormat:
    """How a model's chat template writes calls.

    Raises:
        ValueError: in another way than as a JSON object with a name and arguments.
    """
    if not takes_tools(model):
        return HERMES
    said: list[str] = []
    for written in _written(model, 1):
        said.append(written)
        if (found := _found(written)) is not None:
            start, end, keys = found
            before = re.search(r"\S*\s*\[\s*$|\S*\s*$", written[:start])  # also of a list
            after = _without_end(model, written[end:])
            assert before is not None  # it may be empty
            call = CallFormat(before[0], after, None, *keys)
            return call._replace(between=_between(model, call))
    raise ValueError(
        f"the chat template of {model.name} writes a call in a form that is not known here: "
        f"{brief(said[0]) if said else 'it refuses one'}. Known are JSON objects with the name and "
        "the arguments. Lay the chat out with model.render_chat, and write a grammar for the call."
    )


def _rendered(model: Model, messages: list[dict[str, Any]], begin: bool = False) -> str | None:
    chat = Chat.of(model, messages, [_TOOL], add_generation_prompt=begin)
    try:
        return chat.rendered(chat.messages)
    except (ModelError, ValueError):
        return None


def _written(model: Model, n: int) -> Iterator[str]:
    """What the template writes for an answer of n calls, in the ways that templates take them."""
    begun = _rendered(model, [_QUESTION], begin=True) or ""
    for arguments in (_ARGUMENTS, json.dumps(_ARGUMENTS)):
        said = {"name": _NAME, "arguments": arguments}
        call = {"type": "function", "id": _ID, "function": said}
        for content in ({"content": ""}, {}):
            answer = {"role": "assistant", **content, "tool_calls": [call] * n}
            if (text := _rendered(model, [_QUESTION, answer])) is not None:
                alike = takewhile(lambda pair: pair[0] == pair[1], zip(begun, text))
                yield text[sum(1 for _ in alike) :]


def _found(text: str, start: int = 0) -> tuple[int, int, tuple[str, str]] | None:
    """The first call in a text: where it begins and ends, and its keys."""
    for place in re.finditer(r"\{", text[start:]):
        at = start + place.start()
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        keys = {_NAME: "", "arguments": ""}
        said = {key: one for key, one in value.items() if one != _ID}  # no model writes the id
        for key, one in said.items():
            if one == _NAME:
                keys[_NAME] = key
            elif one in (_ARGUMENTS, json.dumps(_ARGUMENTS)):
                keys["arguments"] = key
        if len(said) == 2 and all(keys.values()):
            return at, end, (keys[_NAME], keys["arguments"])
    return None


def _without_end(model: Model, rest: str) -> str:
    """What follows a call, without what ends every answer."""
    plain = _rendered(model, [_QUESTION, {"role": "assistant", "content": _ANSWER}]) or ""
    ending = plain.rpartition(_ANSWER)[2]
    return rest.removesuffix(ending)


def _between(model: Model, call: CallFormat) -> str | None:
    for text in _written(model, 2):
        first = _found(text)
        second = first and _found(text, first[1])
        if first and second:
            before, after = text[: first[0]], text[second[1] :]
            if before.endswith(call.before) and after.startswith(call.after):
                return text[first[1] : second[0]]
    return None

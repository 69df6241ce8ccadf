"""The messages of a chat as a template gets them: plain data, with text for content.

A content of parts becomes their texts, one a line, as llama.cpp and vLLM do it. What is None is
left out, as transformers does it: templates that look for a field mind None, and few expect it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mullama_lab.engine.options import utf8
from mullama_lab.glyphs import brief

Message = Mapping[str, Any]

_LIST_OF_MESSAGES = 'Write [{"role": "user", "content": "..."}].'
DEEPEST = 100  # lists and mappings in one another


def checked_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as plain data.

    Raises:
        TypeError: they are no list of mappings with a role, or hold what JSON has no word for.
        ValueError: there is none, or one has a part that is no text.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise TypeError(
            f"messages must be a list, not {type(messages).__name__}. {_LIST_OF_MESSAGES}"
        )
    if not messages:
        raise ValueError(f"messages is empty. {_LIST_OF_MESSAGES}")
    return [_checked_message(i, message) for i, message in enumerate(messages)]


def plain(value: Any, name: str, depth: int = 0) -> Any:
    """Data of JSON's own kinds, copied; TypeError names what is none of them."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _characters(str(value), name)
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if depth == DEEPEST:
        raise ValueError(f"{name[:80]}… is nested more than {DEEPEST} deep.")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {brief(key)}; a key must be a text.")
        return {
            _characters(str(key), name): plain(item, f"{name}[{brief(key, 40)}]", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(v, f"{name}[{i}]", depth + 1) for i, v in enumerate(value)]
    raise TypeError(
        f"{name} is {brief(value)}, of type {type(value).__name__}. A chat template gets texts, "
        "numbers, booleans, None, and lists and mappings of them."
    )


def _characters(text: str, name: str) -> str:
    """A text that has no half of a character, which would not reach the template as it is."""
    utf8(name, text)
    return text


def texts_in(data: Any) -> Iterator[str]:
    """Every text in plain data, keys too."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from texts_in(value)
    elif isinstance(data, list):
        for value in data:
            yield from texts_in(value)


def _checked_message(i: int, message: Message) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise TypeError(
            f"message {i} must be a mapping with a role, not {brief(message)}. "
            'Write {"role": "user", "content": "..."}.'
        )
    name = f"message {i} ({message['role'][:40]})"
    given = dict(message)
    if given.get("content") is not None:
        given["content"] = _text_of(given["content"], name)
    found = plain(given, f"messages[{i}]")
    return {key: value for key, value in found.items() if value is not None}


def _text_of(content: Any, whose: str) -> str:
    if isinstance(content, str):
        return str(content)
    if not isinstance(content, (list, tuple)):
        raise TypeError(
            f"{whose}: its content is {brief(content)}. A content is a text, None, or a list of "
            'parts such as {"type": "text", "text": "..."}.'
        )
    texts = []
    for number, part in enumerate(content):
        if isinstance(part, str):
            texts.append(str(part))
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        text = part.get("text") if isinstance(part, Mapping) else None
        if kind != "text" or not isinstance(text, str):
            raise ValueError(
                f"{whose}: part {number} of its content is of the type {brief(kind, 40)}. Only "
                'text is read here: {"type": "text", "text": "..."}. Leave the part out.'
            )
        texts.append(str(text))
    return "\n".join(texts)

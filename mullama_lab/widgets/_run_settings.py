"""The settings of a run, as a browser sends them: what a person typed, checked and read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mullama_lab.engine.stages.lists import read_strings
from mullama_lab.glyphs import brief

ROLES = ("system", "user", "assistant")
MAX_TURNS = 200
MAX_CHAT = 100_000  # characters of all turns
_ESCAPE = re.compile(r"\\([nt\\])")
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}
KINDS = {"prompt": str, "seed": int, "max_tokens": int, "chat": bool, "messages": list}


def read_setting(name: object, value: object) -> tuple[str, Any]:
    """The name and the value of a setting.

    >>> read_setting("seed", 7.0), read_setting("stop_strings", "END")
    (('seed', 7), ('stop_strings', ['END']))

    Raises:
        ValueError, TypeError: there is no such setting, or it is no value of its kind.
    """
    if name == "stop_strings":
        return "stop_strings", stop_strings(value)
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"a run panel has no setting {brief(name)}")
    kind = KINDS[name]
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        wanted = {str: "a text", int: "a whole number", bool: "true or false", list: "a list"}
        raise ValueError(f"{name} must be {wanted[kind]}, not {brief(value)}")
    return name, value


def stop_strings(text: object) -> list[str]:
    """Stop strings as a person typed them: one as it is, or several in quotes.

    Both ways, \\n is a newline, \\t a tab and \\\\ a backslash.

    >>> stop_strings("END"), stop_strings('"END", "\\\\n"'), stop_strings("")
    (['END'], ['END', '\\n'], [])
    >>> stop_strings("\\\\n, ."), stop_strings("\\\\d")
    (['\\n, .'], ['\\\\d'])
    """
    if not isinstance(text, str):
        raise TypeError(f"stop_strings must be a text, not {brief(text)}")
    if text.lstrip().startswith('"'):
        return read_strings(text)
    return [_ESCAPE.sub(lambda found: _ESCAPES[found[1]], text)] if text else []


def whole_messages(turns: list[Any]) -> list[dict[str, str]]:
    """The turns of a chat, each with a role and a text.

    >>> whole_messages([{"role": "user", "content": "Hello"}])
    [{'role': 'user', 'content': 'Hello'}]

    Raises:
        ValueError, TypeError: a turn has another role, or no text; or they are too many.
    """
    if len(turns) > MAX_TURNS:
        raise ValueError(f"messages has {len(turns)} turns; the panel takes {MAX_TURNS}")
    whole = []
    for turn in turns:
        if not isinstance(turn, Mapping) or set(turn) != {"role", "content"}:
            raise TypeError(f"a turn is {brief(turn)}; it must have a role and a content")
        if turn["role"] not in ROLES:
            raise ValueError(f"role is {brief(turn['role'])}; it must be one of {', '.join(ROLES)}")
        if not isinstance(turn["content"], str):
            raise TypeError(f"content is {brief(turn['content'])}; it must be a text")
        whole.append({"role": turn["role"], "content": turn["content"]})
    if sum(len(turn["content"]) for turn in whole) > MAX_CHAT:
        raise ValueError(f"messages has more than {MAX_CHAT} characters; give them to session.chat")
    return whole


def must_ask(turns: list[dict[str, str]]) -> None:
    """Refuse a chat in which the user says nothing.

    >>> must_ask([{"role": "system", "content": "Be brief."}])
    Traceback (most recent call last):
    ...
    ValueError: there is nothing to answer: write a turn of the user, then run the chat.
    """
    said = [turn["content"] for turn in turns if turn["role"] == "user"]
    if not said or not said[-1].strip():
        raise ValueError("there is nothing to answer: write a turn of the user, then run the chat.")

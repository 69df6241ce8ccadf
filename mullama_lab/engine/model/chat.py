"""Messages of a chat become a prompt, by the model's own template.

The template in a GGUF file is a Jinja program. llama.cpp's C interface does not run it: it
recognises some well-known templates by their text and has its own code for those. Here the
program itself runs, in the sandbox and with the helpers it was written for (those of
Hugging Face transformers), so every template works and none can touch this process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import Template, TemplateError, Undefined, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mullama_lab.errors import ModelError
from mullama_lab.glyphs import visible

if TYPE_CHECKING:
    from mullama_lab.engine.model.model import Model

Message = Mapping[str, Any]

# What a faulty template, or one that misses a field, raises while it runs.
_TEMPLATE_FAULTS = (
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RuntimeError,
)


def render(
    model: Model,
    messages: Sequence[Message],
    add_generation_prompt: bool = True,
    *,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The prompt for a chat, in the form the model was trained on.

    Tokenize it with `parse_special=True`, and with `add_special=False` where the template writes
    the beginning-of-text token itself.

    Args:
        messages: mappings with "role" and "content", such as
            `[{"role": "user", "content": "Hello"}]`.
        add_generation_prompt: end with what makes the model answer.
        variables: what else the template may use, such as `{"enable_thinking": False}`.

    Raises:
        ValueError: the model has no chat template, or it refuses these messages.
        TypeError: messages are no mappings with a role.
        ModelError: the template itself is broken.
    """
    if model.chat_template is None:
        raise ValueError(
            f"{model.name} has no chat template: it was not trained to chat. "
            "Write the prompt as text and use generate, or load an instruction-tuned model."
        )
    _check_messages(messages)
    names = {name: _text(model, token) for name, token in model.special_tokens.items()}
    try:
        return _compile(model.chat_template).render(
            {
                "messages": [dict(message) for message in messages],
                "add_generation_prompt": add_generation_prompt,
                "bos_token": names.get("bos", ""),
                "eos_token": names.get("eos", ""),
                "tools": None,
                "documents": None,
                **(variables or {}),
            }
        )
    except _Refused as refusal:
        raise ValueError(
            f"the chat template of {model.name} refuses this: {visible(str(refusal))}"
        ) from None
    except (TemplateError, *_TEMPLATE_FAULTS) as error:
        raise ModelError(
            f"the chat template of {model.name} failed: {error}. "
            "Check that every message has the fields it uses, or write the prompt as text."
        ) from error


class _Refused(Exception):
    """The template called raise_exception."""


class _Generation(Extension):
    """`{% generation %}`, which marks the assistant's words for training, changes no prompt."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _check_messages(messages: Sequence[Message]) -> None:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise TypeError(
            f"messages must be a list, not {type(messages).__name__}. "
            'Write [{"role": "user", "content": "..."}].'
        )
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise TypeError(
                f"a message must be a mapping with a role, not {message!r:.80}. "
                'Write {"role": "user", "content": "..."}.'
            )
    if not messages:
        raise ValueError("messages is empty. Give at least one message.")


def _text(model: Model, token: int) -> str:
    return model.piece(token).decode("utf-8", "replace")


@lru_cache(maxsize=32)
def _compile(source: str) -> Template:
    # As transformers sets it up, which is what templates are written for.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment.from_string(source)


def _raise_exception(message: str) -> None:
    raise _Refused(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is, without the escapes that Jinja's own filter adds for web pages."""
    if isinstance(value, Undefined):
        value = None
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )

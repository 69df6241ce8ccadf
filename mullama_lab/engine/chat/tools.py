"""Tools: what a model may call, given as Python functions or as JSON schemas of them."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mullama_lab.engine.chat.messages import plain
from mullama_lab.engine.grammar.classes import arguments_schema, called_with
from mullama_lab.glyphs import brief

ToolLike: TypeAlias = "Callable[..., Any] | Mapping[str, Any]"

_FORM = '{"type": "function", "function": {"name": "...", "parameters": {...}}}'


@dataclass(frozen=True)
class Tool:
    """A tool as a template is given it, and the function that it is.

    Attributes:
        form: its JSON schema, for a function in OpenAI's form.
        function: None where the tool was given as a JSON schema.
    """

    form: Mapping[str, Any]
    function: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        return self._said["name"]

    @property
    def parameters(self) -> Any:
        """The JSON Schema of its arguments."""
        return self._said.get("parameters", {"type": "object", "additionalProperties": False})

    @property
    def _said(self) -> Mapping[str, Any]:
        inner = self.form.get("function")
        return inner if isinstance(inner, Mapping) else self.form

    def must_be_callable(self) -> None:
        """ValueError where the form does not say what a call must be."""
        if not isinstance(self._said.get("name"), str) or not self.name:
            raise ValueError(f"the tool {brief(self.form)} has no name: write {_FORM}.")


def tools_of(tools: Sequence[ToolLike] | None) -> list[Tool]:
    """Tools as a caller gives them.

    Raises:
        TypeError: they are no list of functions and mappings; or a function has no JSON Schema.
    """
    if tools is None:
        return []
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Sequence):
        raise TypeError(
            f"tools must be a list, not {type(tools).__name__}, of Python functions or of {_FORM}."
        )
    return [_tool(i, tool) for i, tool in enumerate(tools)]


def _tool(i: int, tool: object) -> Tool:
    if isinstance(tool, Mapping):
        return Tool(plain(tool, f"tools[{i}]"))
    if callable(tool) and not isinstance(tool, type):
        try:
            return Tool(_form_of(tool), tool)
        except TypeError as error:
            raise TypeError(f"tools[{i}]: {error}") from None
    raise TypeError(
        f"tools[{i}] is {brief(tool)}; a tool is a Python function with type hints, or a mapping "
        f"with its JSON schema: {_FORM}."
    )


def _form_of(function: Callable[..., Any]) -> dict[str, Any]:
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        raise TypeError(f"{brief(function)} has no name that a model could call it by: use def.")
    said = {"name": name, "description": inspect.getdoc(function) or ""}
    return {"type": "function", "function": {**said, "parameters": arguments_schema(function)}}


@dataclass(frozen=True)
class ToolCall:
    """A call that a model wrote: `trace.tool_calls` has them.

        messages += [trace.message] + [call.answer() for call in trace.tool_calls]

    Attributes:
        name: of the tool.
        arguments: by name, as they stand in the call: JSON.
        function: what the tool was given as; None for a JSON schema, and of a call that was
            read from a file.
        id: nine letters and digits, by which some templates tell what the result is of.
    """

    name: str
    arguments: dict[str, Any]
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    id: str = field(default="", repr=False, compare=False)

    def __call__(self) -> Any:
        """What the function returns, called with the arguments as the types of its hints.

        Raises:
            ValueError: they are none, as pydantic says.
            TypeError: the tool was given as a JSON schema, or the call was read from a file. What
                the function raises comes through.
        """
        if self.function is None:
            raise TypeError(
                f"the tool {self.name!r} was given as a JSON schema, or the call was read from a "
                "file, so there is nothing to run: give call.answer(...) what it results in."
            )
        return called_with(self.function, self.arguments)

    def answer(self, *result: Any) -> dict[str, Any]:
        """The message that tells the model the result, as `session.chat` takes it.

        Without a result the function is run for one. A text is said as it is, all else as JSON,
        or by `str` where it is none.
        """
        value = result[0] if result else self()
        said = value if isinstance(value, str) else json.dumps(value, default=str)
        to = {"tool_call_id": self.id} if self.id else {}
        return {"role": "tool", "name": self.name, **to, "content": said}

    @property
    def as_message_part(self) -> dict[str, Any]:
        """The call as a message of the assistant has it."""
        said = {"name": self.name, "arguments": self.arguments}
        return {"type": "function", **({"id": self.id} if self.id else {}), "function": said}


def id_of(text: str) -> str:
    """The id of the call that a text ends with."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:9]

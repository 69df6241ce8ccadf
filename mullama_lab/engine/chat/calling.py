"""The grammar of an answer that may call tools, and the calls read out of one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from mullama_lab.engine.chat.call_format import CallFormat, call_format
from mullama_lab.engine.chat.tools import Tool, ToolCall, id_of
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.schema.subschemas import moved
from mullama_lab.engine.options import one_of
from mullama_lab.engine.vocabulary.marks import marks_of
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

ToolChoice: TypeAlias = Literal["auto", "required"]


@dataclass(frozen=True)
class Answers:
    """Reads the answers of a model that has tools.

    Attributes:
        form: how it writes calls, as far as that is text.
        word: what stands before a call in the text; "" where a call begins the text, and None
            where it is a token that adds nothing to the text.
        functions: those of the tools, by name; None where there is none.
    """

    form: CallFormat
    word: str | None
    functions: Mapping[str, Any]

    def __call__(self, text: str) -> list[ToolCall]:
        """The calls in a text; none where it has none, or where one is not at its end yet."""
        return [call for call, _ in self._calls(text)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` reads; the functions are not among them."""
        return {"form": self.form._asdict(), "word": self.word, "tools": [*self.functions]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Answers:
        """What `to_dict` wrote, whose calls can be read and not run; ValueError if it did not."""
        try:
            form, word, tools = CallFormat(**data["form"]), data["word"], data["tools"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{brief(data)} does not say how calls are read: {error}.") from None
        texts = [*form._replace(between=form.between or ""), word or "", *tools]
        if not isinstance(tools, list) or not all(isinstance(one, str) for one in texts):
            raise ValueError(f"{brief(data)} does not say how calls are read, in texts.")
        return cls(form, word, dict.fromkeys(tools))

    def content(self, text: str) -> str:
        """What a text says before its first call."""
        calls = self._calls(text)
        if not calls:
            return text.strip()
        lead = self.form.before.strip() if self.word is None else self.word
        return text[: calls[0][1]].strip().removesuffix(lead).rstrip()

    def _calls(self, text: str) -> list[tuple[ToolCall, int]]:
        """Each call, and where its object begins."""
        found: list[tuple[ToolCall, int]] = []
        end = last = 0  # last: where the last call ends
        for place in re.finditer(r"\{", text):
            if place.start() < end:
                continue
            try:
                value, end = json.JSONDecoder().raw_decode(text, place.start())
            except (ValueError, RecursionError):
                continue
            is_next = bool(found) and text[last : place.start()] == self.form.between
            if not is_next and not self._may_begin_after(text[: place.start()]):
                continue
            if (call := self._call(value, text[:end])) is not None:
                found.append((call, place.start()))
                last = end
        return found

    def _may_begin_after(self, text: str) -> bool:
        text = text.rstrip()
        return self.word is None or (text.endswith(self.word) if self.word else not text)

    def _call(self, value: dict[str, Any], text: str) -> ToolCall | None:
        """The call that an object is, and the text to its end; None if it is none."""
        if value.keys() != {self.form.name_key, self.form.arguments_key}:
            return None
        name, arguments = value[self.form.name_key], value[self.form.arguments_key]
        if not isinstance(arguments, dict) or name not in [*self.functions]:
            return None
        return ToolCall(name, arguments, self.functions[name], id_of(text))


def choice_of(value: Any) -> ToolChoice:
    """A `tool_choice`, as a caller gives it; ValueError if it is none."""
    return "auto" if one_of("tool_choice", value, get_args(ToolChoice)) == "auto" else "required"


def calling(model: Model, tools: Sequence[Tool], choice: ToolChoice) -> Grammar:
    """The grammar of an answer: a text and calls, or calls alone where one is required.

    Raises:
        GrammarError: the JSON Schema of a tool's arguments is not carried out.
        ValueError: the template writes calls in a form that is not known; or two tools have the
            same name, or one has none.
    """
    form = call_format(model)
    functions: dict[str, Any] = {}
    for tool in tools:
        tool.must_be_callable()
        if tool.name in functions:
            raise ValueError(f"two tools have the name {tool.name!r}. Give them different names.")
        functions[tool.name] = tool.function
    word = form.before.strip()
    is_token = any(mark.name in word and not mark.is_text for mark in marks_of(model))
    rest = one = _objects(tools, form)
    if form.between is not None:
        rest = one + (_marked(model, form.between) + one).many()
    rest = rest + _marked(model, form.after)
    calls = _marked(model, form.before) + rest
    if choice == "auto":
        calls = _with_text(form.before, is_token, calls, rest)
    form = form._replace(before=_unmarked(model, form.before))
    return calls.read_by(Answers(form, None if is_token else word, functions))


def _objects(tools: Sequence[Tool], form: CallFormat) -> Grammar:
    """The JSON objects that call one of the tools."""
    options, definitions = [], {}
    for number, tool in enumerate(tools):
        try:
            Grammar.json_schema(tool.parameters)
        except GrammarError as error:
            raise GrammarError(f"the parameters of the tool {tool.name!r}: {error}") from None
        definitions[f"tool{number}"] = moved(tool.parameters, f"#/$defs/tool{number}")
        properties = {
            form.name_key: {"const": tool.name},
            form.arguments_key: {"$ref": f"#/$defs/tool{number}"},
        }
        options.append(
            {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            }
        )
    return Grammar.json_schema({"$defs": definitions, "anyOf": options})


def _with_text(before: str, is_token: bool, calls: Grammar, rest: Grammar) -> Grammar:
    """Any text, and calls after it.

    Args:
        rest: of the calls, behind what stands before the first.
    """
    word = before.strip()
    if not word:  # a call has nothing to tell it by but that it begins with a brace
        return Grammar.regex(r"(?s:\s*[^\s{].*)?") | calls
    if is_token:
        return Grammar.regex("(?s:.*)") + calls.optional()  # a text has no such token in it
    name = "".join(f"\\x{{{ord(c):x}}}" for c in word)
    text = Grammar.lark(f"start: TEXT\nTEXT: /(?s:.*)/ & ~/(?s:.*){name}(?s:.*)/")
    lead = Grammar.lark(f"start: lead\nlead[lazy]: /(?s:.*){name}/")
    return text | (lead + before[before.index(word) + len(word) :] + rest)


def _marked(model: Model, text: str) -> Grammar:
    """A text of a template, in which the names of control tokens are these."""
    marks = {mark.name: mark.token for mark in marks_of(model) if not mark.is_text}
    pieces = _cut(marks, text)
    if len(pieces) == 1:
        return Grammar.choice([text])
    return reduce(add, (_piece(one, marks) for one in pieces), Grammar.choice([""]))


def _unmarked(model: Model, text: str) -> str:
    """A text of a template without the names of control tokens, as a generated text has it."""
    return "".join(_cut([mark.name for mark in marks_of(model) if not mark.is_text], text)[::2])


def _cut(names: Iterable[str], text: str) -> list[str]:
    """A text cut at names of tokens: a text, a name, a text, ..."""
    there = sorted((name for name in names if name in text), key=len, reverse=True)
    return re.split(f"({'|'.join(map(re.escape, there))})", text) if there else [text]


def _piece(text: str, marks: Mapping[str, int]) -> Grammar:
    if text in marks:
        return Grammar.gbnf(f"root ::= <[{marks[text]}]>")
    return Grammar.choice([text])

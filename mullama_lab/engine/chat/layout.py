"""A chat laid out by a model's template: its text, and which of it somebody said.

The messages go to the template as they are, but for the names of marks in them, which are
guarded. What comes back is the prompt as text; its tokens are worked out when they are needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.chat import process
from mullama_lab.engine.chat.messages import (
    Message,
    checked_messages,
    plain,
    texts_in,
)
from mullama_lab.engine.chat.tools import ToolLike, tools_of
from mullama_lab.engine.chat.tools_in_messages import with_tools_said
from mullama_lab.engine.options import flag
from mullama_lab.engine.vocabulary.marks import (
    Guard,
    marks_of,
    private_letters,
    shown,
    tokens_of,
    unguarded,
)
from mullama_lab.errors import ModelError
from mullama_lab.warned import warn

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

_OTHER_NAMES = ("bos", "eos", "pad", "sep", "mask")  # as transformers passes them: bos_token, ...


def template_of(model: Model, for_tools: bool) -> str:
    """A model's template; its one for tools where it has that and there are tools."""
    found = model.metadata.get("tokenizer.chat_template.tool_use") if for_tools else None
    return found if isinstance(found, str) and found else model.chat_template or ""


def takes_tools(model: Model) -> bool:
    """Whether a model's template reads tools."""
    return "tools" in _words(template_of(model, True))


def _words(template: str) -> set[str]:
    return set(re.findall(r"\w+", template))


@dataclass(frozen=True)
class Layout:
    """The text of a chat, and the spans in it that are a mark's name and no mark."""

    model: Model
    text: str
    said: Sequence[tuple[int, int]] = ()

    @property
    def part_tokens(self) -> list[int]:
        """Its token ids, as those of a part of a text."""
        return tokens_of(self.model, self.text, self.said)

    @property
    def tokens(self) -> list[int]:
        """Its token ids; a warning where the template leaves out what begins every text."""
        tokens = self.part_tokens
        bos = self.model.bos
        if self.model.add_bos and bos is not None and tokens[:1] != [bos]:
            name = self.model.piece(bos).decode("utf-8", "replace")
            warn(
                f"the chat template of {self.model.name} does not write {name!r}, with which "
                "every other text for this model begins. None is added, as transformers adds "
                "none; write the prompt as text if the model needs it."
            )
        return tokens

    def after(self, n: int) -> Layout:
        """What follows its first n characters."""
        said = [(a - n, b - n) for a, b in self.said if a >= n]
        return Layout(self.model, self.text[n:], said)


@dataclass(frozen=True)
class Chat:
    """What a template is given: messages, tools, and what else it asks for."""

    model: Model
    messages: list[dict[str, Any]]
    tools: list[Any] | None = None
    add_generation_prompt: bool = True
    continue_final: bool = False
    parse_special: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: Model,
        messages: Sequence[Message],
        tools: Sequence[ToolLike] | None = None,
        add_generation_prompt: bool | None = None,
        continue_final: bool = False,
        *,
        parse_special: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> Chat:
        """Check what a caller gives; see `Model.render_chat`."""
        if model.chat_template is None:
            raise ValueError(
                f"{model.name} has no chat template: it was not trained to chat. "
                "Write the prompt as text and use generate, or load an instruction-tuned model."
            )
        continue_final = flag("continue_final", continue_final)
        parse_special = flag("parse_special", parse_special)
        if add_generation_prompt is not None:
            add_generation_prompt = flag("add_generation_prompt", add_generation_prompt)
        if continue_final and add_generation_prompt:
            raise ValueError(
                "continue_final=True goes on with the last message, and add_generation_prompt="
                "True begins another. Leave one out."
            )
        found = checked_messages(messages)
        forms = None if tools is None else [dict(tool.form) for tool in tools_of(tools)]
        if forms and not takes_tools(model):
            found, forms = with_tools_said(found, forms), None
            warn(
                f"the chat template of {model.name} does not read tools, so the system message "
                "says them, as Hermes and Qwen lay them out. A model that was not trained on that "
                "calls them badly."
            )
        if continue_final and not found[-1].get("content"):
            raise ValueError(
                f"continue_final=True: the last message (message {len(found) - 1}, "
                f"{found[-1]['role'][:40]}) has no content to go on with."
            )
        begins = not continue_final if add_generation_prompt is None else add_generation_prompt
        return cls(
            model,
            found,
            forms,
            begins,
            continue_final,
            parse_special,
            plain(variables or {}, "template_variables"),
        )

    @property
    def template(self) -> str:
        """The model's template for this."""
        return template_of(self.model, bool(self.tools))

    @property
    def said(self) -> str:
        """All that people say: what the template is given."""
        return "\n".join(texts_in([self.messages, self.tools, self.variables]))

    def laid_out(self) -> Layout:
        """Render it.

        Raises:
            ValueError: the template refuses these messages.
            ModelError: the template failed, or took more time or memory than it is given.
        """
        self._warn_of_unread()
        marks = () if self.parse_special else marks_of(self.model)
        said = self.said
        letters = private_letters(3, said + self.template)
        guard = Guard(marks, self.template, said, letters[:2])
        messages = [guard.guarded(m, own=m["role"] == "assistant") for m in self.messages]
        tools = guard.guarded(self.tools)
        variables = guard.guarded(dict(self.variables))
        if self.continue_final:
            last = messages[-1]
            messages[-1] = {**last, "content": f"{last['content']}{letters[2]} "}
        rendered = self.rendered(messages, tools, variables)
        if self.continue_final:
            rendered = self._cut_at_last_message(rendered, letters[2])
        return Layout(self.model, *unguarded(rendered, marks, letters[:2]))

    def _warn_of_unread(self) -> None:
        words = _words(self.template)
        unread = [name for name in self.variables if name not in words]
        if unread:
            names = ", ".join(shown(name)[:40] for name in unread[:8])
            warn(
                f"the chat template of {self.model.name} does not read {names}, so giving that "
                "changes nothing. Check the name, or say it in a message."
            )

    def rendered(
        self, messages: list[dict[str, Any]], tools: Any = None, variables: Any = None
    ) -> str:
        """The text that the template makes of some messages, with all else as it is here."""
        outcome = self._render(messages, tools, variables)
        if outcome.kind == "text":
            return outcome.text
        name, why = self.model.name, shown(outcome.text)
        if outcome.kind == "ended":
            raise ModelError(
                f"the chat template of {name} was ended: {why}. Ask where the file comes "
                "from: an honest template needs neither. Or write the prompt as text."
            )
        at = self._failing_message(messages, outcome)
        where = "" if at is None else f" at message {at} ({shown(messages[at]['role'])[:40]})"
        if outcome.kind == "refused":
            raise ValueError(f"the chat template of {name} refuses this{where}: {why}")
        raise ModelError(
            f"the chat template of {name} failed{where}: {why}. "
            "Check that every message has the fields it uses, or write the prompt as text."
        )

    def _render(self, messages: Any, tools: Any, variables: Any) -> process.Outcome:
        names = {
            f"{name}_token": self.model.piece(token).decode("utf-8", "replace")
            for name, token in self.model.special_tokens.items()
            if name in _OTHER_NAMES
        }
        given = {
            "bos_token": "",
            "eos_token": "",
            **names,
            "documents": None,
            **(self.variables if variables is None else variables),
            "messages": messages,
            "tools": self.tools if tools is None else tools,
            "add_generation_prompt": self.add_generation_prompt,
        }
        return process.templates.render(self.template, given)

    def _failing_message(
        self, messages: list[dict[str, Any]], outcome: process.Outcome
    ) -> int | None:
        """The message that a template fails at: with those before it alone, it does not.

        None where it fails in the same way on a message that nothing is wrong with.
        """
        harmless = [{"role": "user", "content": "Hello"}]
        if self._render(harmless, None, None) == outcome:
            return None
        good, bad = 0, len(messages)
        while bad - good > 1:
            middle = (good + bad) // 2
            if self._render(messages[:middle], None, None) == outcome:
                bad = middle
            else:
                good = middle
        return bad - 1

    def _cut_at_last_message(self, rendered: str, letter: str) -> str:
        """The text up to where the last message ends, as transformers cuts it."""
        text, found, rest = rendered.rpartition(letter)
        if not found:
            raise ValueError(
                f"continue_final=True: the chat template of {self.model.name} leaves out the last "
                "message, or a part of it, so it cannot be gone on with."
            )
        return text if rest.startswith(" ") else text.rstrip()  # it trims what is said

"""Conversation: a chat turn by turn, of which only what is new is decoded.

A turn's prompt is the whole chat. Its beginning is in the cache, and is reused as far as its
tokens are the same. So the model's own answers stay the tokens that it drew: their text could
become other tokens when it is tokenized again, and everything after them would be decoded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from mullama_lab.counted import counted
from mullama_lab.engine.chat import Chat, Layout, RenderedChat
from mullama_lab.engine.chat.calling import calling, choice_of
from mullama_lab.engine.chat.messages import checked_messages
from mullama_lab.engine.chat.tools import ToolLike, tools_of
from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.loop.stream import Stream
from mullama_lab.engine.session.cells import checked_sequence
from mullama_lab.engine.session.request import ChatRequest, Request, Turn, takes
from mullama_lab.engine.session.runs import run_of
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.vocabulary.marks import marks_of
from mullama_lab.engine.vocabulary.too_long import must_be_short
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.session.session import Session

A = TypeVar("A", ChatRequest, Turn)


def as_request(session: Session, request: ChatRequest) -> Request:
    """What is asked of a session with a chat: its tokens, and what an answer may be."""
    tokens = _chat_tokens(session, request)
    return _with_calls(session, request, request.tools).for_tokens(tokens)


def _with_calls(session: Session, asked: A, tools: Sequence[ToolLike] | None) -> A:
    """What is asked, with the grammar of an answer that may call the tools.

    Raises:
        ValueError: as of `calling`; there is another grammar; or a call is required of no tools.
    """
    found = tools_of(tools)
    if not found:
        if choice_of(asked.tool_choice) != "auto":
            raise ValueError(
                f"tool_choice={brief(asked.tool_choice)} is about tools, and there are none: "
                "give some as tools=[...]."
            )
        return asked
    if asked.grammar is not None:
        raise ValueError(
            "tools and grammar both say what the answer may be. Leave one out: "
            "model.render_chat(messages, tools=...) lays the tools out without a constraint."
        )
    return replace(asked, grammar=calling(session.model, found, choice_of(asked.tool_choice)))


def _chat_tokens(session: Session, request: ChatRequest) -> list[int]:
    """The tokens of a chat, which is refused while it is text if it cannot fit."""
    messages, tools = request.messages, request.tools
    continue_final, parse_special = request.continue_final, request.parse_special
    session.must_be_open()
    if isinstance(messages, RenderedChat):
        if tools is not None or continue_final or parse_special:
            raise ValueError(
                "the chat is rendered already: give tools, continue_final and parse_special to "
                "model.render_chat."
            )
        return messages.tokens
    chat = Chat.of(
        session.model,
        messages,
        tools,
        continue_final=continue_final,
        parse_special=parse_special,
    )
    layout = chat.laid_out()
    must_be_short(session.model, layout.text, session.n_ctx)
    return layout.tokens


_Said: TypeAlias = list[dict[str, Any]]  # the messages of a turn that come before its answer


@dataclass(frozen=True)
class _Read:
    """The beginning of a chat as the model has read and written it.

    Attributes:
        n_messages: how many it is.
    """

    n_messages: int
    text: str = ""
    tokens: tuple[int, ...] = ()


class Conversation:
    """A chat with a model, turn by turn, made by `session.conversation`.

        talk = session.conversation("You are brief.")
        trace = talk.say("Name a planet.")     # blocks
        for step in talk.stream("And another?"): ...
        talk.undo()                            # as if that was never said

    With tools an answer may call them, and is constrained as that of `session.chat` is. What they
    result in is said next:

        trace = talk.say("Throw a die.", tool_choice="required")
        talk.say([call.answer() for call in trace.tool_calls])

    `session.ledger` shows that a turn decodes what is new in it. That is so where the template
    writes what was said before as it was; where it rewrites that (it drops the thinking of former
    turns, or strips spaces), the cache serves up to there and the rest is decoded again.

    Attributes:
        session: where it takes place.
        sequence: its sequence of the cache.
    """

    def __init__(
        self,
        session: Session,
        system: str | None = None,
        *,
        tools: Sequence[ToolLike] | None = None,
        sequence: int = 0,
        template_variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.session = session
        self.sequence = checked_sequence(session, sequence)
        self._tools = tools
        self._variables = dict(template_variables or {})
        self._messages: list[dict[str, Any]] = []
        if system is not None:
            self._messages.append({"role": "system", "content": system})
        self._read = [_Read(len(self._messages))]  # before each turn
        self._streamed: tuple[_Said, Layout, Run] | None = None  # its turn is not added
        question = {"role": "user", "content": ""}
        Chat.of(session.model, [*self._messages, question], tools, variables=self._variables)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said so far, as `session.chat` takes it; a copy."""
        self._take_streamed(wait=False)
        return deepcopy(self._messages)

    @takes(Turn)
    def say(self, turn: Turn) -> Trace:
        """Say something and wait for the answer.

        What is interrupted or fails was not said: the conversation is as it was before.

        Raises:
            as `session.generate`.
        """
        said, layout, run = self._next(turn)
        with run._lane.stopped_on_error():
            trace = self.session._launch(run).wait()
        self._remember(said, layout, trace)
        return trace

    @takes(Turn)
    def stream(self, turn: Turn) -> Stream:
        """Say something and yield each Step of the answer as it comes.

        It begins with the first step that is asked for. Leaving the loop stops it, and what was
        answered until then counts. It can be read in an `async for` too.

        Raises:
            as `session.generate`.
        """
        said, layout, run = self._next(turn)

        def launch(run: Run) -> Run:
            self._streamed = (said, layout, run)
            return self.session._launch(run)

        return Stream(run, launch)

    def undo(self) -> None:
        """Take back the last turn, question and answer.

        Raises:
            ValueError: nothing was said yet.
        """
        self._take_streamed(wait=True)
        if len(self._read) == 1:
            raise ValueError("there is no turn to take back. Say something first.")
        self._read.pop()
        del self._messages[self._read[-1].n_messages :]

    def fork(self) -> Conversation:
        """Another conversation that goes on from here, in a sequence of its own.

        They share the cache of what was said so far. `session.remove(other.sequence)` gives the
        sequence back.

        Raises:
            SessionError: all n_seq_max sequences are in use.
        """
        self._take_streamed(wait=True)
        other = Conversation.__new__(Conversation)
        vars(other).update(vars(self))
        other.sequence = self.session.fork(self.sequence)
        other._messages, other._read = self.messages, list(self._read)
        return other

    def __len__(self) -> int:
        """How many turns there were."""
        self._take_streamed(wait=False)
        return len(self._read) - 1

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            "a Conversation has its session, so it cannot be copied or pickled. What was said "
            "can: conversation.messages."
        )

    def __repr__(self) -> str:
        turns = counted(len(self), "turn")
        lines = [f"<Conversation of {turns} in sequence {self.sequence}>"]
        lines += map(_line, self.messages)
        return "\n".join(lines)

    def _next(self, turn: Turn) -> tuple[_Said, Layout, Run]:
        """What is said as messages, the chat with it, and the run that answers."""
        self._take_streamed(wait=True)
        said, tools = _messages_of(turn.text), self._tools
        chat = Chat.of(
            self.session.model, [*self._messages, *said], tools, variables=self._variables
        )
        layout = chat.laid_out()
        must_be_short(self.session.model, layout.text, self.session.n_ctx)
        if turn.grammar is None or choice_of(turn.tool_choice) != "auto":
            turn = _with_calls(self.session, turn, tools)
        request = turn.for_tokens(self._tokens(layout), self.sequence)
        return said, layout, run_of(self.session, request)

    def _tokens(self, layout: Layout) -> list[int]:
        """The tokens of the chat: those that were read and drawn, and those of what is new.

        The new has to begin with a mark, where llama.cpp would cut the text too.
        """
        for read in reversed(self._read):
            if read.text and layout.text.startswith(read.text):
                new = layout.after(len(read.text))
                begins = any(new.text.startswith(mark.name) for mark in marks_of(layout.model))
                if begins and not (new.said and new.said[0][0] == 0):
                    return [*read.tokens, *new.part_tokens]
        return layout.tokens

    def _remember(self, said: _Said, layout: Layout, trace: Trace) -> None:
        """Add a turn; what the model read and wrote is kept if the text is what it drew."""
        model, drawn = self.session.model, trace.tokens.tolist()
        if drawn and model.is_eog(drawn[-1]):
            drawn.pop()
        data = b"".join(model.piece(token) for token in drawn)
        whole = data == trace.text.encode("utf-8", "surrogatepass")
        tokens = (*trace.prompt_tokens.tolist(), *drawn)
        self._messages += [*said, trace.message]
        n = len(self._messages)
        self._read.append(_Read(n, layout.text + trace.text, tokens) if whole else _Read(n))

    def _take_streamed(self, *, wait: bool) -> None:
        """Add the turn of a stream that has ended."""
        if self._streamed is None:
            return
        said, layout, run = self._streamed
        if wait:
            with suppress(MullamaError):
                run.wait()
        if run.done:
            self._streamed = None
            if run.error is None:
                self._remember(said, layout, run.trace)


def _messages_of(said: object) -> _Said:
    """What is said in a turn, as messages."""
    if isinstance(said, str):
        return [{"role": "user", "content": said}]
    if isinstance(said, Mapping) or not isinstance(said, Sequence):
        raise TypeError(
            f"what is said is a text or a list of messages, not {brief(said)}. Write "
            '"Hello", or [call.answer() for call in trace.tool_calls].'
        )
    return checked_messages(said)


def _line(message: Mapping[str, Any]) -> str:
    calls = f" {message['tool_calls']}" if "tool_calls" in message else ""
    return f"{message['role']:10} {message.get('content', '')!r}{calls}"

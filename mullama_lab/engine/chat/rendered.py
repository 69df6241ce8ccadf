"""RenderedChat: a chat as a model reads it, and where each message lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mullama_lab.counted import counted
from mullama_lab.engine.chat.layout import Chat
from mullama_lab.engine.chat.spans import text_spans, token_spans
from mullama_lab.engine.vocabulary.marks import shown

if TYPE_CHECKING:
    import pandas

MOST_SHOWN = 60  # characters of a message


@dataclass(frozen=True)
class MessageSpan:
    """What one message says, in a rendered chat.

    Attributes:
        message: its place in the list of messages.
        role: whose it is.
        start, end: `tokens[start:end]` are its tokens; the marks around it are the template's.
            Both are None where the template left it out or rewrote it.
        text: what the prompt says there; "" where it is not found.
    """

    message: int
    role: str
    start: int | None
    end: int | None
    text: str


@dataclass(frozen=True)
class RenderedChat:
    """A chat laid out by a model's template, made by `Model.render_chat`.

    Attributes:
        text: the prompt as text, with the template's marks.
        tokens: its token ids, which `session.chat` and `session.generate` take as they are. They
            can differ from those of `text`: a mark's name in a message is plain text.
        messages: a MessageSpan for each message.
    """

    text: str
    tokens: list[int]
    messages: tuple[MessageSpan, ...]

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each message: role, start, end, n_tokens, text."""
        import pandas as pd

        rows = [(m.role, m.start, m.end, m.text) for m in self.messages]
        table = pd.DataFrame(rows, columns=["role", "start", "end", "text"])
        table[["start", "end"]] = table[["start", "end"]].astype("Int64")
        table.insert(3, "n_tokens", table["end"] - table["start"])
        return table.rename_axis("message")

    def __repr__(self) -> str:
        n = len(self.messages)
        messages = counted(n, "message")
        lines = [f"<RenderedChat: {messages}, {counted(len(self.tokens), 'token')}>"]
        for m in self.messages:
            where = "not in the prompt" if m.start is None else f"tokens {m.start} to {m.end}"
            said = m.text if len(m.text) <= MOST_SHOWN else m.text[: MOST_SHOWN - 1] + "…"
            lines.append(f"{m.message:3} {shown(m.role)[:20]:10} {where:20} {said!r}")
        return "\n".join(lines)


def rendered(chat: Chat) -> RenderedChat:
    """Lay out a chat, and find its messages in it."""
    layout = chat.laid_out()
    tokens = layout.tokens
    places = text_spans(chat, layout)
    spans = []
    for i, (place, span) in enumerate(zip(places, token_spans(layout, places))):
        start, end = span if span is not None else (None, None)
        text = "" if place is None else layout.text[slice(*place)]
        spans.append(MessageSpan(i, chat.messages[i]["role"], start, end, text))
    return RenderedChat(layout.text, tokens, tuple(spans))

"""Where each message of a chat lies in its text and in its tokens.

The chat is laid out once more with a private character at both ends of what each message says.
Where a template makes another text of that (it looks at how a message begins, or cuts it), the
message is looked for as it is; what is found in neither way is not in the prompt as it was said.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

from mullama_lab.engine.chat.layout import Chat, Layout
from mullama_lab.engine.vocabulary.marks import fragment_tokens, private_letters
from mullama_lab.errors import ModelError

Span = tuple[int, int]

MOST_MESSAGES = 10_000  # to be told apart by letters


def text_spans(chat: Chat, layout: Layout) -> list[Span | None]:
    """Where in the text what each message says begins and ends, in characters."""
    found = _spans_by_markers(chat, layout.text)
    end = 0
    for i, message in enumerate(chat.messages):
        span, words = found[i], message.get("content", "").strip()
        if span is None and words:
            at = layout.text.find(words, end)
            span = found[i] = (at, at + len(words)) if at >= 0 else None
        end = max(end, span[1] if span else 0)
    return found


def token_spans(layout: Layout, spans: Sequence[Span | None]) -> list[Span | None]:
    """Which tokens these spans of the text became: all that share a character with one."""
    places = list(_byte_spans(layout))
    starts, ends = [start for start, _ in places], [end for _, end in places]
    found: list[Span | None] = []
    for span in spans:
        if span is None:
            found.append(None)
            continue
        start, end = (len(layout.text[:n].encode()) for n in span)
        found.append((bisect_right(ends, start), bisect_left(starts, end)))
    return found


def _byte_spans(layout: Layout) -> Iterator[Span]:
    """Where in the text's bytes each of its tokens begins and ends."""
    n, n_characters = 0, 0
    for part, tokens in fragment_tokens(layout.model, layout.text, layout.said):
        start = n + len(layout.text[n_characters : part.start].encode())
        n = start + len(layout.text[part.start : part.end].encode())
        n_characters = part.end
        sizes = [len(layout.model.piece(token)) for token in tokens]
        extra = sum(sizes) - (n - start)  # 1 for the space that is put before a beginning
        if part.mark is not None or extra not in (0, 1):
            yield from [(start, n)] * len(tokens)
        else:
            ends = accumulate(sizes, initial=start - extra)
            yield from ((max(start, a), b) for a, b in pairwise(ends))


def _spans_by_markers(chat: Chat, text: str) -> list[Span | None]:
    """The spans by the letters around them, all None where these change the text."""
    n = len(chat.messages)
    nothing: list[Span | None] = [None] * n
    if n > MOST_MESSAGES:
        return nothing
    letters = private_letters(n, chat.said + chat.template)
    try:
        rendered = chat.rendered([_with_markers(m, c) for m, c in zip(chat.messages, letters)])
    except (ModelError, ValueError):
        return nothing
    pieces = re.split(f"([{letters}])", rendered)
    plain = "".join(pieces[::2])
    if not (plain.startswith(text) if chat.continue_final else plain == text):
        return nothing
    found: dict[str, Span] = {}
    at = 0
    for piece, letter in zip(pieces[::2], pieces[1::2]):
        at += len(piece)
        first, _ = found.get(letter, (at, at))
        found[letter] = (first, at)
    return [_clipped(found.get(letter), len(text)) for letter in letters]


def _clipped(span: Span | None, n: int) -> Span | None:
    return None if span is None or span[0] >= min(span[1], n) else (span[0], min(span[1], n))


def _with_markers(message: dict[str, Any], letter: str) -> dict[str, Any]:
    """A message with what it says between two letters; without content, what it calls."""
    if message.get("content"):
        return {**message, "content": _text_with_markers(message["content"], letter)}
    if "tool_calls" in message:
        return {**message, "tool_calls": _calls_with_markers(message["tool_calls"], letter)}
    return message


def _text_with_markers(text: str, letter: str) -> str:
    words = text.strip()  # templates strip what is said
    return text.replace(words, f"{letter}{words}{letter}", 1) if words else text


def _calls_with_markers(value: Any, letter: str, *, inside: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            k: _calls_with_markers(v, letter, inside=inside or k in ("name", "arguments"))
            for k, v in value.items()
        }
    if isinstance(value, list):
        return [_calls_with_markers(v, letter, inside=inside) for v in value]
    return _text_with_markers(value, letter) if inside and isinstance(value, str) else value

"""Tools for a template that takes none: said in messages, as Hermes and Qwen say them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

_BEFORE = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
"""
_AFTER = """
</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""


def with_tools_said(
    messages: Sequence[dict[str, Any]], tools: Sequence[Any]
) -> list[dict[str, Any]]:
    """The messages with the tools in the system message, and calls and their results as text."""
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    said = f"{_BEFORE}{listed}{_AFTER}"
    first, rest = messages[0], list(messages)
    if first["role"] == "system":
        said = f"{first.get('content', '')}\n\n{said}".strip()
        rest = rest[1:]
    return [{"role": "system", "content": said}, *_as_text(rest)]


def _as_text(messages: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        content, calls = message.get("content", ""), message.get("tool_calls")
        if message["role"] == "tool":
            answer = f"<tool_response>\n{content}\n</tool_response>"
            yield {"role": "user", "content": answer}
        elif isinstance(calls, list):
            said = [_call_as_text(call) for call in calls]
            yield {"role": message["role"], "content": "\n".join([content, *said]).strip()}
        else:
            yield message


def _call_as_text(call: Any) -> str:
    """A call in OpenAI's form, as the model would have written it."""
    said = call.get("function", call) if isinstance(call, dict) else call
    if isinstance(said, dict) and isinstance(said.get("arguments"), str):
        with suppress(ValueError):
            said = {**said, "arguments": json.loads(said["arguments"])}
    return f"<tool_call>\n{json.dumps(said, ensure_ascii=False)}\n</tool_call>"

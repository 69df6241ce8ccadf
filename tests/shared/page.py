"""What a page does with a view: it sends requests through its channel, and gets the answers."""

from __future__ import annotations

import itertools
import json
from typing import Any

from mullama_lab.widgets._view import View

_ids = itertools.count()


def send(view: View, content: Any) -> list[tuple[Any, list[bytes]]]:
    """Send a message of a page's own kind; those that come back meanwhile, with their buffers."""
    heard, publish = [], view.comm.publish_msg

    def published(kind, data=None, metadata=None, buffers=None, **more):
        if (data or {}).get("method") == "custom":
            heard.append((json.loads(json.dumps(data["content"])), buffers or []))
        publish(kind, data, metadata, buffers, **more)

    view.comm.publish_msg = published
    try:
        data = {"method": "custom", "content": content}
        view.comm.handle_msg({"content": {"data": data}, "buffers": []})
    finally:
        view.comm.publish_msg = publish
    return heard


def reply_data(view: View, op: Any, args: Any = None) -> tuple[dict[str, Any], list[bytes]]:
    """The answer to a request, also to one that is refused, with its buffers."""
    request = {**(args or {}), "kind": "request", "id": f"page{next(_ids)}", "op": op}
    for content, buffers in send(view, request):
        if content.pop("kind") == "reply" and content.pop("id") == request["id"]:
            return content, buffers
    raise AssertionError(f"{view!r} did not answer {op!r}")


def reply_to(view: View, op: Any, args: Any = None) -> dict[str, Any]:
    """The answer to a request: whether it was carried out, "ok", and what is said of it."""
    return reply_data(view, op, args)[0]


def ask_data(view: View, op: Any, args: Any = None) -> tuple[dict[str, Any], list[bytes]]:
    """What a request that is carried out gives, with its buffers; ValueError if it is refused."""
    reply, buffers = reply_data(view, op, args)
    if not reply.pop("ok"):
        raise ValueError(reply["error"])
    return reply, buffers


def ask(view: View, op: Any, args: Any = None) -> dict[str, Any]:
    """What a request that is carried out gives; ValueError if it is refused."""
    return ask_data(view, op, args)[0]


def text_of(shown: Any) -> str:
    """What a display of a view or a lab says as plain text."""
    data, _ = shown._repr_mimebundle_()
    return data["text/plain"]

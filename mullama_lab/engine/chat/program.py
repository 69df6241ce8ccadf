"""Render chat templates, one request a line: the program of the process they run in.

A chat template is a program that came with a file. Here it runs in Jinja's sandbox, with the
helpers it was written for (those of Hugging Face transformers). It stands alone, without the
package, and is started by `process.py`, which bounds its time and its memory.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, Undefined, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_OF_A_REASON = 500  # characters of an error's text


class Refused(Exception):
    """The template called raise_exception."""


class _Generation(Extension):
    """`{% generation %}`, which marks the assistant's words for training, changes no prompt."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=8)
def compiled(source: str) -> Template:
    """A template, set up as transformers does it, which is what templates are written for."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment.from_string(source)


def _raise_exception(message: str) -> None:
    raise Refused(message)


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


def answer(request: dict[str, Any]) -> dict[str, str]:
    """{"text": the prompt}, or {"refused" or "failed": why there is none}."""
    try:
        text = compiled(request["template"]).render(request["variables"])
    except Refused as refusal:
        return {"refused": _reason(refusal)}
    except (TemplateError, Exception) as error:
        return {"failed": _reason(error)}
    if len(text) > request["most"]:
        return {"failed": f"it wrote {len(text)} characters, and {request['most']} are allowed"}
    return {"text": text}


def _reason(error: Exception) -> str:
    kind = type(error).__name__
    if isinstance(error, MemoryError):
        return "it needed more memory than it is given"
    if isinstance(error, RecursionError):
        return "it calls itself too deeply"
    with suppress(Exception):
        return str(error)[:MOST_OF_A_REASON] or kind
    return kind


def main() -> None:
    """Answer requests until there are no more."""
    with open(os.devnull, "w") as nowhere:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            # Ends the process although nobody waits for it any more, and without Python's help.
            faulthandler.dump_traceback_later(2 * request["seconds"], exit=True, file=nowhere)
            _limit_memory(request["bytes"])
            reply = json.dumps(answer(request)).encode()
            faulthandler.cancel_dump_traceback_later()
            sys.stdout.buffer.write(reply + b"\n")
            sys.stdout.buffer.flush()


def _limit_memory(n_bytes: int) -> None:
    """Let an allocation fail that would need more; Windows and macOS do not know this limit."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, hard))


if __name__ == "__main__":
    main()

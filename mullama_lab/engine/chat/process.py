"""The process that chat templates run in, and what it may use.

A template can ask for any amount of time and memory in a few characters, in more ways than a
list of rules could name: `'a' * 10**10`, `'%1000000000d' % 1`, lists of lists of lists, powers,
loops. So it runs in a process of its own, which is ended where it takes more than its share.
The first template starts it (about 0.1 s).

On Linux the system also refuses it the memory, and the template fails with its own error; this
process watches its size everywhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from mullama_lab.engine.bounded_process import BoundedProcess, Ended

SECONDS = 10.0
BYTES = 256 << 20  # and BYTES_EACH for each byte that the template is given
BYTES_EACH = 32
CHARACTERS = 16 << 20  # of the prompt, and CHARACTERS_EACH for each byte that it is given
CHARACTERS_EACH = 8

_START = (
    "import json, runpy, sys; sys.path += json.loads(sys.argv[2]); "
    "runpy.run_path(sys.argv[1], run_name='__main__')"
)


class Outcome(NamedTuple):
    """What came of rendering: kind is "text", "refused", "failed" or "ended"."""

    kind: str
    text: str


class TemplateProcess:
    """Renders templates in another process, which is started when it is needed."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("program.py")
        specs = (find_spec(name) for name in ("jinja2", "markupsafe"))
        homes = {str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin}
        arguments = ["-c", _START, str(program), json.dumps(sorted(homes))]
        self.process = BoundedProcess([sys.executable, "-I", "-S", *arguments])

    def render(self, template: str, variables: Mapping[str, Any]) -> Outcome:
        """Render a template with variables that JSON can carry."""
        given = json.dumps({"template": template, "variables": variables}, separators=(",", ":"))
        seconds = SECONDS + len(given) / 1e6
        limits = {
            "seconds": seconds,
            "bytes": BYTES + BYTES_EACH * len(given),
            "most": CHARACTERS + CHARACTERS_EACH * len(given),
        }
        line = f"{given[:-1]},{json.dumps(limits)[1:]}\n".encode()
        try:
            reply = self.process.ask(line, seconds, limits["bytes"])
        except Ended as end:
            return Outcome("ended", str(end))
        ((kind, text),) = json.loads(reply).items()
        return Outcome(kind, text)


templates = TemplateProcess()

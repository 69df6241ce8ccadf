"""The process that chat templates run in, and what it may use.

A template can ask for any amount of time and memory in a few characters, in more ways than a
list of rules could name: `'a' * 10**10`, `'%1000000000d' % 1`, lists of lists of lists, powers,
loops. So it runs in a process of its own, which is ended where it takes more than its share.
The first template starts it (about 0.1 s); it then waits for others, and ends with this one.

On Linux the system also refuses it the memory, and the template fails with its own error; this
process watches its size everywhere.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import psutil

SECONDS = 10.0
BYTES = 256 << 20  # and BYTES_EACH for each byte that the template is given
BYTES_EACH = 32
CHARACTERS = 16 << 20  # of the prompt, and CHARACTERS_EACH for each byte that it is given
CHARACTERS_EACH = 8

_POLL_SECONDS = 0.01  # seconds between two looks at its size
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
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()

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
        with self._lock:
            try:
                return self._ask(line, seconds, limits["bytes"])
            except OSError as error:
                self.close()
                return Outcome("ended", f"its process could not be used: {error}")
            except BaseException:  # Ctrl-C: whatever it is at, nobody wants it now
                self.close()
                raise

    def close(self) -> None:
        """End the process; the next template starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _ask(self, line: bytes, seconds: float, most_bytes: int) -> Outcome:
        process = self._started()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; there is no reply then
            process.stdin.write(line)
            process.stdin.flush()
        its_size = psutil.Process(process.pid).memory_info
        end = monotonic() + seconds
        while True:
            with suppress(queue.Empty):
                reply = self._replies.get(timeout=_POLL_SECONDS)
                break
            with suppress(psutil.Error):
                if its_size().rss > most_bytes:
                    self.close()
                    return Outcome("ended", f"it needed more than {most_bytes >> 20} MB of memory")
            if monotonic() > end:
                self.close()
                return Outcome("ended", f"it was not done after {seconds:.0f} seconds")
        if not reply:
            self.close()
            return Outcome("ended", "the process it ran in ended")
        ((kind, text),) = json.loads(reply).items()
        return Outcome(kind, text)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._replies = replies = queue.SimpleQueue()
        program = Path(__file__).with_name("program.py")
        homes = {str(Path(found.origin).parents[1]) for found in _libraries() if found.origin}
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, str(program), json.dumps(sorted(homes))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process, which ends that one
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._process = process

        def read() -> None:
            assert process.stdout is not None
            with suppress(ValueError, OSError):  # closed meanwhile
                for reply in process.stdout:
                    replies.put(reply)
            replies.put(b"")

        threading.Thread(target=read, name="mullama-lab-template", daemon=True).start()
        return process


def _libraries() -> list[Any]:
    return [spec for name in ("jinja2", "markupsafe") if (spec := find_spec(name)) is not None]


templates = TemplateProcess()


def _forget_parents_process() -> None:
    """After a fork: the process belongs to the parent."""
    global templates
    templates = TemplateProcess()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_process)
atexit.register(lambda: templates.close())

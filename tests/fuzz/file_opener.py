"""A process that opens file after file, and is started again where it ended.

Run it on a worker: a script that gets options as JSON and the seconds a probe may take, a path a
line on its standard input, and answers with a line of JSON.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SECONDS = 60  # for one file, on a busy machine
MOST_MEMORY = 6 << 30


class Opener:
    """A process that opens file after file.

    Args:
        worker: the script it runs, in this folder.
        patience: how many times `SECONDS` one file may take.
        options: what the worker is told.
    """

    def __init__(self, worker: str, *, patience: int = 1, **options: Any) -> None:
        self._worker, self._options = Path(__file__).with_name(worker), options
        self._seconds, self._process = patience * SECONDS, None
        self._complained = tempfile.TemporaryFile()  # noqa: SIM115

    def open(self, path: Path) -> str:
        """What it says of a file; "ended ..." or "hung" where it says nothing."""
        process = self._process = self._process or self._started()
        process.stdin.write(json.dumps(str(path)) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], self._seconds)[0]:
            self.close()
            return "hung"
        line = process.stdout.readline()
        if line:
            return json.loads(line)
        self.close()
        end = self._complained.seek(0, os.SEEK_END)
        self._complained.seek(max(0, end - 500))
        return f"ended {process.returncode}: {self._complained.read().decode(errors='replace')}"

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, self._worker, json.dumps(self._options), str(SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complained,
            text=True,
            env={
                **os.environ,
                "MULLAMA_LAB_PROBE": "1",
                "GGML_NO_BACKTRACE": "1",
                "PYTHONWARNINGS": "ignore",
            },
            preexec_fn=_limited,
        )

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _limited() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

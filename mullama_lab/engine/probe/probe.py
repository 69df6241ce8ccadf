"""Opens a model file in a child process, and says what became of that.

A file with few weights is used as a person would use it: text is split, tokens are computed, texts
are encoded. Of one with many, the child reads the header alone and lets llama.cpp lay out the
network and its buffers without memory behind them (`no_alloc`), which takes as long whatever the
file's size. What comes wrong only in computing is not seen there, nor what the weights' own values
do. Where the vocabulary alone is wanted, no more is read. The GPU is left alone.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO, Any

import psutil

from mullama_lab.engine.gguf.check import CheckedFile, parts
from mullama_lab.engine.memory.machine import total_and_free
from mullama_lab.engine.probe.memory import fingerprint, known, remember
from mullama_lab.errors import ModelLoadError
from mullama_lab.glyphs import visible

VARIABLE = "MULLAMA_LAB_PROBE"
WHOLE, LAID_OUT, VOCABULARY = "whole", "laid out", "vocabulary"  # how a file is tried
MOST_WHOLE = 256 << 20  # bytes; a larger file is tried without its weights
SECONDS = 120.0  # that a child may take, on a slow disk too
LEAST_MEMORY = 1 << 30  # bytes a child may take, and half of what is free if that is more
OPENED, REFUSED = 0, 42  # codes that a child ends with

log = logging.getLogger(__name__)

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mullama_lab.engine.probe.child import main; main(json.loads(sys.argv[2]))"
)
_ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",  # or it would start a debugger
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONWARNINGS": "ignore",
}
_BUILD_FOLDER = re.compile(r"\S*/vendor/llama\.cpp/")


def must_survive(file: CheckedFile, *, vocab_only: bool = False) -> None:
    """Refuse a file that ends llama.cpp; a file that it was seen to survive costs nothing.

    MULLAMA_LAB_PROBE=0 in the environment turns this off.

    Raises:
        ModelLoadError: llama.cpp ended on it, did not come back, or took too much memory.
    """
    if os.environ.get(VARIABLE) == "0":
        return
    files = parts(file.path)
    size = sum(part.stat().st_size for part in files)
    how = VOCABULARY if vocab_only else WHOLE if size <= MOST_WHOLE else LAID_OUT
    name = fingerprint(files, how)
    if name in known():
        return
    allowed = max(LEAST_MEMORY, total_and_free()[1] // 2)
    allowed += size if how == WHOLE else 0
    try:
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
            end = _run_child({"path": str(file.path), "how": how}, said, complained, allowed)
            stages, words = _lines(said), _last_words(complained)
    except OSError as error:
        log.warning("%s was not probed: %s", file.path.name, error)
        return
    if not stages:
        log.warning("%s was not probed: Python did not start (%s %s)", file.path.name, end, words)
    elif end == "":
        remember(name)
    elif end != "refused":  # the error will come again, to the caller
        raise ModelLoadError(
            f"llama.cpp ended on this file, {file.path.name}, {stages[-1]}, in a process that "
            f"tried it first: {end}{f', with the words {words!r}' if words else ''}. "
            "Fetch another conversion of the model, or update llama-cpp-python; "
            "Model.load(..., probe=False) loads it untried, which may end this process."
        )


def _run_child(task: dict[str, Any], said: IO[bytes], complained: IO[bytes], allowed: int) -> str:
    """Run a child to its end: "" if all went well, "refused", or what ended it."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CODE, json.dumps(sys.path), json.dumps(task)],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=complained,
        env={**os.environ, **_ENVIRONMENT},
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    try:
        return _wait_within_limits(child, time.monotonic() + SECONDS, allowed)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _wait_within_limits(child: subprocess.Popen[bytes], until: float, allowed: int) -> str:
    while True:
        with suppress(subprocess.TimeoutExpired):
            code = child.wait(0.02)
            return {OPENED: "", REFUSED: "refused"}.get(code, _in_words(code))
        if time.monotonic() > until:
            return f"it did not come back within {SECONDS:g} s"
        with suppress(psutil.Error):
            taken = psutil.Process(child.pid).memory_info().rss
            if taken > allowed:
                return f"it took {taken / 1e9:.1f} GB for a small session"


def _in_words(code: int) -> str:
    with suppress(ValueError):
        if code < 0:
            return f"signal {signal.Signals(-code).name}"
    return f"code {code:#x}" if code > 255 else f"code {code}"


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode("utf-8", "replace").splitlines()


def _last_words(file: IO[bytes]) -> str:
    """The last two lines it complained with."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2000))
    lines = visible(file.read().decode("utf-8", "replace")).splitlines()
    said = [_BUILD_FOLDER.sub("", line.strip())[:200] for line in lines if line.strip()]
    return "; ".join(said[-2:])

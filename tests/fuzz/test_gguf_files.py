"""No model file, however damaged or made to harm, ends the process that loads it.

Each case is opened by a process without the probe first, which is quick. Where that ends or does
not come back, another opens the same file as a kernel does, with the probe: that one must live and
refuse it. Some of the others go there too, to see that the probe refuses no file that works.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from gguf_mutations import cases, mutated, parsed, write

WORKER = Path(__file__).with_name("gguf_worker.py")
SECONDS = 60  # for one file, on a busy machine
MOST_MEMORY = 6 << 30
PROBED = 50  # one of so many survivors is opened with the probe too


class Opener:
    """A process that opens file after file, and is started again where it ended."""

    def __init__(self, *, probe: bool) -> None:
        self._probe, self._process = probe, None
        self._complained = tempfile.TemporaryFile()  # noqa: SIM115

    def open(self, path: Path) -> str:
        """What it says of a file; "ended ..." or "hung" where it says nothing."""
        process = self._process = self._process or self._started()
        process.stdin.write(json.dumps(str(path)) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], 3 * SECONDS if self._probe else SECONDS)[0]:
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
            [sys.executable, WORKER, json.dumps({"probe": self._probe}), str(SECONDS)],
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


@pytest.fixture
def openers():
    """A process that opens files without the probe, and one with it."""
    both = Opener(probe=False), Opener(probe=True)
    yield both
    for opener in both:
        opener.close()


def kind_of(said: str) -> str:
    """A word or two for an answer."""
    if said.startswith("refused"):
        return (
            "the probe refused" if "ended on this file" in said else "a rule or llama.cpp refused"
        )
    return "loaded and worked" if said.startswith("loaded") else said.split()[0]


def test_no_mutated_model_file_ends_the_process_that_loads_it(
    attack, openers, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("MULLAMA_LAB_CACHE", str(tmp_path / "cache"))
    bare, kernel = openers
    counts: Counter[str] = Counter()

    @cache
    def source(architecture, vocabulary, sizes):
        path = tmp_path / "source.gguf"
        return parsed(write(path, architecture, vocabulary, dict(sizes)))

    def content(case):
        names, sizes, edits = case
        return mutated(source(*names, tuple(sizes.items())), edits)

    def attempt(case):
        path = tmp_path / "case.gguf"
        path.write_bytes(content(case))
        said = bare.open(path)
        counts["cases"] += 1
        counts[f"without the probe: {kind_of(said)}"] += 1
        assert not said.startswith("raw"), said
        survived = not said.startswith(("ended", "hung"))
        if survived and counts["cases"] % PROBED:
            return
        tried = kernel.open(path)
        counts[f"with it: {kind_of(tried)}"] += 1
        assert not tried.startswith(("ended", "hung", "raw")), tried
        if survived:
            assert "ended on this file" not in tried, f"the probe refused what works: {tried}"

    try:
        attack(cases, attempt, few=100, written=content)
    finally:
        with capsys.disabled():
            print("".join(f"\n  {n} {what}" for what, n in sorted(counts.items())))

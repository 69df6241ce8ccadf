"""Saves of sessions, traces, trees and indexes: altered, killed, and without room.

An altered one is refused or put to use, and ends no process. A save that was ended early leaves
the old file or the new one, whole, and nothing beside it once the next is done.
"""

from __future__ import annotations

import collections
import json
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st

HERE = Path(__file__).parent
BAD = ("wrong", "crash", "hang")
SECONDS = 60  # that one case may take before it counts as hung


class Child:
    """A process that answers a case with a line; another is started where one has ended."""

    def __init__(self, program, folder):
        self.program, self.folder, self.process = program, folder, None
        self.outcomes = collections.Counter()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(HERE / self.program), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "stderr").open("wb"),
        )
        assert self.answer() == "ready"

    def tell(self, case):
        if self.process is None or self.process.poll() is not None:
            self.start()
        self.process.stdin.write(json.dumps(case).encode() + b"\n")
        self.process.stdin.flush()
        said = self.answer()
        kind = said.split(" ")[0].rstrip(":")
        self.outcomes[kind if kind in BAD else said] += 1
        assert kind not in BAD, said.replace("\\n", "\n")

    def end(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(timeout=SECONDS)

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        if not ready:
            self.process.send_signal(signal.SIGABRT)  # it says where it stands
        line = self.process.stdout.readline().decode()
        if not line:
            code = self.process.wait()
            said = (self.folder / "stderr").read_text(errors="replace")[-2000:]
            return f"crash {code}: {said}" if ready else f"hang: {said}"
        return line.rstrip("\n")


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    """A function that gives the process of a program, started once."""
    started = {}

    def child(program):
        if program not in started:
            started[program] = Child(program, tmp_path_factory.mktemp("saves"))
        return started[program]

    yield child
    for child in started.values():
        child.end()


@pytest.fixture
def told(children, attack, capsys):
    """A function that tries cases in such a process, and prints what came of them."""

    def run(program, strategy, few):
        child = children(program)
        child.outcomes.clear()
        attack(strategy, child.tell, few=few)
        with capsys.disabled():
            print(dict(child.outcomes))
        return child.outcomes

    return run


number = st.integers(0, 2**20)
edits = st.lists(st.tuples(number, number, number), min_size=1, max_size=3)


def case(kind, **parts):
    return st.fixed_dictionaries({"kind": st.just(kind), **parts})


@pytest.mark.parametrize(
    "kind",
    [
        "session bytes",
        "session",
        "session of gemma3",
        "session of jamba",
        "trace",
        "tree",
        "index bytes",
        "index",
    ],
)
def test_an_altered_save_is_refused_or_put_to_use(kind, told):
    outcomes = told("opener.py", case(kind, edits=edits), few=40)
    assert set(outcomes) <= {"refused", "fine"} and outcomes["refused"]


one_or_none = st.tuples(number, st.integers(0, 1))


@pytest.mark.parametrize("kind", ["session", "index"])
def test_a_save_that_is_killed_leaves_the_old_file_or_the_new_one(kind, told):
    told("writer.py", case(f"{kind} killed", numbers=one_or_none), few=12)


@pytest.mark.parametrize("kind", ["session", "index"])
@pytest.mark.parametrize("how", ["on a full disk", "with short files"])
def test_a_save_without_room_leaves_the_old_file(kind, how, told):
    outcomes = told("writer.py", case(f"{kind} {how}", numbers=one_or_none), few=20)
    assert set(outcomes) == {"refused", "saved"}

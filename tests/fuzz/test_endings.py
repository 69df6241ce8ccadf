"""The process ends in every way, at any moment, while threads are in native calls.

It must end soon, with the code it was given, and say nothing of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st

from mullama_lab.engine import tiny

WORK = (
    *("tokenize", "tokenize a long run", "pieces", "preview", "generate"),
    *(
        "generate on one session",
        "a long generation",
        "a long prompt",
        "score",
        "stream",
        "start",
        "start many",
        "many",
        "sweep",
        "encode",
    ),
    *("search", "save", "sessions", "load", "load with progress", "load the vocabulary"),
    "a stage that sleeps",
)
# Threads that are no daemons are waited for by Python, so what they do must end by itself.
ENDLESS = {"a long generation", "a long prompt", "stream", "start"}
ENDLESS |= {"start many", "a stage that sleeps"}
CODES = {  # 1 after SIGINT: Python, when another thread has run code from a string meanwhile
    "nothing": {0},
    "sys.exit": {3},
    "os._exit": {4},
    "an exception": {1},
    "SIGINT": {-2, 1},
    "SIGTERM": {-15},
    "close": {0},
    "a fork": {0},
}
SAID = {"an exception": "LookupError: as asked", "SIGINT": "KeyboardInterrupt"}
SECONDS = 8

CASES = st.fixed_dictionaries(
    {
        "work": st.sampled_from(WORK),
        "ending": st.sampled_from(sorted(CODES)),
        "daemon": st.booleans(),
        "after": st.sampled_from([0, 0.001, 0.003, 0.02, 0.1]),
    }
)


@pytest.fixture(scope="module")
def end(tmp_path_factory):
    """A function that plays a case: how its process ended."""
    folder = tmp_path_factory.mktemp("endings")
    tiny.write(folder / "tiny.gguf")
    tiny.write(folder / "bpe.gguf", vocabulary="bpe")
    tiny.write(folder / "bert.gguf", architecture="bert", vocabulary="wpm", pieces=("hello",))
    script = Path(__file__).with_name("endings.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as player:

        def play(case):
            assert player.stdin and player.stdout
            player.stdin.write(json.dumps(case) + "\n")
            player.stdin.flush()
            return json.loads(player.stdout.readline())

        yield play
        player.stdin.close()


def check(case, ended):
    said, expected = ended["said"], SAID.get(case["ending"], "")
    assert ended["code"] in CODES[case["ending"]], said
    assert ended["seconds"] < SECONDS, said
    assert said.count("Traceback") == bool(expected), said
    assert said.rstrip().endswith(expected) if expected else not said, said


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on this system")
def test_the_process_ends_as_asked_soon_and_quietly_whatever_its_threads_do(attack, end):
    def attempt(case):
        case = {**case, "daemon": case["daemon"] or case["work"] in ENDLESS}
        check(case, end(case))

    attack(CASES, attempt, few=40)


@pytest.mark.parametrize(
    "work", ["tokenize", "search", "start", "start many", "a stage that sleeps"]
)
def test_native_memory_stays_while_daemon_threads_use_it_at_the_end(end, work):
    for after in (0, 0.01, 0.03):
        case = {"work": work, "ending": "nothing", "daemon": True, "after": after}
        check(case, end(case))

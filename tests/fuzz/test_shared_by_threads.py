"""Threads share a session, a run, an encoder, an index and a model, and one closes some of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st

from mullama_lab.engine import tiny

SCRIPT = Path(__file__).with_name("hammer.py")
WORKS = (
    *("generate", "many", "stream", "start", "start and stop", "watch", "wait", "read", "stop"),
    *("change the chain", "branch", "score", "choose", "logits", "fork", "reset", "save", "say"),
    *("stream of the talk", "undo", "own session", "tokenize", "detokenize", "preview", "render"),
    *("replay", "sweep", "encode", "encode and stop", "own encoder", "search", "change the index"),
    *("save the index", "look", "change the setting", "close the session"),
)
CLOSING = ("nothing", "the session", "the model", "the encoder", "the encoder's model", "all")
works = st.lists(st.sampled_from(WORKS), min_size=1, max_size=3)
CASES = st.fixed_dictionaries(
    {
        "works": st.tuples(works, works),
        "closing": st.sampled_from((*CLOSING, "stop")),
        "after": st.sampled_from([0.03, 0, 0.001, 0.01, 0.1]),
    }
)


@pytest.fixture(scope="module")
def hammer(tmp_path_factory):
    """A function that plays a case: how its process ended, and what it said."""
    folder = tmp_path_factory.mktemp("shared")
    tiny.write(folder / "tiny.gguf", chat_template=tiny.CHATML)
    tiny.write(folder / "bert.gguf", architecture="bert", vocabulary="wpm", pieces=("hello",))
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder)],
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


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on this system")
def test_threads_that_share_what_another_closes_meet_documented_errors_only(attack, hammer):
    def attempt(case):
        ended = hammer(case)
        assert (ended["code"], ended["said"]) == (0, ""), ended["said"]

    attack(CASES, attempt, few=8)

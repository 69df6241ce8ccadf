"""Every public function, with each of its parameters in turn one of the project's nasty values.

Each part is walked in a process of its own, so that one that ends is seen, and in a folder of its
own: some of the values are names of files, which are written there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mullama_lab.engine import tiny

PARTS = ["model", "session", "trace", "chain", "retrieval", "studies", "widgets", "labs"]
FEW = 2  # values for each parameter
SECONDS = 600  # past which it hangs


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nasty")
    tiny.write(folder / "tiny.gguf", chat_template=tiny.CHATML)
    tiny.write(folder / "bert.gguf", architecture="bert", vocabulary="wpm", pieces=("hello",))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="it bounds its memory as Linux does")
@pytest.mark.parametrize("part", PARTS)
def test_nasty_values_give_results_or_errors_in_our_words(
    part, folder, tmp_path, n_cases, fuzz_seed
):
    n = n_cases(FEW)
    script = Path(__file__).with_name("walk.py")
    done = subprocess.run(
        [sys.executable, str(script), part, str(folder), str(n), str(fuzz_seed)],
        cwd=tmp_path,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")},  # it saves chains by name
        capture_output=True,
        text=True,
        timeout=SECONDS * (1 + n // 4),
    )
    *wrong, last = done.stdout.splitlines() or [""]
    assert done.returncode == 0, f"it ended at {done.stderr[-600:]}"
    assert not wrong, "\n".join(wrong)
    assert last.endswith("calls")

"""A program beside this one is bounded, and ends with this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from mullama_lab.engine.bounded_process import BoundedProcess, Ended
from mullama_lab.errors import Stopped

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
DEAF = "import time; time.sleep(1000)"


def test_a_long_line_comes_back_whole():
    echo = BoundedProcess([sys.executable, "-c", ECHO])
    for line in (b"a\n", b"b" * 1_000_000 + b"\n", b"c\n"):
        assert echo.ask(line, 30.0, 1 << 30) == line
    echo.close()


def test_a_program_that_reads_nothing_is_ended_in_time():
    deaf = BoundedProcess([sys.executable, "-c", DEAF])
    with pytest.raises(Ended, match="it was not done after 0.2 seconds"):
        deaf.ask(b"a" * 1_000_000 + b"\n", 0.2, 1 << 30)
    assert not deaf.is_running


def test_who_waits_may_give_up():
    deaf = BoundedProcess([sys.executable, "-c", DEAF])

    def give_up():
        raise Stopped("not wanted any more")

    with pytest.raises(Stopped):
        deaf.ask(b"a\n", 1000.0, 1 << 30, give_up)
    assert not deaf.is_running


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_it_ends_with_a_process_that_is_killed_though_a_fork_of_that_lives():
    script = f"""
import os, psutil, sys, time
from mullama_lab.engine.bounded_process import BoundedProcess
echo = BoundedProcess([sys.executable, "-c", {ECHO!r}])
echo.ask(b"a\\n", 30.0, 1 << 30)
(program,) = psutil.Process().children()
fork = os.fork()
if not fork:
    assert echo.ask(b"b\\n", 30.0, 1 << 30) == b"b\\n"  # by another one
    echo.close()
    print("forked", flush=True)
    time.sleep(1000)
print(fork, program.pid, flush=True)
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    said = {parent.stdout.readline().strip() for _ in range(2)}
    fork, child = map(int, (said - {"forked"}).pop().split())
    assert "forked" in said
    program = psutil.Process(child)
    parent.kill()
    parent.wait()
    try:
        assert psutil.pid_exists(fork)
        psutil.wait_procs([program], timeout=10)
        assert not program.is_running() or program.status() == psutil.STATUS_ZOMBIE
    finally:
        os.kill(fork, signal.SIGKILL)
        if program.is_running():
            program.kill()
        parent.stdout.close()

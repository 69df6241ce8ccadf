"""A program beside this one, which is ended where it takes more than its share.

For work that can take any amount of time or memory, or end the process, before anybody could tell
from what it is given. The program answers each line that it is sent with one line. The first one
starts it; it then waits for others, and ends with this process, or when nobody holds it any more.
"""

from __future__ import annotations

import atexit
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import IO
from weakref import WeakSet

import psutil

from mullama_lab.engine.leaving import usable_in_forks

_POLL_SECONDS = 0.01  # between two looks at its size

_made: WeakSet[BoundedProcess] = WeakSet()


class Ended(Exception):
    """The program gave no answer, and was ended if it had not ended by itself; says why."""


class BoundedProcess:
    """Another program, of which one line is asked at a time, by any thread.

    Args:
        command: that starts it, argument by argument.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._lock = usable_in_forks(threading.Lock())
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        _made.add(self)

    @property
    def is_running(self) -> bool:
        """Whether it need not be started for the next line."""
        process = self._process
        return process is not None and process.poll() is None

    def ask(
        self,
        line: bytes,
        seconds: float,
        most_bytes: int,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> bytes:
        """What it answers to a line.

        Args:
            seconds: that it may take, to read the line too, and to start if it has to be started.
            most_bytes: of memory that it may have.
            meanwhile: called every 10 ms; what it raises ends the program.

        Raises:
            Ended: it took more, ended, or could not be started. The next line starts it again.
        """
        with self._lock:
            try:
                return self._ask(line, seconds, most_bytes, meanwhile)
            except OSError as error:
                self.close()
                raise Ended(f"its process could not be used: {error}") from None
            except BaseException:  # Ctrl-C too: whatever it is at, nobody wants it now
                self.close()
                raise

    def close(self) -> None:
        """End the program; the next line starts it again."""
        process, self._process = self._process, None
        if process is not None:
            self._lines.put(None)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _ask(
        self, line: bytes, seconds: float, most_bytes: int, meanwhile: Callable[[], object]
    ) -> bytes:
        end = monotonic() + seconds
        process = self._process if self.is_running else self._start()
        assert process is not None
        self._lines.put(line)
        its_size = None
        while True:
            with suppress(queue.Empty):
                reply = self._replies.get(timeout=_POLL_SECONDS)
                break
            meanwhile()
            with suppress(psutil.Error):
                its_size = its_size or psutil.Process(process.pid).memory_info
                if its_size().rss > most_bytes:
                    raise Ended(f"it needed more than {most_bytes >> 20} MB of memory")
            if monotonic() > end:
                raise Ended(f"it was not done after {seconds:g} seconds")
        if not reply:
            raise Ended("the process it ran in ended")
        return reply

    def _start(self) -> subprocess.Popen[bytes]:
        self.close()
        self._lines, self._replies = queue.SimpleQueue(), queue.SimpleQueue()
        process = self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process, which ends that one
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert process.stdin is not None and process.stdout is not None
        for call, *args in (
            (_write, process.stdin, self._lines),
            (_read, process.stdout, self._replies),
        ):
            threading.Thread(
                target=call, args=args, name="mullama-lab-process", daemon=True
            ).start()
        return process

    def __del__(self) -> None:
        self.close()


def _write(pipe: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    """Send lines until None comes: a program that reads none keeps nobody else waiting."""
    with suppress(ValueError, OSError):  # it has ended; there is no reply then
        while line := lines.get():
            pipe.write(line)
            pipe.flush()


def _read(pipe: IO[bytes], replies: queue.SimpleQueue[bytes]) -> None:
    """Take its lines; an empty one says that it has ended."""
    with suppress(ValueError, OSError):  # closed meanwhile
        for reply in pipe:
            replies.put(reply)
    replies.put(b"")


def _close_all() -> None:
    for one in list(_made):
        one.close()


def _forget_parents_processes() -> None:
    """After a fork: they belong to the parent, and end with it, whatever the fork has open."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for one in list(_made):
        process, one._process = one._process, None
        for pipe in (process.stdin, process.stdout) if process else ():
            if pipe is not None and not pipe.closed:
                os.dup2(nowhere, pipe.fileno(), inheritable=False)
    os.close(nowhere)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_processes)
atexit.register(_close_all)

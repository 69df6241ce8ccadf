"""Whether a file is still what it was, without reading it.

Writing to a file moves its time, cutting it changes its size, and another file in its place has
another inode. A disk keeps times in steps of some milliseconds: a file that is written to twice
within one step, with as many bytes, looks the same.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class FileStamp:
    """What a disk says of a file: its size, when it was written to, and which file it is."""

    size_bytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path | int) -> FileStamp:
        """The stamp of a path, links followed, or of an open file's descriptor."""
        status = os.stat(file)
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)

    def change(self, now: FileStamp) -> str:
        """What happened to the file since: "" for nothing, else the end of "the file ..."."""
        if now.size_bytes < self.size_bytes:
            return f"was cut short from {self.size_bytes} bytes to {now.size_bytes}"
        if now.inode != self.inode:
            return "was replaced by another file"
        return "" if now == self else "was written to"


class WatchedFile:
    """A file held open, to ask whether it is what it was when this was made.

    It asks of the file itself: that one may be moved, deleted, or replaced by another of its
    name, and whoever has it mapped still reads the old bytes.

    Args:
        path: where it is.
        file: the same file, if it is open already.
    """

    def __init__(self, path: Path, file: IO[bytes] | None = None) -> None:
        self.path = path
        self._handle = os.open(path, os.O_RDONLY) if file is None else os.dup(file.fileno())
        self._close = weakref.finalize(self, os.close, self._handle)
        self._close.atexit = False  # a thread may still read it
        self.stamp = FileStamp.of(self._handle)

    def change(self) -> str:
        """What happened to it; "" if nothing did."""
        return self.stamp.change(FileStamp.of(self._handle))

    def change_at_path(self) -> str:
        """What happened to what its path names; "" if that is still this file, as it was."""
        try:
            return self.stamp.change(FileStamp.of(self.path))
        except FileNotFoundError:
            return "was moved or deleted"
        except OSError as error:
            return f"cannot be found again ({error.strerror})"

    def close(self) -> None:
        """Let go of it."""
        self._close()

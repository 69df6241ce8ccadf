"""What this process takes of the memory, as the operating system says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class ProcessMemory:
    """What this process takes of the memory; None where the system does not report it.

    Attributes:
        resident_bytes: in memory now, the libraries and the pages of mapped files among them.
        peak_bytes: the most that was in memory since the process began.
        mapped_bytes: of the model's files, how much is mapped into the process; 0 where the
            weights were read into memory (mmap=False).
        mapped_resident_bytes: how much of that is in memory; the rest is read when it is used.

    Source: psutil; /proc/self/status and smaps on Linux; getrusage elsewhere.
    """

    resident_bytes: int | None
    peak_bytes: int | None
    mapped_bytes: int | None
    mapped_resident_bytes: int | None

    @classmethod
    def now(cls, files: Iterable[Path] = ()) -> ProcessMemory:
        """What it is now.

        Args:
            files: those of the model, for `mapped_bytes`.
        """
        process = psutil.Process()
        try:
            info = process.memory_info()
        except (psutil.Error, OSError):
            return cls(None, None, None, None)
        return cls(info.rss, _peak(info), *_mapped(process, files))


def _peak(info: object) -> int | None:
    peak = getattr(info, "peak_wset", None)  # of Windows
    if peak is not None:
        return int(peak)
    with suppress(OSError):  # on Linux getrusage begins with the peak of the parent
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _mapped(process: psutil.Process, files: Iterable[Path]) -> tuple[int | None, int | None]:
    paths = {os.path.realpath(file) for file in files}
    if not hasattr(process, "memory_maps"):  # macOS
        return None, None
    try:
        maps = [each for each in process.memory_maps(grouped=True) if each.path in paths]
    except (psutil.Error, OSError, NotImplementedError):
        return None, None
    if any(not hasattr(each, "size") for each in maps):  # Windows
        return None, None
    return sum(each.size for each in maps), sum(each.rss for each in maps)

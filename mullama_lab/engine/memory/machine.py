"""The memory that this process may still take, as the system and its control groups have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
PROCESS_CGROUPS = Path("/proc/self/cgroup")

# (limit, what is taken, and what of that are pages of files, which the kernel gives up when it
# has to) in the folder of a group: of version 2, and of version 1 (in a folder `memory`).
_NAMES = (
    ("memory.max", "memory.current", ("inactive_file", "active_file")),
    (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
)


def total_and_free() -> tuple[int, int]:
    """(bytes in all, bytes that are free) for this process.

    In a container these are what it is limited to, where the machine has more.

    Source: psutil; Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of Linux.
    """
    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    for limit, left in _groups():
        total, free = min(total, limit), min(free, left)
    return total, free


def _groups() -> Iterator[tuple[int, int]]:
    """(limit, what is left of it) of each control group of this process that has a limit."""
    for folder in _folders():
        for limit, current, reclaimable in _NAMES:
            with suppress(OSError, ValueError):  # "max" is no limit
                most = int((folder / limit).read_text(encoding="ascii"))
                taken = int((folder / current).read_text(encoding="ascii"))
                stat = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
                taken -= sum(int(stat.get(name, 0)) for name in reclaimable)
                yield most, max(0, most - max(0, taken))


def _folders() -> Iterator[Path]:
    """The folders of this process's control groups that account for memory, and their parents."""
    try:
        lines = PROCESS_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = CGROUPS / "memory" if kinds else CGROUPS
        folder = root / path.lstrip("/")
        yield from (folder, *[one for one in folder.parents if one.is_relative_to(root)])

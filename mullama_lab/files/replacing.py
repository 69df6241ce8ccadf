"""A file takes the place of another whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from mullama_lab.files.path import behind_links
from mullama_lab.glyphs import visible


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path near another; what the block writes there takes its place when the block ends.

    It is in a folder of its own, for libraries write further files beside the one they are told
    to. The old file stays as it is until the new one is complete on the disk, and if the block
    raises. A link is followed, as `open` does: the file it names is replaced, or made, and the
    link stays.

    Raises:
        OSError: the place is a folder, a device, a pipe, a loop of links or read-only, or its
            folder is missing.
    """
    path = behind_links(path)
    _must_be_writable(path)
    _sweep(path)
    folder = path.with_name(f"{_before(path)}{os.getpid()}.{secrets.token_hex(4)}.part")
    part = folder / path.name
    try:
        folder.mkdir(mode=0o700)
        part.touch()
        mode = (path if path.exists() else part).stat().st_mode & 0o777
        yield part
        part.chmod(mode)
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def must_not_be_a_device(path: Path) -> None:
    """Refuse what would be waited for when it is read, and be replaced when it is written.

    Raises:
        OSError: the path is a device, a pipe or a loop of links.
    """
    path = behind_links(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file")


def _must_be_writable(path: Path) -> None:
    """Replacing needs no permission on the file itself, but what is read-only shall stay."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder; add a file name")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, visible(f"there is no folder {path.parent}"))
    must_not_be_a_device(path)
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is read-only")


def _before(path: Path) -> str:
    """How the names of a file's folders begin; short, for a name has at most 255 bytes."""
    return f".{path.name[:50]}."


def _sweep(path: Path) -> None:
    """Remove what processes that ended while saving this file left behind."""
    pattern = re.compile(re.escape(_before(path)) + r"(\d+)\.[0-9a-f]{8}\.part")
    with suppress(OSError):
        for left in path.parent.iterdir():
            match = pattern.fullmatch(left.name)
            if match and not psutil.pid_exists(int(match[1])):
                shutil.rmtree(left, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Let the new name be on the disk too, where a folder can be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

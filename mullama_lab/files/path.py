"""The path that a person gave, in full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mullama_lab.glyphs import brief


def in_full(path: str | os.PathLike[str]) -> Path:
    """An absolute path; `~` is the home of whoever runs this, and a link stays a link.

    >>> in_full("~/models").is_absolute()
    True

    Raises:
        TypeError: it is no path.
        OSError: no file can have such a name.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{brief(path)} is no path. Give a text or a pathlib.Path.")
    text = os.fsdecode(path)
    if "\0" in text:
        raise OSError(errno.EINVAL, "a path cannot have a NUL")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise OSError(
            errno.EILSEQ, f"a path cannot have the lone surrogate {text[error.start]!a}"
        ) from None
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        user = Path(text).parts[0]
        raise OSError(errno.EINVAL, f"nobody here is called {brief(user[1:])}") from None


def behind_links(path: Path) -> Path:
    """The file that `open` would open or make: every link followed, also one to nothing yet.

    Raises:
        OSError: the links lead back to themselves.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, "it is a link that leads back to itself")
    return target

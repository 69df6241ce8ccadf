"""What a person keeps by name, for all notebooks: where it lies, and what names there can be."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import platformdirs

from mullama_lab.errors import PresetError
from mullama_lab.files.path import in_full
from mullama_lab.glyphs import brief

LONGEST_NAME = 40


def folder() -> Path:
    """The platform's configuration folder of mullama-lab, or MULLAMA_LAB_CONFIG if that is set.

    Raises:
        PresetError: MULLAMA_LAB_CONFIG names a place that cannot be.
    """
    root = os.environ.get("MULLAMA_LAB_CONFIG")
    try:
        return in_full(root or platformdirs.user_config_dir("mullama-lab", appauthor=False))
    except OSError as error:
        raise PresetError(
            f"MULLAMA_LAB_CONFIG={brief(root)} is no folder: {reason(error)}. Set it to one."
        ) from error


def checked_name(kind: str, name: Any) -> str:
    """A name as it is kept; `kind` says of what.

    Raises:
        TypeError: it is no text.
        ValueError: nothing can be called so.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a {kind} is a text, not {brief(name)}.")
    name = unicodedata.normalize("NFC", name)
    if not is_name(name):
        raise ValueError(
            f"{brief(name)} is no name for a {kind}: 1 to {LONGEST_NAME} letters, digits, spaces, "
            "- and _, without a space at either end."
        )
    return name


def is_name(name: str) -> bool:
    """Whether something can have this name; one in a file may be anything."""
    right = all(c.isalnum() or c in " -_" for c in name) and name == name.strip()
    return right and 1 <= len(name) <= LONGEST_NAME


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """What says that there is none of that name, and which there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return ValueError(f"there is no {kind} {name!r}. {hint}There are {', '.join(known)}.")


def reason(error: BaseException) -> str:
    """What went wrong, in the words of the error."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.rstrip(".")

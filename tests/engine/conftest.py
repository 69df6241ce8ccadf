"""Where the engine's tests find llama.cpp's own expectations.

They are in the source distribution of the installed llama-cpp-python: vocabularies with the
token ids they must give, and the values its samplers must give. The distribution is fetched
through pip once, and only those files are kept. MULLAMA_LAB_LLAMA_SRC may name an unpacked copy.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

import platformdirs
import pytest
from filelock import FileLock

_WANTED = re.compile(r"vendor/llama\.cpp/(models/ggml-vocab-[^/]+|tests/test-sampling\.cpp)")


@pytest.fixture(scope="session")
def llama_source() -> Path:
    """llama.cpp's sources: `models/ggml-vocab-*` and `tests/test-sampling.cpp`."""
    given = os.environ.get("MULLAMA_LAB_LLAMA_SRC")
    if given:
        return Path(given).expanduser() / "vendor" / "llama.cpp"
    version = metadata.version("llama-cpp-python")
    cache = Path(platformdirs.user_cache_dir("mullama-lab", appauthor=False)) / "llama-source"
    folder = cache / version
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{version}.lock"):
        if not folder.is_dir():
            _fetch(version, folder)
    return folder / "vendor" / "llama.cpp"


def _fetch(version: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        # pip asks the distribution for its metadata, which compiles nothing.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        options = ["--no-binary", "llama-cpp-python", "--dest", work]
        done = subprocess.run(
            [*pip, *options, f"llama-cpp-python=={version}"], capture_output=True, text=True
        )
        archives = list(Path(work).glob("*.tar.gz"))
        if not archives:
            pytest.skip(f"pip could not fetch llama-cpp-python's source: {done.stderr[-300:]}")
        unpacked = Path(work) / "unpacked"
        _unpack(archives[0], unpacked)
        unpacked.rename(folder)


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as files:
        for member in files:
            wanted = _WANTED.search(member.name)
            content = files.extractfile(member) if wanted and member.isfile() else None
            if wanted and content is not None:
                target = folder / wanted.group()
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())

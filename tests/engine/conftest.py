"""What the engine's tests share, and where they find llama.cpp's own expectations.

Those are in the source distribution of the installed llama-cpp-python: vocabularies with the
token ids they must give, and the values its samplers must give. The distribution is fetched
through pip once, and only those files are kept. MULLAMA_LAB_LLAMA_SRC may name an unpacked copy.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import numpy as np
import platformdirs
import psutil
import pytest
from filelock import FileLock

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.native import model as native
from mullama_lab.engine.stages import Custom

_WANTED = re.compile(r"vendor/llama\.cpp/(models/ggml-vocab-[^/]+|tests/test-sampling\.cpp)")


# Tries what might end the process, and says by which exception it was refused.
ATTEMPT = """
import traceback

def attempt(name, call):
    try:
        call()
        outcome = "fine"
    except Exception as error:
        outcome = type(error).__name__
        if outcome in ("AssertionError", "TypeError"):
            traceback.print_exc()
    print(name, outcome, flush=True)
"""


@pytest.fixture(scope="module", params=["llama", "gemma3", "mamba", "jamba"])
def any_model(request, tmp_path_factory):
    """A model with plain attention, with a sliding window of 16 tokens, recurrent, hybrid."""
    folder = tmp_path_factory.mktemp("models")
    path = tiny.write(folder / f"{request.param}.gguf", architecture=request.param)
    with Model.load(path) as model:
        yield model


@contextmanager
def opened_anew(model, *, vocab_only=False):
    """A model's file opened once more with llama.cpp's own function: the bare handle."""
    how = {"mmap": True, "mlock": False, "progress": None}
    handle, _ = native.load_model(model.path, vocab_only=vocab_only, **how)
    try:
        yield handle
    finally:
        native.free_model(handle)


@pytest.fixture(scope="session")
def native_model():
    """A function that opens a model's file once more, as llama.cpp's own handle."""
    return opened_anew


@pytest.fixture(scope="session")
def native_vocabulary():
    """A function that opens the vocabulary of a model's file once more, as llama.cpp's handle."""

    @contextmanager
    def opened(model):
        with opened_anew(model, vocab_only=True) as handle:
            yield native.get_vocabulary(handle)

    return opened


@pytest.fixture(scope="session")
def cost():
    """A function that works with a session: what the work returned, and its part of the ledger."""

    def worked(session, work):
        before = session.ledger
        result = work()
        return result, session.ledger - before

    return worked


@pytest.fixture(scope="session")
def draws():
    """A function that makes a stage under which a model draws these tokens, over and over."""

    def stage(tokens):
        wanted, start = list(tokens), []

        def force(logits, history):
            if not start:
                start.append(len(history))
            logits[:] = -np.inf
            logits[wanted[(len(history) - start[0]) % len(wanted)]] = 0
            return logits

        return Custom(force)

    return stage


@pytest.fixture(scope="session")
def writes(draws):
    """A function that makes a stage under which a tiny model writes these bytes, over and over."""
    return lambda data: draws(byte + 3 for byte in data)


@pytest.fixture
def anew(monkeypatch):
    """A function that gives a module as it is when it was just imported: it has asked nothing."""

    def imported(module):
        name = f"{module.__name__}_anew"
        spec = importlib.util.spec_from_file_location(name, module.__file__)
        again = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, again)
        spec.loader.exec_module(again)
        return again

    return imported


@pytest.fixture
def programs():
    """A function that gives the programs which run beside this one since the test began."""
    here = psutil.Process()
    before = set(here.children())
    return lambda: [one for one in here.children() if one not in before]


@pytest.fixture(scope="session")
def attempts():
    """A function that runs a script in a process of its own: {name: outcome} of its attempts.

    The script calls `attempt(name, call)`; the process must end well.
    """

    def run(script, *arguments, seconds=90):
        done = subprocess.run(
            [sys.executable, "-c", ATTEMPT + script, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"after {done.stdout[-300:]!r}: {done.stderr[-2000:]}"
        assert done.stderr == "", done.stderr[-3000:]
        return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())

    return run


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

"""Saves in processes of its own that are killed, or that have no room; a case is a line of JSON.

A case is {"kind": ..., "numbers": [when or how much, 0 or 1]}. Afterwards the file must be one of
those that were saved, whole, or the one that was there before; and nothing else may lie beside it
once the next save is done. The answer is one line: what came of it, or "wrong" and a traceback.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tqdm.auto import tqdm

from mullama_lab.engine import sealed_file
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.errors import IndexNotSaved, SessionNotSaved

FOLDER = Path(sys.argv[1])
SIZE = 300_000  # bytes of a save, about
LONGEST = 0.02  # seconds until a process is killed
REFUSED, WRONG = 3, 4  # how a process ends


def session_saves():
    """Two saves, as functions of a path; the arrays are what a session's file has."""
    noise = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    return [
        lambda path, n=n: sealed_file.write(path, {"state": noise + np.uint8(n)}, {"n": n})
        for n in (1, 2)
    ]


def index_saves():
    encoder = SimpleNamespace(dim=16, fingerprint="by hand", name="by hand")
    saves = []
    for n in (1, 2):
        index = MultiVectorIndex(encoder)
        vectors = np.random.default_rng(n).standard_normal((SIZE // 100, 16)).astype(np.float32)
        spans = np.full((len(vectors), 2), -1)
        pieces = (b"x",) * len(vectors)
        index.add(
            [MultiVector(vectors, np.arange(len(vectors)), pieces, spans, "a", "document")],
            progress=False,
        )
        saves.append(lambda path, index=index: index.save(path, progress=False))
    return saves


def session_in(path):
    """All that a file has: safetensors does not always write in one order."""
    arrays, about = sealed_file.read(path)
    return about, arrays["state"].tobytes()


class Saves:
    """Two saves of one kind, what is in each, and the bytes of the first."""

    def __init__(self, name, saves, read):
        self.path, self.saves, self.read = FOLDER / name / "file", saves, read
        self.path.parent.mkdir(exist_ok=True)
        self.wholes = []
        for save in reversed(saves):
            save(self.path)
            self.wholes.insert(0, read(self.path))
        assert self.wholes[0] != self.wholes[1]
        self.first = self.path.read_bytes()

    def begin(self, path, had_one):
        """What lies there before: the first save, or nothing."""
        path.unlink(missing_ok=True)
        if had_one:
            path.write_bytes(self.first)

    def killed(self, when, had_one):
        self.begin(self.path, had_one)
        child = forked(lambda: self.save_for_ever())
        time.sleep(when % 1000 / 1000 * LONGEST)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        beside = len(os.listdir(self.path.parent)) - self.path.exists()
        said = "no file"
        if self.path.exists() or had_one:
            said = ("the first", "the second")[self.wholes.index(self.read(self.path))]
        self.saves[1](self.path)
        assert os.listdir(self.path.parent) == [self.path.name], os.listdir(self.path.parent)
        assert self.read(self.path) == self.wholes[1]
        return f"{said}, {beside} beside it"

    def save_for_ever(self):
        while True:
            for save in reversed(self.saves):
                save(self.path)

    def without_room(self, room, had_one, limited):
        with limited(room % (2 * SIZE)) as (folder, limit):
            path = folder / self.path.name
            self.begin(path, had_one)
            child = forked(lambda: limit() or self.saves[1](path))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, REFUSED), f"it ended with {code}"
            beside = [name for name in os.listdir(folder) if name not in ("file", "ballast")]
            assert not beside, beside
            if code == 0:
                assert self.read(path) == self.wholes[1]
            else:
                assert path.exists() == bool(had_one)
                assert not had_one or path.read_bytes() == self.first
            path.unlink(missing_ok=True)
        return "saved" if code == 0 else "refused"


def forked(work):
    """A process that does some work, and says by its code how that ended."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except (SessionNotSaved, IndexNotSaved) as error:
        os._exit(REFUSED if "room" in str(error) else WRONG)
    except BaseException:
        traceback.print_exc()
    os._exit(WRONG)


@contextmanager
def short_files(room):
    """No file of the process may grow past some bytes: EFBIG."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    folder = FOLDER / "short"
    folder.mkdir(exist_ok=True)
    yield folder, limit


@contextmanager
def small_disk(room):
    """A disk of its own on which so many bytes are left: ENOSPC."""
    folder = FOLDER / "disk"

    def limit():
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        with (folder / "ballast").open("wb") as file:
            file.write(bytes(max(0, free - room)))

    yield folder, limit
    (folder / "ballast").unlink(missing_ok=True)


@contextmanager
def mounted():
    """Whether there is such a disk: only root can make one, and not everywhere."""
    folder = FOLDER / "disk"
    folder.mkdir(exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={4 * SIZE}", "tmpfs", str(folder)]
    made = sys.platform == "linux" and not subprocess.call(
        ["mount", *options], stderr=subprocess.DEVNULL
    )
    try:
        yield made
    finally:
        if made:
            subprocess.call(["umount", str(folder)])


def main():
    tqdm.set_lock(threading.RLock())  # its own lock outlives a forked process that was killed
    os.fsync = lambda handle: None  # no case cuts the power, and a busy disk can take a minute
    both = {
        "session": Saves("session", session_saves(), session_in),
        "index": Saves("index", index_saves(), Path.read_bytes),
    }
    with mounted() as has_disk:
        print("ready", flush=True)
        for line in sys.stdin:
            case = json.loads(line)
            what, _, how = case["kind"].partition(" ")
            when, had_one = case["numbers"]
            try:
                if how == "killed":
                    said = both[what].killed(when, had_one)
                else:
                    disk = small_disk if how == "on a full disk" and has_disk else short_files
                    said = both[what].without_room(when, had_one, disk)
            except Exception:
                said = f"wrong {traceback.format_exc()}".replace("\n", "\\n")
            print(said, flush=True)


main()

"""A session opens and works on Windows; there is none here, so a process is made to look like it.

Only what Python programs see of a system is changed: its name, what `ctypes` finds, and the
modules and functions that Windows has not. The C library is still the one of this system.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs Linux's C library")

# Run before anything else in every Python process that is started. What is not ours is imported
# first, for that would do different things on Windows.
LIKE_WINDOWS = """
import asyncio, concurrent.futures.thread, ctypes, logging, multiprocessing, os, runpy, signal
import shutil, subprocess, sys, tempfile, threading, uuid
import filelock, gguf, huggingface_hub, jinja2, llama_cpp, numpy, platformdirs, psutil
import safetensors.numpy, tqdm

class CDLL(ctypes.CDLL):
    def __init__(self, name, *args, **named):
        if name is None:
            raise TypeError("argument of type 'NoneType' is not iterable")
        self._is_windows = name == "msvcrt"
        super().__init__("libc.so.6" if self._is_windows else name, *args, **named)

    def __getattr__(self, name):
        if self._is_windows and name in ("on_exit", "sigaltstack"):
            raise AttributeError(f"function '{name}' not found")
        return super().__getattr__(name)

ctypes.CDLL = CDLL
shutil._use_fd_functions = False  # what it found out on its import
for name in ("fork", "forkpty", "geteuid", "getuid", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW",
             "O_NONBLOCK", "posix_fadvise", "posix_fallocate", "pread", "pwrite",
             "register_at_fork", "sched_getaffinity", "sendfile", "sysconf", "uname"):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGUSR1", "pthread_kill", "pthread_sigmask"):
    delattr(signal, name)
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
sys.platform = "win32"
"""

WORK = """
import sys, threading, time
import mullama_lab as ml

path, saved = sys.argv[1:]
model = ml.Model.load(path)
chain = ml.Mask(ban=[2]) | ml.Temperature(0.8)  # no end of the text
with model.session(n_ctx=4096, n_threads=1) as session:
    print("generated", session.generate("abc", chain, max_tokens=20, seed=3).tokens.tolist())
    run = session.start("a" * 3000, chain, max_tokens=2000, seed=3)
    time.sleep(0.05)
    run.stop()
    print("stopped", run.wait().finish_reason)
    session.generate("abc", chain, max_tokens=20, seed=3)
    session.save(saved)
with ml.Session.load(saved, model) as session:
    print("loaded", list(map(int, session.tokens)))
print("chat", model.render_chat([{"role": "user", "content": "hi"}]).text)
print("vectors", len(ml.MultiVectorEncoder(model).encode_documents(["ab"], progress=False)))
print("at the end", model.session(n_ctx=4096).start("abc", chain, max_tokens=4000).state != "done")
"""


@pytest.fixture
def model_path(tmp_path):
    from mullama_lab.engine import tiny

    return tiny.write(tmp_path / "tiny.gguf", chat_template=tiny.CHATML)


def outcome(model_path, folder, environment):
    done = subprocess.run(
        [sys.executable, "-c", WORK, model_path, folder / "a.session"],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "MULLAMA_LAB_CACHE": str(folder / "cache"),
            "MULLAMA_LAB_PROBE": "1",
            **environment,
        },
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_a_session_opens_generates_and_stops_on_windows_as_it_does_here(model_path, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LIKE_WINDOWS)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    there = outcome(model_path, tmp_path, {"PYTHONPATH": os.pathsep.join(paths)})
    assert list(tmp_path.rglob("probed.txt"))  # it was opened in a child process first
    assert there == outcome(model_path, tmp_path, {})
    assert "stopped stopped\n" in there

"""What every test shares: the tools it may need, and the rule about skipping.

A test that needs node or Chromium asks for the fixture `node` or `chromium` (each the path
of the program) and is skipped where there is none. Under MULLAMA_LAB_NO_SKIP=1, which
`.ci/run` sets, whatever is skipped fails instead, so that nothing goes missing silently.

No file is opened in a child process first (MULLAMA_LAB_PROBE=0): the tests write thousands of tiny
files. Those of the probe itself turn it on.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

from mullama_lab import hub
from mullama_lab.engine import options, tiny
from mullama_lab.engine.stages import Custom
from mullama_lab.engine.steering.lora import LoraAdapter

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("MULLAMA_LAB_PROBE", "0")

# Where a shell starts the tests in the background, they begin deaf to Ctrl-C, which some try.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Many tests give a tiny model more room than its file claims; their processes shall be quiet.
os.environ["PYTHONWARNINGS"] = "ignore:n_ctx=:UserWarning"


class SkippingFails:
    """Turns each skipped test, and each skipped module, into a failure with its reason."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self):
        return _failed_if_skipped((yield))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self):
        return _failed_if_skipped((yield))


class ModelsFirst:
    """Fetches the models of the notebooks before the first, whose outputs show no progress."""

    def pytest_collection_finish(self, session):
        if not session.config.option.collectonly and any(
            item.path.suffix == ".ipynb" for item in session.items
        ):
            for name in (hub.DEFAULT_MODEL, "colbert-small"):
                hub.fetch(name)


def pytest_addoption(parser):
    parser.addoption(
        "--cases",
        type=int,
        help="how many cases each test in tests/fuzz tries; without it a few, always the same",
    )


# Where a test gives no seed, chance decides: the same chance each time that the test is run.
CHANCE = random.Random()


def pytest_configure(config):
    # No test is about time by the way: a deadline fails where the machine is busy elsewhere.
    settings.register_profile("chance", deadline=None)
    settings.register_profile("the same cases", derandomize=True, database=None, deadline=None)
    by_seed = config.getoption("hypothesis_seed", None) is not None
    settings.load_profile("chance" if by_seed else "the same cases")
    options.secrets = SimpleNamespace(randbelow=CHANCE.randrange)
    # Registered as plugins: a conftest's own hooks would see the tests below it only.
    config.pluginmanager.register(ModelsFirst())
    if os.environ.get("MULLAMA_LAB_NO_SKIP") == "1":
        config.pluginmanager.register(SkippingFails())


def _failed_if_skipped(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which MULLAMA_LAB_NO_SKIP=1 forbids: {reason}"
    return report


@pytest.fixture(autouse=True)
def same_chance(request):
    CHANCE.seed(request.node.nodeid)


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """Many tests collect garbage; what modules before left alive need not be looked through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def until():
    """A function that waits until a condition holds, and fails when it never does."""

    def wait(condition, seconds=20):
        end = time.monotonic() + seconds
        while True:
            began = time.monotonic()
            if condition():
                return
            now = time.monotonic()
            assert now < end, "it did not happen"
            # A collection of garbage stops all threads: those that are waited for need time too.
            time.sleep(max(0.001, now - began))

    return wait


class Gate:
    """A stage at which a text stands still, and what is beside it too: at every eighth token."""

    def __init__(self):
        self._changed = threading.Condition()
        self._n_open, self._n_there, self._begins = 0, 0, math.inf
        self.stage = Custom(self._pass)

    def _pass(self, logits, history):
        with self._changed:
            self._begins = min(self._begins, len(history))
            n = (len(history) - self._begins) // 8
            if n > self._n_open:
                self._n_there = n
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: n <= self._n_open, 60)
        return logits

    def wait(self):
        """Wait until the text stands still."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._n_there > self._n_open, 60)

    def go_on(self):
        """Let it go on until it stands still again."""
        self.wait()
        self._open(self._n_open + 1)
        self.wait()

    def open(self):
        """Let it go on to its end."""
        self._open(math.inf)

    def _open(self, n):
        with self._changed:
            self._n_open = n
            self._changed.notify_all()

    @contextmanager
    def closed(self):
        """While the text stands still; it goes on to its end then."""
        self.wait()
        try:
            yield
        finally:
            self.open()


@pytest.fixture
def gate():
    """A Gate, open when the test ends."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture(scope="session")
def in_a_fork(until):
    """A function that calls something in a fork of this process: whether it gave what is true."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork on this system")

    def called(call):
        child = os.fork()
        if child == 0:
            outcome = 1
            try:
                outcome = 0 if call() else 1
            finally:
                os._exit(outcome)
        ended = []

        def has_ended():
            pid, status = os.waitpid(child, os.WNOHANG)
            ended.extend([status] if pid else [])
            return ended

        try:
            until(has_ended)
        finally:
            if not ended:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return ended == [0]

    return called


@pytest.fixture
def small_maps(monkeypatch):
    """Maps of a BlendPad with 5 by 5 cells in place of 17."""
    from mullama_lab.widgets import _blend_grid

    monkeypatch.setattr(_blend_grid, "N", 5)
    monkeypatch.setattr(_blend_grid, "STRIDES", (2, 1))
    monkeypatch.setattr(_blend_grid, "ORDER", tuple(_blend_grid._order()))


@pytest.fixture
def cell(monkeypatch):
    """A function that begins a run of a cell, which what is made and displayed then belongs to."""
    from mullama_lab.labs import _lab
    from mullama_lab.widgets import _cells, _kept

    count = iter(range(1000))

    def begin(name):
        here = _cells.CellRun(name, str(next(count)))
        monkeypatch.setattr(_cells, "current_run", lambda: here)

    yield begin
    _kept._shown.discard(lambda _: True)
    _lab._newest.discard(lambda _: True)


@pytest.fixture(scope="session")
def parting():
    """A function of two traces: the step at which the second has another token, or stops short."""

    def step(a, b):
        n = min(len(a), len(b))
        other = np.flatnonzero(a.tokens[:n] != b.tokens[:n])
        if len(other):
            return int(other[0])
        return n if b.finish_reason == "failed" and n < len(a) else None

    return step


class RunningKernel:
    """A real kernel, asked as a notebook asks it."""

    def __init__(self, stderr) -> None:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(kernel_name="python3", stderr=stderr)
        self.pid = self.manager.provisioner.process.pid
        # As a browser and more: text that is no text, numbers that are none.
        self.client.session.pack = lambda message: json.dumps(message, default=str).encode()

    def ask(self, kind, content, *, metadata=None, buffers=None, seconds=60):
        """Send a message on the shell channel; what the kernel publishes until it is idle again."""
        message = self.client.session.msg(kind, content, metadata=metadata or {})
        sent = self.client.session.send(self.client.shell_channel.socket, message, buffers=buffers)
        published, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self.client.get_iopub_msg(timeout=max(0.01, end - time.monotonic()))
            published.append(answer)
            ours = answer["parent_header"].get("msg_id") == sent["header"]["msg_id"]
            if ours and answer["content"].get("execution_state") == "idle":
                return published
        raise TimeoutError(f"{kind} kept the kernel busy for {seconds} seconds")

    def run(self, code, cell=None, seconds=120):
        """Run a cell; what it printed. An error fails the test."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        content |= {"allow_stdin": False, "stop_on_error": True}
        metadata = {} if cell is None else {"cellId": cell}
        published = self.ask("execute_request", content, metadata=metadata, seconds=seconds)
        errors = [m["content"]["traceback"] for m in published if m["msg_type"] == "error"]
        assert not errors, "\n".join(errors[0])
        return "".join(m["content"]["text"] for m in published if m["msg_type"] == "stream")

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel without a browser; what it writes to its console is in `kernel.console`."""
    console = tmp_path_factory.mktemp("kernel") / "console"
    with console.open("w") as stderr:
        running = RunningKernel(stderr)
        running.console = console
        yield running
        running.close()


@pytest.fixture(scope="session")
def node() -> str:
    """The path of node."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    return program


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium that Playwright can drive; MULLAMA_LAB_CHROMIUM names another."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = (shutil.which(name) for name in names)
    program = os.environ.get("MULLAMA_LAB_CHROMIUM") or next(filter(None, found), None)
    if program is None:
        pytest.skip("Chromium is not installed")
    return program


@pytest.fixture(scope="session")
def documentation(tmp_path_factory) -> Path:
    """The folder of the documentation as HTML; a warning of the build is an error."""
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("what builds the documentation is not installed: mullama-lab[docs]")
    folder = tmp_path_factory.mktemp("documentation")
    command = (sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", folder / "html")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.fixture
def no_event_loop():
    """Hides the event loop that Playwright keeps running on this thread after browser tests."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(loop)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory) -> Path:
    """A tiny real model file: 259 byte tokens and a ChatML template."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return tiny.write(path, chat_template=tiny.CHATML)


@pytest.fixture(scope="session")
def tiny_model(tiny_path):
    """The model of `tiny_path`."""
    from mullama_lab.engine.model import Model

    with Model.load(tiny_path) as model:
        yield model


@pytest.fixture(scope="session")
def adapter(tmp_path_factory):
    """A LoRA adapter for the tiny model, of rank 2."""
    chance = np.random.default_rng(5)
    pair = chance.normal(size=(2, 32)), chance.normal(size=(64, 2))
    halves = {"blk.0.attn_q.weight": tuple(half.astype(np.float32) for half in pair)}
    path = tmp_path_factory.mktemp("adapter") / "adapter.gguf"
    return LoraAdapter.load(tiny.write_adapter(path, halves))


@pytest.fixture(scope="session")
def smollm2():
    """The default model, which speaks English; fetched into the cache once."""
    from mullama_lab.engine.model import Model

    with Model.load(hub.fetch(hub.DEFAULT_MODEL)) as model:
        yield model

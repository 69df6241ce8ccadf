"""What every test shares: the tools it may need, and the rule about skipping.

A test that needs node or Chromium asks for the fixture `node` or `chromium` (each the path
of the program) and is skipped where there is none. Under MULLAMA_LAB_NO_SKIP=1, which
`.ci/run` sets, whatever is skipped fails instead, so that nothing goes missing silently.

No file is opened in a child process first (MULLAMA_LAB_PROBE=0): the tests write thousands of tiny
files. Those of the probe itself turn it on.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from mullama_lab import hub
from mullama_lab.engine import tiny

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


def pytest_configure(config):
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


@pytest.fixture(scope="session")
def until():
    """A function that waits until a condition holds, and fails when it never does."""

    def wait(condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.001)

    return wait


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
def smollm2():
    """The default model, which speaks English; fetched into the cache once."""
    from mullama_lab.engine.model import Model

    with Model.load(hub.fetch(hub.DEFAULT_MODEL)) as model:
        yield model

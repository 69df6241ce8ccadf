"""A real JupyterLab in a headless Chromium, for the browser benchmark and the browser tests.

with jupyterlab(folder) as server, headless_chromium(path) as browser:
    page = open_notebook(browser, server, ["1 + 1"])
    page.run_cell(0)
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

QUIET_CHROMIUM = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",
]
SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    "notebook-extension/tracker": '{"windowingMode": "defer"}',
}


@dataclass
class Server:
    """A running JupyterLab."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]


@dataclass
class NotebookPage:
    """One notebook, open in the browser."""

    page: Any  # playwright.sync_api.Page
    server: Server
    name: str

    def run_cell(self, index: int, *, wait: bool = True) -> None:
        self.page.evaluate(
            """(index) => {
                const panel = window.jupyterapp.shell.currentWidget;
                panel.content.activeCellIndex = index;
                window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            index,
        )
        if wait:
            self.wait_until_idle()

    def wait_until_idle(self, *, timeout: float = 120) -> None:
        """Wait until no cell is queued or running and every code cell was run as asked."""
        self.page.wait_for_timeout(150)
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp.shell.currentWidget;
                const running = (cell) => cell.model.executionState === 'running';
                const queued = (cell) => cell.promptNode?.textContent.includes('*');
                const busy = panel.content.widgets.some((cell) => running(cell) || queued(cell));
                return !busy && panel.sessionContext.session?.kernel?.status === 'idle';
            }""",
            timeout=timeout * 1000,
        )

    def outputs(self) -> str:
        """What the cells printed, errors included."""
        return "\n".join(self.page.locator(".jp-OutputArea-output").all_inner_texts())

    def close(self) -> None:
        """End the kernel and close the page."""
        self.page.evaluate("window.jupyterapp?.shell.currentWidget?.sessionContext?.shutdown?.()")
        self.page.context.close()


@contextmanager
def jupyterlab(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a JupyterLab on a free port that keeps all it writes in a folder."""
    for name, text in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "work").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ip=127.0.0.1",
        "--allow-root", "--expose-app-in-browser", "--IdentityProvider.token=",
        "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={folder / 'work'}",
    ]  # fmt: skip
    variables = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        **(environment or {}),
    }
    with (folder / "jupyter.log").open("wb") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{port}", folder / "work", process)
    try:
        _wait_for_server(server, folder / "jupyter.log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def headless_chromium(path: str | None) -> Iterator[Any]:
    """A headless Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=QUIET_CHROMIUM)
        yield running
        running.close()


def open_notebook(
    browser: Any,
    server: Server,
    cells: Sequence[str],
    *,
    width: int = 1280,
    height: int = 900,
) -> NotebookPage:
    """Write a notebook with these cells, open it in a browser context of its own."""
    name = new_notebook(server, cells)
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.goto(f"{server.url}/doc/tree/{name}")
    wait_for_kernel(page, name)
    return NotebookPage(page, server, name)


def new_notebook(server: Server, cells: Sequence[str]) -> str:
    """Write a notebook of these cells where JupyterLab finds it; returns its name."""
    name = f"test-{uuid.uuid4().hex[:8]}.ipynb"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, server.folder / name)
    return name


def wait_for_kernel(page: Any, name: str) -> None:
    """Wait until the notebook of this name is open and its kernel idle."""
    page.wait_for_function(
        """(name) => {
            const context = window.jupyterapp?.shell?.currentWidget?.sessionContext;
            return context?.path === name && context.session?.kernel?.status === 'idle';
        }""",
        arg=name,
        timeout=60_000,
    )


def _wait_for_server(server: Server, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{server.url}/api/status", timeout=2)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")

"""A real JupyterLab in a headless Chromium, one of each for all browser tests.

    def test_something(notebook):
        page = notebook(["from mullama_lab... import ...", "TokenStrip(trace)"])
        page.run_all()
        page.view.locator(".mll-token").first.click()

Set MULLAMA_SCREENSHOTS to a folder and `page.picture("name")` puts a PNG there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mullama_lab.bench.jupyter import (
    NotebookPage,
    Server,
    headless_chromium,
    jupyterlab,
    new_notebook,
    open_notebook,
    wait_for_kernel,
)


class PageInTest(NotebookPage):
    """A notebook in the browser, and what a person does to it beside running cells."""

    @property
    def view(self) -> Any:
        """The views in the notebook, by the class that all of them carry."""
        return self.page.locator(".mll")

    def run_all(self, *, wait: bool = True, timeout: float = 120) -> None:
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        if wait:
            self.wait_until_idle(timeout=timeout)

    def dark(self, on: bool = True) -> None:
        theme = "JupyterLab Dark" if on else "JupyterLab Light"
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme
        )
        flag = "false" if on else "true"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{flag}']", state="attached")
        self.page.wait_for_timeout(300)

    def save_and_reload(self) -> None:
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        self.page.wait_for_timeout(500)
        self.page.goto(f"{self.server.url}/doc/tree/{self.name}")
        wait_for_kernel(self.page, self.name)

    def restart_kernel(self) -> None:
        self.page.evaluate(
            "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
        )
        self.wait_until_idle()

    def open_next(
        self, cells: Sequence[str], *, width: int = 1280, height: int = 900
    ) -> PageInTest:
        """A new notebook in the same JupyterLab, in place of this one and its kernel.

        Most of the time that a new page takes is JupyterLab's start.
        """
        name = new_notebook(self.server, cells)
        self.page.context.clear_permissions()
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.mouse.move(0, 0)
        self.page.evaluate(
            """async (path) => {
                const panel = window.jupyterapp.shell.currentWidget;
                await panel.sessionContext.shutdown();
                panel.context.model.dirty = false; // or it asks whether to save
                panel.dispose();
                await window.jupyterapp.commands.execute('docmanager:open', {path});
            }""",
            name,
        )
        wait_for_kernel(self.page, name)
        return PageInTest(self.page, self.server, name)

    @property
    def asks(self) -> bool:
        """Whether a dialog of JupyterLab waits for an answer."""
        return self.page.locator(".jp-Dialog").count() > 0

    def kill_kernel(self) -> None:
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def picture(self, name: str, *, of: str | None = None) -> None:
        folder = os.environ.get("MULLAMA_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            target = self.page.locator(of).first if of else self.page
            target.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with jupyterlab(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    with headless_chromium(chromium) as running:
        yield running


@pytest.fixture(scope="session")
def pages() -> Iterator[list[PageInTest]]:
    """The notebook of the test before, if any: the next one opens in its JupyterLab."""
    last: list[PageInTest] = []
    yield last
    for page in last:
        page.close()


@pytest.fixture
def notebook(jupyter: Server, browser: Any, pages: list[PageInTest]) -> Callable[..., PageInTest]:
    """Open the test's notebook, with a kernel of its own: `notebook([cell, ...], width=1280)`."""

    def open_one(cells: list[str], *, width: int = 1280, height: int = 900) -> PageInTest:
        before = pages.pop() if pages else None
        if before is not None and before.asks:
            before.close()  # a dialog that a test left open would hide the next notebook
            before = None
        if before is None:
            first = open_notebook(browser, jupyter, cells, width=width, height=height)
            pages.append(PageInTest(first.page, first.server, first.name))
        else:
            pages.append(before.open_next(cells, width=width, height=height))
        pages[-1].dark(False)  # JupyterLab keeps the theme of the test before
        return pages[-1]

    return open_one

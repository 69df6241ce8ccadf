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

from mullama_lab.selfbench.jupyter import (
    NotebookPage,
    Server,
    headless_chromium,
    jupyterlab,
    new_notebook,
    open_notebook,
    wait_for_kernel,
)

ROOT = Path(__file__).resolve().parents[2]

# What a kernel runs to be like a new one to the next test of a file.
FORGET = """
get_ipython().reset()
import ipywidgets
ipywidgets.Widget.close_all()
get_ipython().reset()
import gc
gc.collect()
del gc
"""
THREE_FRAMES = """async () => {
    for (let i = 0; i < 3; i++) await new Promise((go) => requestAnimationFrame(go));
}"""
STILL_FOR_TEN_FRAMES = """async (of) => {
    const boxes = () => JSON.stringify(
        [...document.querySelectorAll(of)].map((node) => node.getBoundingClientRect()));
    let [last, still] = ["", 0];
    for (let frames = 0; still < 10; frames++) {
        if (frames > 600) throw new Error(`${of} does not come to rest`);
        await new Promise((go) => requestAnimationFrame(go));
        const now = boxes();
        [last, still] = [now, now === last ? still + 1 : 0];
    }
}"""


class PageInTest(NotebookPage):
    """A notebook in the browser, and what a person does to it beside running cells."""

    file: Path | None = None  # of the test that opened it

    @property
    def view(self) -> Any:
        """The views in the notebook, by the class that all of them carry."""
        return self.page.locator(".mll")

    def run_all(self, *, wait: bool = True, timeout: float = 120) -> None:
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        if wait:
            self.wait_until_idle(timeout=timeout)

    def press(self, *keys: str) -> None:
        """Press keys, with a moment after each in which the page draws what it did."""
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(60)
            self.drawn()

    def drawn(self) -> None:
        """Wait until the page has drawn what it knows, however long a frame takes by now."""
        self.page.evaluate(THREE_FRAMES)

    def run_until(self, cell: int, said: str) -> None:
        """Run a cell until it prints this: the kernel may not have read yet what the page sent."""
        for _ in range(30):
            self.run_cell(cell)
            if said in self.outputs():
                return
        assert said in self.outputs()

    def wait_for_state(self, *states: str, of: str = ".mll-rp", timeout: float = 60) -> None:
        """Wait until the first view of a kind is in one of these states; at most `timeout` s."""
        self.page.wait_for_function(
            "([of, states]) => states.includes(document.querySelector(of)?.dataset.state)",
            arg=[of, list(states)],
            timeout=timeout * 1000,
        )

    def settled(self, of: str = ".mll, .mll > *, .mll > * > *") -> None:
        """Wait until nothing of that kind has moved or changed its size for ten frames."""
        self.page.evaluate(STILL_FOR_TEN_FRAMES, of)

    def wait_until_gone(self, *views: str) -> None:
        """Wait until these views say that their kernel does not answer."""
        self.page.wait_for_function(
            "(views) => views.every((view) => document.querySelector(`${view}[data-gone]`))",
            arg=list(views),
        )

    def dark(self, on: bool = True) -> None:
        flag = "false" if on else "true"
        if self.page.evaluate("document.body.dataset.jpThemeLight") == flag:
            return
        theme = "JupyterLab Dark" if on else "JupyterLab Light"
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme
        )
        self.page.wait_for_selector(f"body[data-jp-theme-light='{flag}']", state="attached")
        self.settled()

    def save(self) -> None:
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        self.page.wait_for_function("!window.jupyterapp.shell.currentWidget.context.model.dirty")

    def save_and_reload(self) -> None:
        self.save()
        self.page.goto(f"{self.server.url}/doc/tree/{self.name}")
        wait_for_kernel(self.page, self.name)

    def restart_kernel(self) -> None:
        self.page.evaluate(
            "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
        )
        self.wait_until_idle()

    def open_next(
        self, cells: Sequence[str], *, same_kernel: bool, width: int = 1280, height: int = 900
    ) -> PageInTest:
        """A new notebook in the same JupyterLab, in place of this one.

        Most of the time that a new page takes is JupyterLab's start, and most of the rest that
        of a kernel.

        Args:
            same_kernel: keep the kernel if it is idle, but none of its names, models and views.
        """
        name = new_notebook(self.server, cells)
        self.page.context.clear_permissions()
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.mouse.move(0, 0)
        self.page.evaluate(
            """async ([path, forget]) => {
                const panel = window.jupyterapp.shell.currentWidget;
                const kernel = panel.sessionContext.session?.kernel;
                const open = {path};
                if (forget && kernel?.status === 'idle') {
                    const run = {code: forget, silent: true, store_history: false};
                    const {content} = await kernel.requestExecute(run).done;
                    if (content.status !== 'ok') throw new Error(content.evalue);
                    open.kernel = kernel.model;
                }
                if (!open.kernel) await panel.sessionContext.shutdown();
                window.jupyterapp.shell.collapseLeft(); // as in a new page
                panel.context.model.dirty = false; // or it asks whether to save
                panel.dispose();
                await window.jupyterapp.commands.execute('docmanager:open', open);
            }""",
            [name, FORGET if same_kernel else ""],
        )
        wait_for_kernel(self.page, name)
        return PageInTest(self.page, self.server, name)

    @property
    def asks(self) -> bool:
        """Whether a dialog of JupyterLab waits for an answer."""
        return self.page.locator(".jp-Dialog").count() > 0

    def kill_kernel(self) -> None:
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.wait_for_function(
            "!window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
        )

    def picture(self, name: str, *, of: str | None = None) -> None:
        folder = os.environ.get("MULLAMA_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            target = self.page.locator(of).first if of else self.page
            target.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # The extension as it is in the checkout: the installed one is a copy of it.
    places = [str(ROOT / "widgets" / "jupyter"), os.environ.get("JUPYTER_PATH", "")]
    environment = {"JUPYTER_PATH": os.pathsep.join(filter(None, places))}
    with jupyterlab(tmp_path_factory.mktemp("jupyter"), environment) as server:
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
def notebook(
    jupyter: Server, browser: Any, pages: list[PageInTest], request: pytest.FixtureRequest
) -> Callable[..., PageInTest]:
    """Open the test's notebook: `notebook([cell, ...], width=1280)`.

    The tests of a file have one kernel as long as it is idle at their ends.
    """

    def open_one(cells: list[str], *, width: int = 1280, height: int = 900) -> PageInTest:
        before = pages.pop() if pages else None
        if before is not None and before.asks:
            before.close()  # a dialog that a test left open would hide the next notebook
            before = None
        if before is None:
            first = open_notebook(browser, jupyter, cells, width=width, height=height)
            pages.append(PageInTest(first.page, first.server, first.name))
        else:
            same_kernel = before.file == request.path
            pages.append(
                before.open_next(cells, same_kernel=same_kernel, width=width, height=height)
            )
        pages[-1].file = request.path
        pages[-1].dark(False)  # JupyterLab keeps the theme of the test before
        return pages[-1]

    return open_one

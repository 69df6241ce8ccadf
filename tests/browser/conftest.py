"""A real JupyterLab in a headless Chromium, one of each for all browser tests.

    def test_something(notebook):
        page = notebook(["from mullama_lab... import ...", "TokenStrip(trace)"])
        page.run_all()
        page.view.locator(".mll-token").first.click()

Set MULLAMA_SCREENSHOTS to a folder and `page.picture("name")` puts a PNG there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mullama_lab.bench.jupyter import (
    NotebookPage,
    Server,
    headless_chromium,
    jupyterlab,
    open_notebook,
)


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with jupyterlab(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    with headless_chromium(chromium) as running:
        yield running


@pytest.fixture(scope="session")
def pages() -> Iterator[list[NotebookPage]]:
    """The notebook of the test before, if any: the next one opens in its JupyterLab."""
    last: list[NotebookPage] = []
    yield last
    for page in last:
        page.close()


@pytest.fixture
def notebook(
    jupyter: Server, browser: Any, pages: list[NotebookPage]
) -> Callable[..., NotebookPage]:
    """Open the test's notebook, with a kernel of its own: `notebook([cell, ...], width=1280)`."""

    def open_one(cells: list[str], *, width: int = 1280, height: int = 900) -> NotebookPage:
        before = pages.pop() if pages else None
        if before is not None and before.asks:
            before.close()  # a dialog that a test left open would hide the next notebook
            before = None
        if before is None:
            pages.append(open_notebook(browser, jupyter, cells, width=width, height=height))
        else:
            pages.append(before.open_next(cells, width=width, height=height))
        pages[-1].dark(False)  # JupyterLab keeps the theme of the test before
        return pages[-1]

    return open_one

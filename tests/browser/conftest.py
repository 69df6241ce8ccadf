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


@pytest.fixture
def notebook(jupyter: Server, browser: Any) -> Iterator[Callable[..., NotebookPage]]:
    """Open a new notebook: `notebook([cell, ...], width=1280, height=900)`."""
    pages: list[NotebookPage] = []

    def open_one(cells: list[str], **options: Any) -> NotebookPage:
        pages.append(open_notebook(browser, jupyter, cells, **options))
        pages[-1].dark(False)  # JupyterLab keeps the theme of the test before
        return pages[-1]

    yield open_one
    for page in pages:
        page.close()

"""The memory map in a real JupyterLab: it fills while a session works, and says its numbers."""

from __future__ import annotations

import pytest

SETUP = """
import mullama_lab as ml
model = ml.Model.load('smollm2-135m')
session = model.session(n_ctx=1024, n_seq_max=3)
view = ml.widgets.MemoryMap(session)
"""
WORK = """
session.logits("Once upon a time, in a house by the river, there was a cat " * 8)
session.fork()
"""
OVERFLOWS = """(views) => views.flatMap((view) => [view, ...view.querySelectorAll('.mll-mm-share')])
    .filter((node) => node.scrollWidth > node.clientWidth + 1).length"""
SIDE_BAR = "window.jupyterapp.commands.execute('filebrowser:activate')"


@pytest.fixture
def page(notebook):
    page = notebook([SETUP, "view", WORK, "session.close()"], width=1400, height=757)
    page.run_cell(0)
    page.run_cell(1)
    page.view.locator(".mll-mm-whole").nth(2).wait_for()
    page.page.evaluate(SIDE_BAR)
    page.settled()
    return page


def shares(page, of):
    """How much of its bar each part takes."""
    return (
        page.view.locator(".mll-mm-whole")
        .nth(of)
        .locator(".mll-sb")
        .evaluate("(bar) => [...bar.children].map((part) => part.offsetWidth / bar.clientWidth)")
    )


def test_each_bar_is_full_and_follows_the_session(page):
    for of in range(3):
        assert sum(shares(page, of)) == pytest.approx(1, abs=0.02)
    cache = page.view.locator(".mll-mm-whole").nth(1)
    assert cache.locator("li").all_inner_texts()[-1].split("\n")[0] == "free"
    assert cache.locator("li").count() == 1
    page.run_cell(2)
    cache.locator("li", has_text="shared").wait_for()
    assert sum(shares(page, 1)) == pytest.approx(1, abs=0.02)
    page.picture("memory-map")
    page.dark()
    page.picture("memory-map-dark")
    page.dark(False)
    page.page.set_viewport_size({"width": 700, "height": 757})
    page.settled()
    page.picture("memory-map-700")
    assert page.view.evaluate_all(OVERFLOWS) == 0


def test_its_numbers_are_a_table_and_a_closed_session_is_said(page):
    page.view.get_by_text("Show as table").click()
    rows = page.view.locator(".mll-table tbody tr")
    assert rows.nth(0).inner_text().split("\t")[:2] == ["Buffers", "weights"]
    page.run_cell(3)
    page.view.locator(".mll-problem", has_text="the session is closed").wait_for()
    assert rows.count() and page.view.first.get_attribute("data-stale") is not None

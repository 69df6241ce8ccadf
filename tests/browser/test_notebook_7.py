"""A lab in Notebook 7, whose pages the same server has: live, saved, and opened again."""

from __future__ import annotations

import pytest

from mullama_lab.selfbench.jupyter import new_notebook

LAB = """
import mullama_lab as ml
from mullama_lab.engine import tiny
lab = ml.Workbench(ml.Model.load(tiny.write("tiny.gguf")), "abc", seed=1, max_tokens=30)
lab
"""
SAID = "30 tokens, mean logprob"


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


def choose(page, menu, entry):
    page.locator(".lm-MenuBar-item", has_text=menu).first.click()
    page.locator(".lm-Menu-item", has_text=entry).first.click()


def test_a_lab_works_in_notebook_7_and_its_saved_picture_shows_without_a_kernel(
    jupyter, page, until
):
    name = new_notebook(jupyter, [LAB])
    page.goto(f"{jupyter.url}/notebooks/{name}")
    page.wait_for_selector(".jp-CodeCell")

    def is_there():  # a kernel that is not yet connected runs nothing
        choose(page, "Run", "Run All Cells")
        page.wait_for_timeout(2000)
        return page.locator(".mll-rp[data-state='idle']").count() == 1

    until(is_there, seconds=60)
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.wait_for_selector(".mll-rp[data-state='finished']")
    page.wait_for_selector(".mll-flow .mll-token >> nth=20", state="attached")

    def is_saved():  # half a second after the end of a run its picture is in the notebook
        page.keyboard.press("Control+s")
        page.wait_for_timeout(300)
        return SAID in (jupyter.folder / name).read_text()

    until(is_saved)
    choose(page, "Kernel", "Shut Down Kernel")
    page.reload()
    page.locator(".jp-RenderedHTML", has_text=SAID).wait_for()
    wrong = page.locator("text=model not found")
    assert not any(wrong.nth(i).is_visible() for i in range(wrong.count()))

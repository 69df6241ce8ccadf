"""BranchLab in a real JupyterLab, with a real model: what a person does with it."""

from __future__ import annotations

import re

import pytest

MODEL = "import mullama_lab as ml\nmodel = ml.Model.load('smollm2-135m')"
LAB = """lab = ml.labs.BranchLab(
    model, "The capital of Turkey is", chain=ml.MinP(0.05) | ml.Temperature(0.8),
    seed=4, max_tokens=16,
)
lab"""
ENDLESS = "lab.set(max_tokens=3000, chain=ml.Mask(ban=range(3)) | ml.MinP(0.05))"
SAID = "print('said:', len(lab.tree), [b.name for b in lab.tree], lab.session.ledger.decoded)"


@pytest.fixture
def lab(notebook):
    def open_lab(*more, **size):
        page = notebook([MODEL, LAB, *more], **size)
        for cell in (0, 1):
            page.run_cell(cell)
        page.page.wait_for_selector(".mll-rp", timeout=30_000)
        page.page.wait_for_selector(".mll-xb")
        return page

    return open_lab


def press(page, name):
    page.page.get_by_role("button", name=name, exact=True).first.click()


def wait_for_state(page, *states, of=".mll-rp", timeout=60):
    page.page.wait_for_function(
        "([of, states]) => states.includes(document.querySelector(of)?.dataset.state)",
        arg=[of, list(states)],
        timeout=timeout * 1000,
    )


def branches(page):
    return page.page.locator(".mll-bt .mll-bt-name input[type=checkbox]")


def wait_for_branches(page, n):
    page.page.wait_for_function(
        "(n) => document.querySelectorAll('.mll-bt .mll-bt-name input[type=checkbox]').length >= n",
        arg=n,
        timeout=30_000,
    )


def run(page):
    press(page, "Run")
    wait_for_state(page, "finished")
    wait_for_branches(page, 1)


def said(page, cell):
    page.run_cell(cell)
    text = page.page.locator(".jp-OutputArea-output:has-text('said:')").last.inner_text()
    return text.split("said:")[1].strip()


def alternatives(page, step):
    """The other tokens of a step, shown by a click on its token."""
    page.page.locator(".mll-strip .mll-flow .mll-token").nth(step).click()
    others = page.page.locator(".mll-card li.mll-alt:not([data-chosen])")
    others.first.wait_for()
    return others


def test_a_click_on_an_alternative_streams_another_branch_into_the_tree(lab):
    page = lab(SAID, width=1280, height=1400)
    run(page)
    before = int(said(page, 2).split()[-1])
    alternatives(page, 0).first.click()
    wait_for_branches(page, 2)
    wait_for_state(page, "finished")
    after = int(said(page, 2).split()[-1])
    assert after - before <= 1 + 16
    page.page.locator(".mll-bt [role=treeitem][aria-selected=true]").wait_for()
    page.picture("branch-lab-two")


def test_a_refused_budget_moves_neither_its_box_nor_the_buttons(lab):
    page = lab()
    boxes = page.page.locator(".mll-xb-bar button, .mll-xb-bar [data-setting=budget] input")
    before = [box.bounding_box() for box in boxes.all()]
    page.page.locator(".mll-xb [data-setting=budget] input").fill("many")
    page.page.keyboard.press("Enter")
    page.page.locator(".mll-xb .mll-problem:has-text('In force')").wait_for()
    assert [box.bounding_box() for box in boxes.all()] == before


def test_enter_branches_and_the_keys_do_the_rest(lab):
    page = lab(SAID, width=1280, height=1400)
    run(page)
    keyboard = page.page.keyboard
    page.page.locator(".mll-strip .mll-flow").focus()
    keyboard.press("Home")
    page.page.locator(".mll-card li.mll-alt").nth(2).wait_for()
    keyboard.press("Enter")  # the token itself, which is there already
    page.page.locator(".mll-card .mll-problem:has-text('has that token already')").wait_for()
    for key in ("ArrowDown", "Enter"):
        keyboard.press(key)
    wait_for_branches(page, 2)
    keyboard.press("Escape")
    page.page.locator(".mll-bt [role=treeitem]").first.focus()
    keyboard.press("End")
    keyboard.press("n")
    page.page.locator(".mll-bt-naming").fill("first try")
    keyboard.press("Enter")
    page.page.locator(".mll-bt-name:has-text('first try')").wait_for()
    keyboard.press("Delete")
    page.page.locator(".mll-bt-name:has-text('first try')").wait_for(state="detached")
    keyboard.press("z")
    page.page.locator(".mll-bt-name:has-text('first try')").wait_for()
    assert "'first try'" in said(page, 2)


def test_exploring_finds_the_likeliest_paths_and_stop_ends_it(lab):
    page = lab("lab.set(budget=2000, length=200)", SAID, width=1280, height=1400)
    run(page)
    page.page.locator(".mll-bt [role=treeitem]").first.click()  # the prompt
    press(page, "Explore")
    wait_for_state(page, "finished", of=".mll-xb")
    wait_for_branches(page, 10)
    text = page.page.locator(".mll-xb [data-said]").inner_text()
    assert re.search(r"Found the \d+ likeliest beginnings, \d+ paths with \d", text), text
    page.picture("branch-lab-explored")
    page.run_cell(2)
    press(page, "Explore")
    wait_for_state(page, "running", of=".mll-xb")
    page.page.wait_for_timeout(600)
    page.page.locator(".mll-xb").get_by_role("button", name="Stop").click()
    wait_for_state(page, "stopped", of=".mll-xb", timeout=5)
    assert "Stopped: the" in page.page.locator(".mll-xb [data-said]").inner_text()
    page.page.get_by_role("button", name="Undo").click()  # one change for all of it


def test_a_branch_while_another_runs_waits_and_stop_ends_both(lab):
    page = lab(ENDLESS, SAID, width=1280, height=1400)
    run(page)
    page.run_cell(2)
    for step in (1, 2):
        alternatives(page, step).first.dblclick()
    page.page.locator(".mll-bt-new").nth(1).wait_for()
    page.picture("branch-lab-two-at-once")
    growing = page.page.locator(".mll-bt-growing").inner_text()
    assert "waiting for the session" in growing and "generating" in growing
    press(page, "Stop")
    wait_for_state(page, "stopped", timeout=10)
    page.page.locator(".mll-bt-new").first.wait_for(state="detached")
    assert said(page, 3).startswith("2 ")  # what never began is no path


def test_a_page_reloaded_in_the_middle_of_a_run_goes_on_with_it(lab):
    page = lab(ENDLESS, SAID, width=1280, height=1400)
    tokens = page.page.locator(".mll-strip .mll-token")
    page.run_cell(2)
    press(page, "Run")
    tokens.nth(20).wait_for()
    page.save_and_reload()
    tokens.nth(20).wait_for()
    assert page.page.locator(".mll-rp").get_attribute("data-state") == "running"
    n_tokens = tokens.count()
    page.page.wait_for_function(
        "(n) => document.querySelectorAll('.mll-strip .mll-token').length > n + 10", arg=n_tokens
    )
    press(page, "Stop")
    wait_for_state(page, "stopped", timeout=10)
    assert said(page, 3).startswith("1 ")


def test_a_restarted_kernel_is_said_and_running_the_cells_again_works(lab):
    page = lab(width=1280, height=1400)
    run(page)
    page.restart_kernel()
    page.page.locator(".mll-xb").hover()
    page.page.locator(".mll-xb >> text=Run the cell again").wait_for(timeout=10_000)
    assert page.page.get_by_role("button", name="Explore").is_disabled()
    page.run_all()
    run(page)
    page.dark(True)
    page.picture("branch-lab-dark")
    page.page.set_viewport_size({"width": 620, "height": 1900})
    page.page.wait_for_timeout(800)
    page.picture("branch-lab-narrow")

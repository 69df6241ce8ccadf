"""The menu that saves a lab and opens one, in a real JupyterLab on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

SETUP = """
import os, tempfile
import mullama_lab as ml
from mullama_lab.engine import tiny
os.chdir(tempfile.mkdtemp())
model = ml.Model.load(tiny.write("tiny.gguf"))
bench = ml.Workbench(model, "Once", seed=1, max_tokens=6, panels=["what-if"])
bench
"""
RUN = "bench.run()"
FILES = "print(sorted(os.listdir()), [run.number for run in bench.panel.runs])"
THEIRS = """
for name in ("theirs.lab", "another.lab"):
    open(name, "w").write("of somebody")
"""
SIZES = "print({name: os.path.getsize(name) for name in sorted(os.listdir()) if 'lab' in name})"
SLOW = """
import time
def slow(name, is_sure, save=bench._lab_files.save):
    while not os.path.exists("go"):
        time.sleep(0.02)
    return save(name, is_sure)
bench._lab_files.save = slow
"""
OPENED = "bench.save('two.lab'); bench.open_file('two.lab')"
LIE = """([opener, menu]) => {
    const [button, box] = [opener, menu].map((one) => document.querySelector(one));
    const [above, under] = [button, box].map((node) => node.getBoundingClientRect());
    return {top: Math.round(above.top), gap: Math.round(under.top - above.bottom)};
}"""
MIDDLES = """(of) => [...document.querySelectorAll(of)]
    .filter((node) => !node.closest('[popover]'))
    .map((node) => node.getBoundingClientRect())
    .map(({top, bottom}) => Math.round((top + bottom) / 2))"""


@pytest.fixture
def page(notebook):
    page = notebook([SETUP, RUN, FILES], width=1400, height=757)
    page.run_cell(0)
    page.page.locator(".mll-pb-files").wait_for()
    page.run_cell(1)
    page.page.get_by_role("button", name="Runs (1)").wait_for()
    return page


def test_a_lab_is_saved_and_opened_by_name(page):
    menu = page.page.locator(".mll-pb-file")
    save, open_ = (menu.get_by_role("button", name=name, exact=True) for name in ("Save", "Open"))
    field, said = menu.locator(".mll-pb-name"), menu.locator(".mll-pb-said")
    page.page.locator(".mll-pb-files").click()
    menu.locator(".mll-pb-folder:not(:empty)").wait_for()
    field.fill("mine")
    page.picture("lab-files")
    save.click()
    said.filter(has_text="Saved 1 run to mine.lab.").wait_for()
    page.run_until(2, "['mine.lab', 'tiny.gguf'] [1]")

    page.run_cell(1)
    page.page.get_by_role("button", name="Runs (2)").wait_for()
    if not menu.is_visible():
        page.page.locator(".mll-pb-files").click()
    field.fill("none")
    open_.click()
    menu.locator(".mll-problem:has-text('none.lab does not exist')").wait_for()
    field.fill("mine")
    open_.click()
    said.filter(has_text="1 run here would be gone").wait_for()
    page.settled()
    page.picture("lab-files-asks")
    open_.click()
    said.filter(has_text="Opened mine.lab: 1 run.").wait_for()
    page.page.get_by_role("button", name="Runs (1)").wait_for()
    page.page.locator(".mll-wi-line:has-text('Restore its settings')").wait_for()
    field.focus()
    page.press("Escape")
    assert not menu.is_visible()
    page.run_until(2, "['mine.lab', 'tiny.gguf'] [1]")
    page.picture("lab-opened", of=".mll-lab")


@pytest.fixture
def bench(notebook):
    """The page of a lab without runs, and what its menu has."""
    page = notebook([SETUP, THEIRS, SIZES, SLOW], width=1400, height=757)
    page.run_cell(0)
    page.page.locator(".mll-pb-files").wait_for()
    page.run_cell(1)
    page.page.locator(".mll-pb-files").click()
    page.page.locator(".mll-pb-folder:not(:empty)").wait_for()
    page.page.wait_for_function("document.activeElement.matches('.mll-pb-name')")
    return page


def test_a_key_that_is_held_and_a_double_click_are_one_press(bench):
    page, menu = bench.page, bench.page.locator(".mll-pb-file")
    field, said = menu.locator(".mll-pb-name"), menu.locator(".mll-pb-said")
    save = menu.get_by_role("button", name="Save", exact=True)
    asks = said.filter(has_text="theirs.lab is there. Press Save again to replace it.")
    for pressed in (field, save):
        field.fill("elsewhere")
        field.fill("theirs")
        pressed.focus()
        page.keyboard.down("Enter")
        asks.wait_for()
        for _ in range(5):
            page.keyboard.down("Enter")
        page.keyboard.up("Enter")
        bench.drawn()
        bench.run_until(2, "{'another.lab': 11, 'theirs.lab': 11}")
        asks.wait_for()
    field.fill("another")
    save.dispatch_event("click", {"detail": 1})
    said.filter(has_text="another.lab is there.").wait_for()
    save.dispatch_event("click", {"detail": 2})
    bench.drawn()
    bench.run_until(2, "{'another.lab': 11, 'theirs.lab': 11}")
    save.click()
    said.filter(has_text="Saved 0 runs to another.lab.").wait_for()


def test_what_was_asked_of_one_name_is_not_done_to_another_one(bench):
    page, menu = bench.page, bench.page.locator(".mll-pb-file")
    field, said = menu.locator(".mll-pb-name"), menu.locator(".mll-pb-said")
    save = menu.get_by_role("button", name="Save", exact=True)
    folder = Path(menu.locator(".mll-pb-folder").inner_text())
    bench.run_cell(3)
    field.fill("theirs")
    field.press("Enter")
    menu.locator("button:disabled").first.wait_for()
    field.fill("another")
    field.press("Enter")
    (folder / "go").touch()
    said.filter(has_text="theirs.lab is there.").wait_for()
    assert page.evaluate("document.activeElement.value") == "another", "it is typed in"
    save.click()
    said.filter(has_text="another.lab is there.").wait_for()
    bench.run_until(2, "{'another.lab': 11, 'theirs.lab': 11}")


def test_a_comparison_goes_with_the_runs_that_it_is_of(notebook):
    page = notebook([SETUP, RUN, OPENED], width=1400, height=757)
    page.run_cell(0)
    page.page.locator(".mll-pb-files").wait_for()
    for n in (1, 2):
        page.run_cell(1)
        page.page.get_by_role("button", name=f"Runs ({n})").wait_for()
    page.page.locator(".mll-rp-past").click()
    for n in (1, 2):
        page.view.get_by_label(f"Compare run {n}", exact=True).check()
    page.page.locator(".mll-rp .mll-cmp-side").nth(1).wait_for()
    page.run_cell(2)
    page.page.locator(".mll-rp .mll-cmp-side").first.wait_for(state="detached")
    assert not page.view.get_by_label("Compare run 1", exact=True).is_checked()
    page.page.get_by_role("button", name="Runs (2)").wait_for()


def test_a_menu_stays_with_its_button_and_closes_where_that_is_out_of_sight(page):
    scroll = "(by) => document.querySelector('.jp-WindowedPanel-outer').scrollBy(0, by)"
    shown = page.page.locator(".mll-export-menu > button:visible").first
    shown.evaluate("(node) => node.parentElement.setAttribute('data-tried', '')")
    for opener, menu in (
        (".mll-pb-files", ".mll-pb-file"),
        ("[data-tried] > button", "[data-tried] > .mll-export"),
    ):
        page.page.evaluate(scroll, -9999)
        page.settled()
        page.page.locator(opener).click()
        page.settled(menu)
        before = page.page.evaluate(LIE, [opener, menu])
        page.page.evaluate(scroll, 40)
        page.drawn()
        after = page.page.evaluate(LIE, [opener, menu])
        assert after["top"] < before["top"] and after["gap"] == before["gap"]
        page.page.evaluate(scroll, 9999)
        page.page.locator(menu).wait_for(state="hidden")


def test_the_menu_stands_in_the_window_at_any_width(page):
    for width in (1400, 700):
        page.page.set_viewport_size({"width": width, "height": 757})
        page.settled()
        page.page.locator(".mll-pb-files").click()
        menu = page.page.locator(".mll-pb-file")
        menu.locator(".mll-pb-folder:not(:empty)").wait_for()
        page.settled(".mll-pb-file")
        box = menu.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["y"] >= 0 and box["y"] + box["height"] <= 757
        page.picture(f"lab-files-{width}")
        page.press("Escape")
        assert not menu.is_visible()
        tabs, others = (
            page.page.evaluate(MIDDLES, of) for of in (".mll-pb-tab", ".mll-pb-line .mll-button")
        )
        assert len(set(tabs)) <= (1 if width == 1400 else 2), "lines of tabs"
        assert max(others) - min(others) < 8, "file and model are in one line"
        assert min(tabs) - 8 < others[0] < max(tabs) + 8, "which is that of the tabs"

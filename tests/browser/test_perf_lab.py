"""PerfLab in a real JupyterLab: time and memory beside each other, while a run goes on."""

from __future__ import annotations

import pytest

CELLS = [
    "import mullama_lab as ml\nmodel = ml.Model.load('smollm2-135m')",
    """lab = ml.labs.PerfLab(model, "Once upon a time", max_tokens=4000, seed=7,
    chain=ml.Mask(ban=range(5)) | ml.Chain.default())
lab""",
]
FITS = ".mll-pl-said > .mll-pl-fresh:has-text('it fits')"
SIDE_BAR = "window.jupyterapp.commands.execute('filebrowser:activate')"


@pytest.fixture
def page(notebook):
    page = notebook(CELLS, width=1400, height=757)
    page.run_all()
    page.page.evaluate(SIDE_BAR)
    page.page.locator(".mll-mm-whole").nth(2).wait_for()
    return page


def test_a_run_is_metered_and_its_tokens_are_timed(page):
    page.page.locator(".mll-rp button[data-main]").click()
    page.page.locator(".mll-me[data-state=running]").wait_for()
    head = page.page.locator(".mll-me-head")
    one_line = head.bounding_box()["height"]
    page.page.locator(".mll-flow .mll-token").nth(49).wait_for(state="attached")
    page.page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_state("stopped")
    page.page.locator(".mll-me[data-state=stopped]").wait_for()
    assert head.bounding_box()["height"] == one_line, "nothing below it moves"
    page.page.locator(".mll-ts-bars > i").nth(39).wait_for()
    page.page.locator(".mll-mm-parts li", has_text="sequence 0").wait_for()
    page.page.mouse.move(5, 5)
    page.page.locator(".mll-lab").first.evaluate("(lab) => lab.scrollIntoView()")
    page.settled()
    page.picture("perf-lab")
    page.dark()
    page.picture("perf-lab-dark")
    page.dark(False)
    page.page.set_viewport_size({"width": 700, "height": 757})
    page.settled()
    page.picture("perf-lab-700")


def test_a_benchmark_is_run_and_shown_as_a_table_and_a_plot(page):
    for key in ("time", "memory", "bench"):
        page.page.locator(f".mll-pb-tab button[data-key={key}]").first.click()
    board = page.page.locator(".mll-bb")
    board.get_by_label("Tests").fill("pp8, tg20000")
    board.get_by_label("Threads", exact=True).fill("1, 2")
    board.get_by_label("Repeats").fill("1")
    board.get_by_role("button", name="Run", exact=True).click()
    board.locator("tbody tr").first.wait_for()
    board.get_by_role("button", name="Stop", exact=True).click()
    page.page.locator(".mll-bb[data-state=stopped]").wait_for()
    assert board.locator("tbody tr").count() == 1 and not board.locator("svg").count()
    board.get_by_label("Tests").fill("pp8, tg4")
    board.get_by_label("Repeats").fill("2")
    page.page.keyboard.press("Control+Enter")
    page.page.locator(".mll-bb[data-state=finished]").wait_for()
    assert board.locator("tbody tr").count() == 4 and board.locator("svg circle").count() == 4
    inside = page.page.locator(".jp-NotebookPanel-notebook").first.bounding_box()
    page.page.locator(".mll-lab").first.evaluate("(lab) => lab.scrollIntoView()")
    for part in (".mll-bb-table", ".mll-bb-plot"):
        box = board.locator(part).bounding_box()
        assert box["y"] + box["height"] <= inside["y"] + inside["height"], part
    page.picture("perf-lab-bench")
    page.dark()
    page.picture("perf-lab-bench-dark")
    page.dark(False)
    page.page.set_viewport_size({"width": 700, "height": 757})
    page.settled()
    page.picture("perf-lab-bench-700")
    board.get_by_label("Threads", exact=True).fill("no")
    page.page.keyboard.press("Control+Enter")
    board.get_by_text("give whole numbers, such as 1, 2").wait_for()


def test_a_setting_that_is_turned_is_planned(page):
    board = page.page.locator(".mll-pl")
    board.locator(FITS).wait_for()
    words = board.locator("h3 span")
    before = words.inner_text()
    board.get_by_label("Plan, n_ctx, exact").fill("8192")
    page.page.keyboard.press("Tab")
    page.page.wait_for_function(
        "(before) => document.querySelector('.mll-pl h3 span').textContent !== before", arg=before
    )
    full = words.inner_text()
    board.get_by_label("kv_type").select_option("q8_0")
    page.page.wait_for_function(
        "(full) => document.querySelector('.mll-pl h3 span').textContent !== full", arg=full
    )
    board.get_by_label("Plan, n_ctx, exact").fill("0")
    board.get_by_text("n_ctx is 0; it must be a whole number from 1 to").wait_for()


BOARD = [
    "import mullama_lab as ml",
    """board = ml.widgets.PlanBoard(n_ctx=1024, kv_type=("q8_0", "f16"))
board.show(ml.studies.planner.plan("smollm2-135m", **board.settings))
board""",
    "board.show(ml.studies.planner.plan('smollm2-135m', **board.settings))",
    "board.fail('there is no such model')",
]


def test_a_plan_of_other_settings_is_dimmed_and_says_so(notebook):
    page = notebook(BOARD, width=1400, height=757)
    page.run_cell(0)
    page.run_cell(1)
    board, types = page.page.locator(".mll-pl"), page.page.get_by_label("kv_type")
    old = board.locator(".mll-pl-old")
    board.locator(FITS).wait_for()
    assert types.evaluate("(pick) => pick.selectedOptions[0].text") == "q8_0 / f16"
    assert not old.is_visible()
    types.select_option("f16")
    old.wait_for()
    board.locator(FITS).wait_for(state="hidden")
    page.picture("plan-board-stale")
    page.page.set_viewport_size({"width": 700, "height": 757})
    page.dark()
    page.settled()
    page.picture("plan-board-stale-dark-700")
    types.select_option("q8_0 / f16")
    board.locator(FITS).wait_for()
    types.select_option("q4_0")
    page.run_cell(2)
    old.wait_for(state="hidden")
    assert board.locator(FITS).is_visible()
    page.run_cell(3)
    board.locator(".mll-problem", has_text="there is no such model").wait_for()
    page.picture("plan-board-failed-dark-700")

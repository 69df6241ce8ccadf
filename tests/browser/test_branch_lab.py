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
ENDLESS = "lab.set(max_tokens=3000, chain=ml.Mask(ban=range(5)) | ml.MinP(0.05))"
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
    page.wait_for_state("finished")
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
    page.wait_for_state("finished")
    after = int(said(page, 2).split()[-1])
    assert after - before <= 1 + 16
    page.page.locator(".mll-bt [role=treeitem][aria-selected=true]").wait_for()
    page.picture("branch-lab-two")


def test_a_row_of_the_card_says_that_it_branches_and_after_it_there_is_a_way_back(lab):
    page = lab(width=1400, height=757)
    run(page)
    text = page.page.locator(".mll-flow").inner_text()
    others = alternatives(page, 0)
    does = others.first.locator(".mll-alt-does")
    assert not does.is_visible() and "branch here" in others.first.get_attribute("title")
    others.first.hover()
    assert does.inner_text() == "branch here" and does.is_visible()
    page.page.mouse.move(5, 5)
    is_own = page.page.locator(".mll-card li.mll-alt").nth(1).get_attribute("data-chosen")
    page.press("ArrowDown", "ArrowDown", *([] if is_own is None else ["ArrowDown"]))
    does = page.page.locator(".mll-card li.mll-alt[aria-selected=true] > .mll-alt-does")
    does.wait_for()
    before = page.page.locator(".mll-xb").bounding_box()
    page.press("Enter")
    said = page.page.locator(".mll-strip-branched")
    said.wait_for()
    assert re.match(r"Branched at step 0: \S+ by hand instead of \S+", said.inner_text())
    assert page.page.locator(".mll-xb").bounding_box() == before
    wait_for_branches(page, 2)
    page.wait_for_state("finished")
    page.page.locator(".mll-strip .mll-flow .mll-token").first.click()
    page.page.locator(".mll-card-head:has-text('chosen by hand (forced), not drawn')").wait_for()
    page.page.locator(".mll-card-why:has-text('It was forced, not drawn')").wait_for()
    page.press("Escape")
    said.get_by_role("button", name="Back").click()
    said.wait_for(state="hidden")
    is_back = "(text) => document.querySelector('.mll-flow').innerText === text"
    page.page.wait_for_function(is_back, arg=text)


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
    keyboard.press("Enter")  # the token itself: its step is looked at
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
    page.wait_for_state("finished", of=".mll-xb")
    wait_for_branches(page, 10)
    line = page.page.locator(".mll-xb [data-said]")
    text = line.inner_text()
    assert re.search(r"Found \d+ paths of 1 to \d tokens, \d", text), text
    assert re.search(r"\d+ of them would go on with more budget", line.get_attribute("title"))
    ended = page.page.locator(".mll-bt .mll-row:has(.mll-g-special:text-is('end of text'))")
    assert "the model ended the text" in ended.first.get_attribute("aria-label")
    page.picture("branch-lab-explored")
    page.run_cell(2)
    press(page, "Explore")
    page.wait_for_state("running", of=".mll-xb")
    page.page.locator(
        "[data-said]", has_text=re.compile("Exploring… ([5-9]|[1-9][0-9])")
    ).wait_for()
    page.page.locator(".mll-xb").get_by_role("button", name="Stop").click()
    page.wait_for_state("stopped", of=".mll-xb", timeout=5)
    assert "Stopped: " in page.page.locator(".mll-xb [data-said]").inner_text()
    page.page.get_by_role("button", name="Undo").click()  # one change for all of it
    page.page.locator(".mll-xb [data-said]:has-text('Finds the likeliest')").wait_for()


def box(locator):
    x, y, width, height = (locator.bounding_box()[side] for side in ("x", "y", "width", "height"))
    return {"left": x, "top": y, "right": x + width, "bottom": y + height}


def explore(page):
    press(page, "Explore")
    page.wait_for_state("finished", of=".mll-xb")
    page.page.locator(".mll-row[data-new]").first.wait_for()


def test_a_prompt_that_is_typed_is_explored_with_the_likeliest_path_in_view_and_first(lab):
    page = lab(width=1400, height=757)
    run(page)
    page.page.locator(".mll-rp-prompt").fill("My favourite animal is the")
    where = page.page.locator(".mll-xb-from")
    page.page.locator(".mll-xb-from:has-text('My favourite')").wait_for()
    wide = "(node) => node.scrollWidth - node.clientWidth"
    assert where.locator(".mll-xb-end").evaluate(wide) == 0
    explore(page)
    rows = page.page.locator(".mll-row")
    assert "My·favourite·animal·is·the" in rows.first.inner_text()
    page.page.locator(".mll-flow:has-text('My favourite animal is the')").wait_for()
    page.settled(".mll-row")
    body, first = box(page.page.locator(".mll-bt-body")), box(rows.nth(1))
    assert body["top"] < first["top"] and first["bottom"] < body["bottom"]
    chances = [
        float(one.inner_text().strip("%"))
        for one in page.page.locator(".mll-row[aria-level='2'] > .mll-bt-first").all()
    ]
    assert len(chances) > 3 and chances == sorted(chances, reverse=True)
    assert page.page.locator(".mll-row .mll-bt-path[title='The likeliest path']").count() == 1
    page.page.locator(".mll-bt .mll-table summary").click()
    page.page.locator(".mll-bt .mll-table td").first.wait_for()
    texts = page.page.locator(".mll-bt .mll-table td:last-child").all_inner_texts()
    assert len(set(texts)) == len(texts) > 10
    assert page.page.locator(".mll-bt-under").evaluate(wide) == 0
    page.picture("branch-lab-typed")


def test_two_paths_are_ticked_one_after_the_other_and_compared_beside_the_tree(lab):
    page = lab(width=1400, height=757)
    run(page)
    page.page.locator(".mll-row").first.click()
    explore(page)
    page.page.evaluate("window.jupyterapp.commands.execute('filebrowser:activate')")
    page.page.locator(".mll-lab").first.evaluate("(lab) => lab.scrollIntoView({block: 'start'})")
    page.settled()
    high = box(page.page.locator(".mll-bt-body"))
    for place in (0, 1):  # a card that lay over the second one would take the click
        at = box(branches(page).nth(place))
        page.page.mouse.move(at["left"] + 5, at["top"] + 5)
        page.page.wait_for_timeout(700)
        page.page.mouse.click(at["left"] + 5, at["top"] + 5)
    page.page.locator(".mll-cmp-side").nth(1).wait_for()
    page.settled()
    now, beside = (box(page.page.locator(part)) for part in (".mll-bt-body", ".mll-bt-compared"))
    assert now["bottom"] - now["top"] >= high["bottom"] - high["top"] - 1 >= 180
    assert beside["left"] > now["right"] and beside["bottom"] - beside["top"] > 180
    page.page.get_by_title("Compare no more").click()
    page.page.locator(".mll-cmp").wait_for(state="detached")
    assert not branches(page).nth(0).is_checked()


def test_a_branch_while_another_runs_waits_and_stop_ends_both(lab):
    page = lab(ENDLESS, SAID, width=1280, height=1400)
    run(page)
    page.run_cell(2)
    for step in (1, 2):
        alternatives(page, step).first.dblclick()
        page.page.locator(".mll-bt-new").nth(step - 1).wait_for()
    page.picture("branch-lab-two-at-once")
    growing = page.page.locator(".mll-bt-growing").inner_text()
    assert "waiting for the session" in growing and "generating" in growing
    press(page, "Stop")
    page.wait_for_state("stopped", timeout=10)
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
    page.wait_for_state("stopped", timeout=10)
    assert said(page, 3).startswith("1 ")


def test_a_restarted_kernel_is_said_and_running_the_cells_again_works(lab):
    page = lab(width=1280, height=1400)
    run(page)
    page.restart_kernel()
    page.page.locator(".mll-xb").hover()
    page.page.locator(".mll-gone:visible >> text=Run the cell again").first.wait_for(timeout=10_000)
    assert page.page.get_by_role("button", name="Explore").is_disabled()
    page.run_all()
    run(page)
    page.dark(True)
    page.picture("branch-lab-dark")
    page.page.set_viewport_size({"width": 620, "height": 1900})
    page.settled()
    page.picture("branch-lab-narrow")


BRANCHED = """
first = lab.trace
lab.set(max_tokens=3)
lab.branch(2, next(int(token) for token in first.top_ids[2] if token != first.tokens[2]));
"""


def test_the_line_above_a_text_is_of_that_text(lab):
    page = lab(BRANCHED, width=1400, height=757)
    run(page)
    line, figures = (page.page.locator(f".mll-rp-{name}").first for name in ("state", "figures"))
    page.run_cell(2)
    figures.locator(":text-is('6 tokens')").wait_for()
    wait_for_branches(page, 2)
    segments = page.page.locator(".mll-bt [role=treeitem]")
    shown = set()
    for n in range(segments.count()):
        segments.nth(n).click()
        page.settled()
        tokens = page.page.locator(".mll-flow .mll-token").count()
        if tokens:
            figures.locator(f":text-is('{tokens} tokens')").wait_for()
        else:
            page.page.locator(".mll-rp-state:text-is('Ready.')").wait_for()
        shown.add(line.inner_text())
        page.picture(f"line-{n}")
    assert shown >= {"Finished: reached max tokens."}
    page.page.get_by_role("button", name="Chat", exact=True).first.click()
    page.page.locator(".mll-rp-state:text-is('Ready.')").wait_for()
    assert not figures.is_visible()
    page.picture("line-chat")
    page.dark(True)
    page.picture("line-chat-dark")

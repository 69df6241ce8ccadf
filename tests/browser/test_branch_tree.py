"""The branch tree in a real JupyterLab: keys, names, pruning, undo, a comparison, a reload."""

from __future__ import annotations

import pytest

SETUP = """
import pathlib, tempfile
from mullama_lab import Mask, Temperature, Tree
from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.widgets import BranchTree
model = Model.load(tiny.write(pathlib.Path(tempfile.mkdtemp()) / "tiny.gguf"))
session = model.session(n_ctx=512)
AB = Mask(allow=[b + 3 for b in b"ab"]) | Temperature(2.0)
tree = Tree(session.generate("x", AB, max_tokens=6, seed=seed) for seed in range(5))
view = BranchTree(tree)
chosen = []
view.on_select(lambda node, trace: chosen.append((node.key, trace.text)))
view
"""
SAID = "print('said:', len(tree), [b.name for b in tree], chosen, view.compared)"

MARKED = "view.select(next(node.key for node in tree.nodes if 4 in node.ends));"


@pytest.fixture
def page(notebook):
    page = notebook([SETUP, SAID, "tree.rename(1, 'from Python')", MARKED])
    page.run_cell(0)
    page.view.locator(".mll-row").first.wait_for()
    return page


def said(page) -> str:
    page.run_cell(1)
    return page.page.locator(".jp-OutputArea-output:has-text('said:')").last.inner_text()


def rows(page):
    return page.view.locator("[role=treeitem]")


def focused(page) -> str | None:
    return page.page.evaluate("document.activeElement.dataset.key ?? null")


def press(page, *names: str) -> None:
    for name in names:
        page.page.keyboard.press(name)


def test_arrows_walk_the_tree_and_fold_it(page) -> None:
    n = rows(page).count()
    rows(page).first.focus()
    keys = [row.get_attribute("data-key") for row in rows(page).all()]
    for key in keys[1:]:
        press(page, "ArrowDown")
        assert focused(page) == key
    press(page, "Home")
    assert focused(page) == "root"
    press(page, "ArrowLeft")
    assert rows(page).count() == 1
    assert rows(page).first.get_attribute("aria-expanded") == "false"
    press(page, "ArrowRight", "End")
    assert rows(page).count() == n and focused(page) == keys[-1]
    assert page.page.locator(".jp-Cell").count() == 4  # no key reached the notebook


def test_enter_selects_a_path_and_one_tab_stop_is_kept(page) -> None:
    rows(page).first.focus()
    press(page, "End", "Enter")
    page.view.locator("[role=treeitem][aria-selected=true]").wait_for()
    assert page.view.locator("[role=treeitem][tabindex='0']").count() == 1
    last = rows(page).last.get_attribute("data-key")
    assert f"('{last}', '" in said(page)


def test_a_branch_is_named_pruned_and_brought_back(page) -> None:
    rows(page).first.focus()
    press(page, "End", "n")
    page.view.locator(".mll-bt-naming").fill("north \u200f")
    press(page, "Enter")
    page.view.locator(".mll-bt-name:has-text('north')").wait_for()
    n = rows(page).count()
    assert focused(page) is not None
    press(page, "Delete")
    page.page.wait_for_function(f"document.querySelectorAll('.mll [role=treeitem]').length < {n}")
    assert focused(page) is not None  # the focus stays in the tree
    assert said(page).startswith("said: 4")
    rows(page).first.focus()
    press(page, "z")
    page.view.locator(".mll-bt-name:has-text('north')").wait_for()
    press(page, "Control+z")
    page.view.locator(".mll-bt-name:has-text('north')").wait_for(state="detached")
    press(page, "Control+y")
    page.view.locator(".mll-bt-name:has-text('north')").wait_for()
    assert "'north \\u200f'" in said(page)


def test_buttons_act_on_the_row_that_is_marked_also_where_python_marked_it(page) -> None:
    name, prune = (page.page.get_by_role("button", name=name) for name in ("Name", "Prune"))
    assert name.is_disabled() and prune.is_disabled()  # nothing is marked
    page.run_cell(3)
    page.view.locator("[role=treeitem][aria-selected=true]:has-text('branch 4')").wait_for()
    name.click()
    page.view.locator(".mll-bt-naming").fill("marked")
    press(page, "Enter")
    page.view.locator(".mll-bt-name:has-text('marked')").wait_for()
    rows(page).first.focus()
    prune.click()
    page.view.locator(".mll-bt-name:has-text('marked')").wait_for(state="detached")
    assert said(page).startswith("said: 4")


def test_headings_stand_above_their_figures(page) -> None:
    page.view.locator(".mll-bt-heads").hover()
    ends = "(node) => Math.round(node.getBoundingClientRect().right)"
    for width in (1280, 700):
        page.page.set_viewport_size({"width": width, "height": 900})
        page.settled()
        for name in ("path", "after", "n"):
            head = page.view.locator(f".mll-bt-heads .mll-bt-{name}")
            cell = page.view.locator(f".mll-row > .mll-bt-{name}").last
            assert abs(head.evaluate(ends) - cell.evaluate(ends)) <= 1


def test_a_name_that_cannot_be_says_why_and_leaves_the_old_one(page) -> None:
    rows(page).first.focus()
    press(page, "End", "F2")
    page.view.locator(".mll-bt-naming").fill("a\u202eb")
    press(page, "Enter")
    page.view.locator(".mll-problem:has-text('U+202E')").wait_for()
    assert "['', '', '', '', '']" in said(page)
    rows(page).last.focus()
    press(page, "n")
    page.view.locator(".mll-bt-naming").fill("never")
    press(page, "Escape")
    assert page.view.locator(".mll-bt-naming").count() == 0 and "never" not in said(page)


def test_branches_are_compared_side_by_side(page) -> None:
    page.page.evaluate(  # faster than any answer
        """() => [1, 2, 3].forEach((n) =>
            document.querySelector(`input[aria-label='Compare branch ${n}']`).click())"""
    )
    page.view.locator(".mll-cmp-side").nth(2).wait_for()
    text = page.view.locator(".mll-cmp").inner_text()
    assert "parts from branch 1 at step" in text
    assert "There the model's chances are the same" in text
    assert page.view.locator(".mll-cmp tr[data-part]").count() == 1
    assert said(page).strip().endswith("[1, 2, 3]")
    page.page.get_by_role("button", name="Undo").wait_for()
    for n in (1, 2):
        page.view.get_by_label(f"Compare branch {n}").click()
    page.view.locator(".mll-cmp").wait_for(state="detached")


def test_what_python_changes_is_seen(page) -> None:
    assert page.page.get_by_role("button", name="Undo").is_disabled()
    page.run_cell(2)
    page.view.locator(".mll-bt-name:has-text('from Python')").wait_for()
    assert page.page.get_by_role("button", name="Undo").is_enabled()


def test_the_keys_are_listed_and_a_gone_kernel_is_said(page) -> None:
    rows(page).first.focus()
    press(page, "?")
    help = page.view.locator(".mll-help")
    assert help.is_visible()
    assert "path\u00a0after\nChance of the whole path from the prompt" in help.inner_text()
    assert "after the chain, in %, or as a power of ten below 0.01%" in help.inner_text()
    press(page, "Escape")
    assert not page.view.locator(".mll-help").is_visible()
    page.picture("branch-tree")
    page.kill_kernel()
    page.page.mouse.move(5, 5)
    page.view.locator(".mll-bt-bar").hover()
    page.view.locator("text=Run the cell again").wait_for(timeout=10_000)
    assert page.page.get_by_role("button", name="Prune").is_disabled()


def test_a_saved_notebook_shows_the_tree_after_a_reload_and_another_run(page) -> None:
    page.save_and_reload()
    page.run_cell(0)
    page.view.locator("[role=treeitem]").first.wait_for(timeout=30_000)
    assert rows(page).count() > 5


BOXED = """
import ipywidgets as W
lines = Mask(allow=[b + 3 for b in b"a\\n"]) | Temperature(2.0)
long = [session.generate("x", lines, max_tokens=120, seed=seed) for seed in range(24)]
boxed = BranchTree(Tree(long[:20]))
boxed.layout.flex, boxed.layout.min_height = "1 1 0", "0"
box = W.VBox([boxed], layout={"height": "250px", "width": "400px"})
box.add_class("mll-fill")
box
"""
MORE = "boxed.tree.add(long[20]); boxed.tree.add(long[21]);"


@pytest.fixture
def panel(notebook):
    page = notebook([SETUP, BOXED, MORE])
    page.run_cell(0)
    page.run_cell(1)
    page.page.locator(".mll-fill .mll-row").first.wait_for()
    return page


def box_of(page, selector: str) -> dict[str, float]:
    return page.page.locator(selector).first.bounding_box()


def bottom(box: dict[str, float]) -> float:
    return box["y"] + box["height"]


def test_in_a_box_that_gives_a_height_rows_scroll_under_their_headings(panel) -> None:
    rows = panel.page.locator(".mll-fill .mll-bt-body")
    assert rows.evaluate("(node) => node.scrollHeight > node.clientHeight + 100")
    assert box_of(panel, ".mll-fill .mll-bt-body")["height"] > 76
    root = box_of(panel, ".mll-fill .mll-bt")
    assert bottom(root) <= bottom(box_of(panel, ".mll-fill")) + 1
    under = box_of(panel, ".mll-fill .mll-bt-under")
    assert under["height"] > 14 and bottom(under) <= bottom(root) + 1
    heads = box_of(panel, ".mll-fill .mll-bt-heads")
    rows.evaluate("(node) => node.scrollTo(0, 200)")
    assert box_of(panel, ".mll-fill .mll-bt-heads") == heads


def test_a_new_path_comes_into_view_inside_the_panel_and_is_marked_for_a_moment(panel) -> None:
    rows = panel.page.locator(".mll-fill .mll-bt-body")
    rows.evaluate("(node) => node.scrollTo(0, node.scrollHeight)")
    scrolled = "() => [...document.querySelectorAll('*')].map((node) => node.scrollTop)"
    before = panel.page.evaluate(f"({scrolled})().reduce((a, b) => a + b)")
    inside = rows.evaluate("(node) => node.scrollTop")
    panel.page.evaluate(  # from Python, without a cell that would be scrolled to
        """(code) => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
            .requestExecute({code})""",
        MORE,
    )
    new = panel.page.locator(".mll-fill .mll-row[data-new]")
    new.first.wait_for()
    panel.settled(".mll-fill .mll-row")  # a smooth scroll
    body = box_of(panel, ".mll-fill .mll-bt-body")
    at = [row.bounding_box() for row in new.all()]  # the likeliest of them is in view
    assert any(body["y"] + 20 <= row["y"] and bottom(row) <= bottom(body) + 1 for row in at)
    moved = rows.evaluate("(node) => node.scrollTop") - inside
    after = panel.page.evaluate(f"({scrolled})().reduce((a, b) => a + b)")
    assert moved and after - before == moved  # nothing else was scrolled
    new.first.wait_for(state="detached", timeout=8000)


def test_newlines_are_marks_on_the_line_of_their_segment(panel) -> None:
    tree_rows = panel.page.locator(".mll-fill .mll-row")
    assert panel.page.locator(".mll-fill .mll-row .mll-g-newline").count() > 20
    heights = {row.bounding_box()["height"] for row in tree_rows.all()}
    assert heights == {26}


def test_the_focus_reads_a_shortened_segment_and_a_heading_as_the_pointer_does(panel) -> None:
    row = panel.page.locator(".mll-fill .mll-row").last
    row.focus()
    tip = panel.page.locator(".mll-fill .mll-bt-tip")
    tip.wait_for()
    assert len(tip.inner_text()) > 100 and "steps " in tip.inner_text()
    press(panel, "Escape")
    tip.wait_for(state="hidden")
    panel.page.locator(".mll-fill .mll-bt-heads button").first.focus()
    panel.page.locator(".mll-fill .mll-bt-tip:has-text('trace[step]')").wait_for()
    press(panel, "ArrowRight", "ArrowRight", "ArrowRight")  # the hidden ones are passed over
    panel.page.locator(".mll-fill .mll-bt-tip:has-text('Chance of the whole path')").wait_for()
    panel.page.locator(".mll-fill .mll-bt-heads .mll-bt-name").hover()
    panel.page.locator(".mll-fill .mll-bt-tip:has-text('compared')").wait_for()


def test_a_card_stands_under_its_segment_lets_clicks_through_and_leaves_with_the_pointer(panel):
    panel.page.set_viewport_size({"width": 1280, "height": 900})
    panel.page.locator(".mll-fill").evaluate("(node) => (node.style.width = '900px')")
    panel.settled()
    tip, rows = (
        panel.page.locator(".mll-fill .mll-bt-tip"),
        panel.page.locator(".mll-fill .mll-row"),
    )
    ticked = rows.filter(has=panel.page.locator("input")).first
    ticked.locator("input").hover()
    panel.page.wait_for_timeout(700)
    assert not tip.is_visible()  # a tick is no segment
    ticked.locator("input").click()
    panel.page.wait_for_timeout(700)
    assert not tip.is_visible()  # nor is its row then the one that is read
    ticked.locator(".mll-bt-text").hover()
    tip.wait_for()
    card, column = tip.bounding_box(), ticked.locator(".mll-bt-name").bounding_box()
    assert card["x"] + card["width"] <= column["x"]
    assert tip.evaluate("(node) => getComputedStyle(node).pointerEvents") == "none"
    panel.page.mouse.move(5, 5)
    tip.wait_for(state="hidden")


def test_a_path_is_marked_from_the_prompt_to_its_end(panel) -> None:
    rows = panel.page.locator(".mll-fill .mll-row")
    rows.last.focus()
    press(panel, "Enter")
    panel.page.locator(".mll-fill .mll-row[data-path=end]").wait_for()
    assert rows.first.get_attribute("data-path") == "on"
    marked = panel.page.locator(".mll-fill .mll-row[data-path]").count()
    assert marked == 1 + int(rows.last.get_attribute("aria-level")) - 1 < rows.count()


def test_a_panel_of_250_pixels_keeps_rows_in_sight_beside_a_comparison(panel) -> None:
    boxes = panel.page.locator(".mll-fill .mll-row input[type=checkbox]")
    for place in (0, 1):
        boxes.nth(place).click()
    panel.page.locator(".mll-fill .mll-cmp").wait_for()
    assert box_of(panel, ".mll-fill .mll-bt-body")["height"] >= 76
    assert box_of(panel, ".mll-fill .mll-bt-compared")["height"] >= 60


def test_a_narrow_page_has_no_bar_to_scroll_it_sideways(panel) -> None:
    panel.page.set_viewport_size({"width": 480, "height": 757})
    panel.settled()
    wide = "(node) => node.scrollWidth - node.clientWidth"
    for selector in ("html", ".mll-fill .mll-bt", ".mll-fill .mll-bt-body"):
        assert panel.page.locator(selector).first.evaluate(wide) == 0, selector


def test_headings_and_what_branches_are_called_are_whole_however_narrow_the_panel_is(panel) -> None:
    cut = """() => [...document.querySelectorAll('.mll-fill :is(.mll-bt-heads button, bdi)')]
        .filter((node) => node.offsetParent && node.scrollWidth > node.clientWidth + 1)
        .map((node) => node.textContent)"""
    for width in (900, 600, 400, 340, 300):
        panel.page.locator(".mll-fill").evaluate(f"(node) => (node.style.width = '{width}px')")
        panel.settled()
        assert panel.page.evaluate(cut) == [], width


def test_a_click_on_a_heading_sorts_siblings_down_then_up_then_not_at_all(page) -> None:
    head = page.view.locator(".mll-bt-heads .mll-bt-path")
    level = "[role=treeitem][aria-level='2']"

    def siblings():
        return [row.get_attribute("data-key") for row in page.view.locator(level).all()]

    def first_of_all():
        return rows(page).first.get_attribute("data-key")

    before = siblings()
    assert len(before) > 1 and head.get_attribute("aria-sort") == "none"
    orders = []
    for how in ("descending", "ascending", "none"):
        head.click()
        page.view.locator(f".mll-bt-heads .mll-bt-path[aria-sort={how}]").wait_for()
        orders.append(siblings())
        assert first_of_all() == "root"
    assert orders[0] == orders[1][::-1] and orders[2] == before
    head.focus()
    press(page, "Enter")
    page.view.locator(".mll-bt-heads .mll-bt-path[aria-sort=descending]").wait_for()
    assert siblings() == orders[0]

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
        page.page.wait_for_timeout(300)
        for place, name in ((5, "path"), (6, "after")):
            head = page.view.locator(f".mll-bt-heads > :nth-child({place - 1})")
            cell = page.view.locator(f".mll-bt-{name}").last
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
    assert "parts from branch 1 at token" in text and "row is the same there" in text
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
    assert page.view.locator(".mll-help").is_visible()
    press(page, "Escape")
    assert not page.view.locator(".mll-help").is_visible()
    page.picture("branch-tree")
    page.kill_kernel()
    page.page.wait_for_timeout(500)
    page.page.mouse.move(5, 5)
    page.view.locator(".mll-bt-bar").hover()
    page.view.locator("text=Run the cell again").wait_for(timeout=10_000)
    assert page.page.get_by_role("button", name="Prune").is_disabled()


def test_a_saved_notebook_shows_the_tree_after_a_reload_and_another_run(page) -> None:
    page.save_and_reload()
    page.run_cell(0)
    page.view.locator("[role=treeitem]").first.wait_for(timeout=30_000)
    assert rows(page).count() > 5

"""The chain editor under a real hand, in a real JupyterLab."""

from __future__ import annotations

import pytest

SETUP = """
from mullama_lab.engine.stages import MinP, Temperature, TopK
from mullama_lab.widgets import ChainEditor
editor = ChainEditor(TopK(40) | MinP(0.05) | Temperature(0.8))
seen = []
editor.observe(lambda change: seen.append(repr(change.new)), "chain")
editor
"""


@pytest.fixture
def page(notebook):
    page = notebook([SETUP, "print('chain:', editor.chain, len(seen))", "editor.set('TopK', k=7)"])
    page.run_cell(0)
    page.view.locator(".mll-ce-card").first.wait_for()
    return page


def chain(page) -> str:
    """The chain that the kernel has, as a cell prints it."""
    page.run_cell(1)
    return page.page.locator(".jp-OutputArea-output:has-text('chain:')").last.inner_text()


def card(page, stage: str):
    return page.view.locator(f".mll-ce-card[data-stage={stage}]")


def stages(page) -> list[str]:
    cards = page.view.locator(".mll-ce-card")
    return [cards.nth(i).get_attribute("data-stage") for i in range(cards.count())]


def test_a_dragged_slider_turns_the_chain_on_the_way_and_ends_where_it_was_left(page) -> None:
    box = card(page, "Temperature").locator("input[type=range]").bounding_box()
    mouse, y = page.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + box["width"] * 0.4, y)
    mouse.down()
    for i in range(20):
        mouse.move(box["x"] + box["width"] * (0.4 + i / 40), y)
        page.page.wait_for_timeout(20)
    mouse.up()
    number = card(page, "Temperature").locator(".mll-box").input_value()
    assert 1.6 < float(number) < 2
    page.page.wait_for_function(
        "(t) => document.querySelector('.mll-ce-code').textContent.includes(`Temperature(${t})`)",
        arg=number,
    )
    text = chain(page)
    assert f"Temperature({number})" in text
    assert int(text.split()[-1]) > 3


def test_a_number_is_typed_and_python_sets_it_back(page) -> None:
    box = card(page, "TopK").locator(".mll-box").first
    box.fill("12")
    box.press("Enter")
    page.view.locator(".mll-ce-code:has-text('TopK(12)')").wait_for()
    page.run_cell(2)
    page.page.wait_for_function("document.querySelector('.mll-ce .mll-box').value === '7'")
    assert "TopK(7)" in chain(page)


def test_a_refused_value_says_why_below_it_and_the_chain_stays(page) -> None:
    box = card(page, "MinP").locator(".mll-box").first
    box.fill("2")
    problem = card(page, "MinP").locator(".mll-problem:has-text('from 0 to 1')")
    problem.wait_for()
    assert "In force: 0.05." in problem.inner_text()
    assert box.get_attribute("aria-invalid") == "true"
    assert box.input_value() == "2"
    assert "MinP(0.05)" in chain(page)
    box.fill("0.2")
    page.view.locator(".mll-ce-code:has-text('MinP(0.2)')").wait_for()
    assert problem.count() == 0


def test_why_a_value_is_refused_stays_when_the_field_is_left(page) -> None:
    box = card(page, "TopK").locator(".mll-box").first
    problem = card(page, "TopK").locator(".mll-problem:has-text('k must be from 0')")
    box.fill("-5")
    problem.wait_for()
    box.press("Tab")
    page.page.wait_for_timeout(300)
    assert box.input_value() == "-5"
    assert problem.is_visible()
    box.fill("12")
    page.view.locator(".mll-ce-code:has-text('TopK(12)')").wait_for()
    assert problem.count() == 0


def test_a_card_moves_once_for_each_press_however_fast(page) -> None:
    card(page, "TopK").locator("input[type=range]").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown"):
        page.page.keyboard.press(f"Alt+{key}")
    page.page.wait_for_timeout(500)
    assert stages(page) == ["MinP", "Temperature", "TopK"]


def test_keys_move_a_card_and_keep_the_focus(page) -> None:
    slider = card(page, "TopK").locator("input[type=range]").first
    slider.focus()
    page.page.keyboard.press("Alt+ArrowDown")
    page.page.wait_for_function(
        "document.querySelectorAll('.mll-ce-card')[1].dataset.stage === 'TopK'"
    )
    page.page.keyboard.press("Alt+ArrowDown")
    page.page.wait_for_function(
        "document.querySelectorAll('.mll-ce-card')[2].dataset.stage === 'TopK'"
    )
    assert slider.evaluate("(node) => node === document.activeElement")
    assert "chain: MinP(0.05) | Temperature(0.8) | TopK(40)" in chain(page)


def test_a_card_is_dragged_by_its_handle(page) -> None:
    grip = card(page, "Temperature").locator(".mll-ce-grip").bounding_box()
    target = card(page, "TopK").bounding_box()
    mouse = page.page.mouse
    mouse.move(grip["x"] + 5, grip["y"] + 5)
    mouse.down()
    mouse.move(grip["x"] + 5, target["y"] + 40, steps=4)
    mouse.move(grip["x"] + 5, target["y"] + 4, steps=4)
    page.picture("chain-drag")
    mouse.up()
    page.page.wait_for_function(
        "document.querySelectorAll('.mll-ce-card')[0].dataset.stage === 'Temperature'"
    )
    assert stages(page) == ["Temperature", "TopK", "MinP"]


def test_stages_are_switched_added_removed_and_reset(page) -> None:
    card(page, "MinP").get_by_role("switch").uncheck()
    card(page, "MinP").locator(".mll-ce-note:has-text('off')").wait_for()
    page.view.get_by_role("combobox", name="Stage to add").select_option("XTC")
    page.view.get_by_role("button", name="Add").click()
    card(page, "XTC").wait_for()
    card(page, "TopK").get_by_role("button", name="Remove Top-k").click()
    card(page, "TopK").wait_for(state="detached")
    assert "chain: Temperature(0.8) | XTC(0.5, 0.1)" in chain(page)
    page.view.get_by_role("button", name="Reset").click()
    card(page, "TopK").wait_for()
    assert "chain: TopK(40) | MinP(0.05) | Temperature(0.8)" in chain(page)


def test_in_the_dark_theme_text_stays_readable(page) -> None:
    page.dark()
    page.picture("chain-dark")
    ink, paper = (
        page.view.locator(".mll-ce-name").first.evaluate(
            "(node, name) => getComputedStyle("
            "name === 'color' ? node : node.closest('.mll-ce-list'))[name]",
            name,
        )
        for name in ("color", "backgroundColor")
    )
    page.dark(False)

    def brightness(rgb: str) -> float:
        return sum(float(x) for x in rgb.strip("rgba()").split(",")[:3]) / 3

    assert brightness(ink) - brightness(paper) > 120


def test_when_the_kernel_is_gone_the_view_says_so(page) -> None:
    page.kill_kernel()
    page.page.wait_for_timeout(500)
    page.view.hover()
    page.view.locator("[data-kind=bad]:has-text('Run the cell again')").wait_for(timeout=10_000)
    assert page.view.get_by_role("button", name="Add").is_disabled()


NAMED = """
import os, tempfile
os.environ["MULLAMA_LAB_CONFIG"] = tempfile.mkdtemp()
"""


def test_a_chain_is_saved_by_keyboard_and_picked_again(notebook) -> None:
    page = notebook([NAMED + SETUP, "print('chain:', editor.chain, len(seen))"], width=1400)
    page.run_cell(0)
    page.view.locator(".mll-ce-card").first.wait_for()
    pick = page.view.get_by_role("combobox", name="Preset")
    assert pick.input_value() == ""
    page.view.get_by_role("button", name="Save as…").press("Enter")
    name = page.view.get_by_role("textbox", name="Name", exact=True)
    assert name.evaluate("(node) => node === document.activeElement")
    save = page.view.locator(".mll-ce-naming button").first
    assert save.is_disabled()
    name.fill("greedy")
    page.view.locator(".mll-problem:has-text('a built-in chain')").wait_for()
    assert save.is_disabled()
    name.fill("a/b")
    name.press("Enter")
    page.view.locator(".mll-problem:has-text('is no name for a chain')").wait_for()
    name.fill("my stories")
    page.picture("chain-naming")
    name.press("Enter")
    name.wait_for(state="hidden")
    page.page.wait_for_function("document.querySelector('.mll-ce-preset').value === 'my stories'")
    pick.select_option("creative-min-p")
    page.view.locator(".mll-ce-code:has-text('Temperature(1.5)')").wait_for()
    assert "chain: MinP(0.1) | Temperature(1.5)" in chain(page)
    pick.select_option("my stories")
    page.view.locator(".mll-ce-code:has-text('TopK(40)')").wait_for()
    assert "chain: TopK(40) | MinP(0.05) | Temperature(0.8)" in chain(page)
    page.view.get_by_role("button", name="Save as…").click()
    name.fill("my stories")
    assert save.inner_text() == "Replace"
    name.press("Escape")
    name.wait_for(state="hidden")
    page.picture("chain-presets")
    page.dark()
    page.view.get_by_role("button", name="Save as…").click()
    page.picture("chain-naming-dark")
    page.dark(False)

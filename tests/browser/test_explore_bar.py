"""The explore bar in a real JupyterLab: its line, its buttons, what is behind the question mark."""

from __future__ import annotations

from itertools import pairwise

import pytest

SETUP = """
from mullama_lab.widgets import ExploreBar
bar = ExploreBar(note="Runs and branches are drawn by: MinP(0.05).")
def start(bar):
    bar.state, bar.found = "running", {"expanded": 20, "prefixes": 12, "leaves": 7, "mass": 0.4,
        "shortest": 1, "longest": 3, "open": 5}
bar.on_explore(start)
bar.on_stop(lambda bar: setattr(bar, "state", "stopped"))
bar.on_trim(lambda bar: setattr(bar, "room", [90, 4096]))
bar.room, bar.origin = [312, 4096], "The capital of Turkey is"
bar
"""
FULL = "bar.room = [5120, 4096]"
WIDTH = "bar.layout.width = '720px'"
NARROW = "bar.layout.width = '400px'"
PROMPT = """bar.origin, bar.prompt = '', 'My favourite is'
bar.state, bar.found = 'finished', {'expanded': 64, 'prefixes': 64, 'leaves': 47, 'mass': 0.3,
    'shortest': 1, 'longest': 5, 'open': 40}"""
WIDE = "bar.layout.width = '960px'"


@pytest.fixture
def page(notebook):
    page = notebook([SETUP, FULL, WIDTH, NARROW, PROMPT, WIDE])
    page.run_cell(0)
    page.view.locator(".mll-xb-room").wait_for()
    return page


def lines(page) -> int:
    """On how many lines the controls stand, by their middles."""
    middles = """() => [...document.querySelectorAll(
        '.mll-xb-asked > *, .mll-xb-told > *, .mll-xb-bar > button')]
        .filter((node) => node.offsetParent && node.offsetWidth)
        .map((node) => node.getBoundingClientRect())
        .map((box) => box.top + box.height / 2)
        .sort((a, b) => a - b)"""
    found = page.page.evaluate(middles)
    return 1 + sum(b - a > 8 for a, b in pairwise(found))


def test_it_is_one_line_from_720_pixels_on_and_two_below_also_when_the_tree_is_too_large(page):
    page.run_cell(1)
    page.view.get_by_role("button", name="Trim").wait_for()
    for cell, n in ((2, 1), (3, 2)):
        page.run_cell(cell)
        page.settled()
        assert lines(page) == n
        wide = "(node) => node.scrollWidth - node.clientWidth"
        assert page.page.locator(".mll-xb-bar").evaluate(wide) == 0
    page.view.get_by_role("button", name="Trim").click()
    page.view.locator(".mll-xb-room:has-text('90 of 4,096 tokens')").wait_for()
    assert page.view.get_by_role("button", name="Trim").count() == 0


def test_explore_and_stop_have_one_place_that_keeps_the_focus(page):
    explore = page.view.get_by_role("button", name="Explore", exact=True)
    before = explore.bounding_box()
    explore.focus()
    page.page.keyboard.press("Enter")
    stop = page.view.get_by_role("button", name="Stop")
    stop.wait_for()
    assert stop.bounding_box() == before and explore.count() == 0
    page.page.keyboard.press("Enter")
    explore.wait_for()
    assert page.page.evaluate("document.activeElement.textContent") == "Explore"
    said = page.view.locator("[data-said]")
    assert said.inner_text() == "Stopped: 7 paths of 1 to 3 tokens, 40.0% of the probability."
    assert "Stopped: the 12 likeliest" in said.get_attribute("title")


def test_what_the_line_has_no_room_for_is_behind_its_question_mark(page):
    assert not page.view.locator("text=Runs and branches are drawn by").is_visible()
    about = page.view.get_by_role("button", name="About exploring")
    about.focus()
    page.page.keyboard.press("Enter")
    text = page.view.locator(".mll-xb-help").inner_text()
    for said in ("Explores from: The capital of Turkey is", "312 of 4,096 tokens", "MinP(0.05)"):
        assert said in text
    page.page.keyboard.press("Escape")
    assert not page.view.locator(".mll-xb-help").is_visible()


def test_where_it_goes_on_from_is_read_before_what_was_found(page):
    end = page.view.locator(".mll-xb-end")
    wide = "(node) => node.scrollWidth - node.clientWidth"
    assert page.view.locator(".mll-xb-from").inner_text() == "from:\nThe capital of Turkey is"
    page.run_cell(1)
    page.run_cell(2)
    page.run_cell(4)
    page.view.locator(".mll-xb-from:has-text('from the prompt:')").wait_for()
    page.settled()
    box, said = end.bounding_box(), page.view.locator("[data-said]").bounding_box()
    assert box["width"] > 50  # its end at least
    assert box["x"] + box["width"] <= said["x"] + 1
    page.run_cell(5)
    page.settled()
    assert end.evaluate(wide) == 0
    assert page.view.locator(".mll-xb-from").inner_text() == "from the prompt:\nMy favourite is"

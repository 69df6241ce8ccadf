"""The time strip in a real JupyterLab: bars, a brush by hand and by keys, and what it sums up."""

from __future__ import annotations

import pytest

SETUP = """
import mullama_lab as ml
model = ml.Model.load('smollm2-135m')
session = model.session(n_ctx=1024)
chain = ml.Mask(ban=range(5)) | ml.Chain.default()
trace = session.generate("Once upon a time", chain, max_tokens=80, seed=7)
found = ml.studies.timing.timing(trace)
strip = ml.widgets.TimeStrip(found)
"""
SAID = "print(strip.chosen, len(found.between(strip.chosen[0], strip.chosen[1] + 1)))"
# How many pixels a bar's height is off its share of the scale, and the largest share.
HEIGHTS = """(bars) => {
    const share = (bar) => Number(bar.style.getPropertyValue('--mll-share'));
    const off = (bar) => Math.abs(bar.offsetHeight - Math.max(1, share(bar) * bars.clientHeight));
    const all = [...bars.children];
    return [Math.max(...all.map(off)), Math.max(...all.map(share))];
}"""
SIDE_BAR = "window.jupyterapp.commands.execute('filebrowser:activate')"


@pytest.fixture
def page(notebook):
    page = notebook([SETUP, "strip", SAID], width=1400, height=757)
    page.run_cell(0)
    page.run_cell(1)
    page.view.locator(".mll-ts-bars > i").nth(79).wait_for()
    page.page.evaluate(SIDE_BAR)
    page.settled()
    return page


def at_step(page, step):
    """The middle of its bar on the screen."""
    box = page.view.locator(".mll-ts-bars > i").nth(step).bounding_box()
    return box["x"] + box["width"] / 2, page.view.locator(".mll-ts-bars").bounding_box()["y"] + 20


def test_a_brush_sums_up_the_steps_that_it_goes_over(page):
    said = page.view.locator(".mll-br-said")
    assert said.inner_text() == "steps 0–79"
    page.picture("time-strip")
    page.page.mouse.move(*at_step(page, 20))
    page.view.locator(".mll-br-said", has_text="step 20: ").wait_for()
    page.page.mouse.down()
    page.page.mouse.move(*at_step(page, 39), steps=4)
    page.page.mouse.up()
    page.view.locator(".mll-ts-lines", has_text="tg20 @ d").wait_for()
    page.run_until(2, "[20, 39] 20")
    page.page.mouse.move(5, 5)
    page.page.wait_for_function(
        "() => document.querySelector('.mll-br-said').textContent === 'steps 20–39'"
    )
    page.picture("time-strip-brushed")
    page.dark()
    page.picture("time-strip-dark")
    page.dark(False)
    page.page.set_viewport_size({"width": 700, "height": 757})
    page.settled()
    page.picture("time-strip-700")
    assert page.view.first.evaluate("(view) => view.scrollWidth <= view.clientWidth + 1")


def test_the_ends_of_a_brush_go_by_keys_and_bars_have_the_height_of_their_time(page):
    first = page.view.get_by_role("slider", name="Time, first step")
    last = page.view.get_by_role("slider", name="Time, last step")
    first.focus()
    page.press("ArrowRight", "ArrowRight")
    last.focus()
    page.press("ArrowLeft")
    assert first.get_attribute("aria-valuenow") == "2"
    assert "decode" in last.get_attribute("aria-valuetext")
    page.run_until(2, "[2, 78] 77")
    off, highest = page.view.locator(".mll-ts-bars").evaluate(HEIGHTS)
    assert off < 2 and highest == pytest.approx(1, abs=0.01), "the highest reaches the scale"
    page.view.get_by_text("Show as table").click()
    assert page.view.locator(".mll-table tbody tr").count() == 80

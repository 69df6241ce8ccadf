"""What a person reads about a run that is over: what would have kept a token, and what if."""

from __future__ import annotations

import re
from contextlib import suppress

LAB = """import mullama_lab as ml
lab = ml.labs.SamplerLab(
    ml.Model.load("smollm2-135m"), "The capital of Turkey is the city of", seed=14, max_tokens=24,
    chain=ml.Penalties(repeat=1.1) | ml.TopK(40) | ml.MinP(0.05) | ml.Temperature(0.8),
)
lab"""


def text(page, selector, pattern):
    from playwright.sync_api import TimeoutError

    with suppress(TimeoutError):
        page.page.wait_for_function(
            "([selector, pattern]) => new RegExp(pattern).test("
            "document.querySelector(selector)?.innerText ?? '')",
            arg=[selector, pattern],
            timeout=30_000,
        )
    said = page.page.locator(selector).first.inner_text()
    assert re.search(pattern.replace("[^]", r"[\s\S]"), said)
    return said


def test_after_a_run_the_lab_says_what_would_have_been_otherwise(notebook):
    page = notebook([LAB], width=1280, height=1700)
    page.run_cell(0)
    page.page.wait_for_selector(".mll-nt >> text=Ank", timeout=30_000)
    page.page.locator(".mll-nt tbody tr").nth(3).hover()
    text(page, ".mll-nt-why", "MinP.* would keep it at p ≤ 0.0")

    page.page.mouse.move(0, 0)
    page.page.locator(".mll-nt tbody tr[tabindex='0']").focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowDown")
    spoken = ".mll-nt > .mll-spoken[role=status]"
    text(page, spoken, "rank 3, .* before .* would keep it at p ≤ 0.0")

    page.page.get_by_role("button", name="Show What if beside").click()
    page.page.get_by_role("button", name="Run").first.click()
    text(page, ".mll-wi", "none of [0-9]+ choices differs")
    text(page, ".mll-wi-flips", "Temperature t at 0.8 changes 0 of [0-9]+")
    assert len(re.findall("changed [0-9]+ of", text(page, ".mll-wi", "Penalties[^]*changed"))) == 4

    slider = page.page.locator(".mll-ce input[type=range][aria-label^='Temperature']").first
    slider.focus()
    for _ in range(60):
        page.page.keyboard.press("ArrowRight")
    text(page, ".mll-wi-flips", "at 1.4 changes [1-9]")
    text(page, ".mll-wi-line", "choices differ, the first at step")
    page.picture("what-if-light")

    plot = page.page.locator(".mll-wi-plot")
    plot.focus()
    page.page.keyboard.press("End")
    page.page.keyboard.press("ArrowLeft")
    assert re.match(r"step \d+ .* stays the choice with t", page.page.inner_text(".mll-wi-told"))
    assert page.page.locator(".mll-wi-bar[data-at]").count() == 1
    assert plot.get_attribute("role") == "group"
    text(page, ".mll-wi > .mll-spoken[role=status]", "step [0-9]+ .* stays the choice with t")

    page.page.locator(".mll-flow .mll-token").first.click()
    text(page, ".mll-card-why", "fell into this token's share")
    for _ in range(2):  # from the token itself, of rank 1
        page.page.keyboard.press("ArrowDown")
    text(page, ".mll-card-why", "MinP.* would keep it at p ≤ 0.0")


BENCH = LAB.replace("ml.labs.SamplerLab(", "ml.Workbench(").replace(
    "seed=14", "panels=['what-if'], seed=14"
)


def test_alone_it_has_its_lever_in_view_and_a_token_under_each_bar(notebook):
    page = notebook([BENCH], width=1400, height=757)
    page.run_cell(0)
    page.page.get_by_role("button", name="Run").first.click()
    text(page, ".mll-wi-flips", "Temperature t at 0.8 changes 0 of [0-9]+")
    page.page.locator(".mll-lab").first.evaluate("(lab) => lab.scrollIntoView()")
    page.settled()
    inside = page.page.locator(".jp-NotebookPanel-notebook").first.bounding_box()
    for part in (".mll-wi-turn input", ".mll-wi-plot", ".mll-wi-names"):
        box = page.page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] < inside["y"] + inside["height"], part
    bars, names = page.page.locator(".mll-wi-bar"), page.page.locator(".mll-wi-names > span")
    assert bars.count() == names.count() > 8
    for place in (0, bars.count() - 1):
        bar, name = bars.nth(place).bounding_box(), names.nth(place).bounding_box()
        assert abs(bar["x"] - name["x"]) <= 2 and name["y"] > bar["y"]
        assert names.nth(place).inner_text().strip("· ") != ""

    page.page.locator(".mll-wi-turn input[type=range]").focus()
    page.press(*["ArrowRight"] * 6)
    text(page, ".mll-wi-flips", "Temperature t at (0.[89]|1)[0-9.]* changes")
    page.page.locator(".mll-wi-varied").select_option(label="MinP p")
    text(page, ".mll-wi-flips", "MinP p at 0.05 changes")
    assert page.page.locator(".mll-wi-turn .mll-box").input_value() == "0.05"
    page.page.get_by_role("button", name="Show Samplers beside").click()
    page.page.locator(".mll-ce:visible").first.wait_for()
    assert not page.page.locator(".mll-wi-turn").is_visible()  # its slider is beside it
    assert page.page.locator(".mll-wi-varied").is_visible()

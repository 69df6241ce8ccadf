"""What a person reads about a run that is over: what would have kept a token, and what if."""

from __future__ import annotations

import re

LAB = """import mullama_lab as ml
lab = ml.labs.SamplerLab(
    ml.Model.load("smollm2-135m"), "The capital of Turkey is the city of", seed=14, max_tokens=24,
    chain=ml.Penalties(repeat=1.1) | ml.TopK(40) | ml.MinP(0.05) | ml.Temperature(0.8),
)
lab"""


def text(page, selector, pattern):
    page.page.wait_for_function(
        "([selector, pattern]) => new RegExp(pattern).test("
        "document.querySelector(selector)?.innerText ?? '')",
        arg=[selector, pattern],
        timeout=30_000,
    )
    return page.page.locator(selector).first.inner_text()


def test_after_a_run_the_lab_says_what_would_have_been_otherwise(notebook):
    page = notebook([LAB], width=1280, height=1700)
    page.run_cell(0)
    page.page.wait_for_selector(".mll-nt >> text=Ank", timeout=30_000)
    page.page.locator(".mll-nt tbody tr").nth(3).hover()
    assert "would keep it at p ≤ 0.0" in text(page, ".mll-nt-why", "MinP")

    page.page.mouse.move(0, 0)
    page.page.locator(".mll-nt tbody tr[tabindex='0']").focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowDown")
    text(page, ".mll-nt > .mll-spoken[role=status]", "number 4 before .* would keep it at p ≤ 0.0")

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
    text(page, ".mll-card-why", "choose it")
    for _ in range(4):
        page.page.keyboard.press("ArrowDown")
    text(page, ".mll-card-why", "MinP.* would keep it at p ≤ 0.0")

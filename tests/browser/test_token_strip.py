"""The token strip in a real JupyterLab, on a tiny model that llama.cpp runs."""

from __future__ import annotations

import pytest

SETUP = """
import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.widgets.token_strip import TokenStrip
model = ml.Model.load(tiny.write("tiny.gguf", n_ctx_train=8192))
session = model.session(n_ctx=8192, n_threads=1)
trace = session.generate("Once upon", ml.TopK(40) | ml.Mask(ban=[2]), max_tokens=60, seed=1)
strip = TokenStrip(trace, title="a strip")
heard = []
_ = strip.on_choose(lambda step, token: heard.append((step, token)))
"""
RUN = """
run = session.start("Hello you", ml.Mask(ban=[2]), max_tokens={n}, seed=2)
following = TokenStrip(run=run)
following
"""


@pytest.fixture
def strip(notebook):
    page = notebook([SETUP, "strip", "print(heard)"])
    page.run_cell(0)
    page.run_cell(1)
    page.tokens = page.view.locator(".mll-flow .mll-token")
    page.tokens.nth(59).wait_for(state="attached")
    page.card = page.page.locator(".mll-card")
    page.flow = page.view.locator(".mll-flow")
    return page


def press(page, *names):
    for name in names:
        page.page.keyboard.press(name)
        page.page.wait_for_timeout(60)


def cells(page):
    return page.page.locator(".jp-Notebook .jp-Cell").count()


def test_hover_shows_alternatives_before_and_after_the_chain(strip):
    strip.tokens.nth(3).hover()
    rows = strip.card.locator("li.mll-alt")
    rows.nth(20).wait_for(state="attached")
    assert "step 4 of 60" in strip.card.inner_text()
    assert "left by each stage: TopK(40) 40" in strip.card.inner_text()
    assert "all other tokens" in strip.card.inner_text()
    assert rows.locator(".mll-alt-p").all_inner_texts()[0].endswith("%")
    assert "out" in rows.locator(".mll-alt-p").all_inner_texts()
    strip.picture("strip-hover")


def test_the_keyboard_does_what_the_mouse_does(strip):
    before = cells(strip)
    strip.flow.focus()
    press(strip, "Home", "ArrowRight", "ArrowRight")
    selected = strip.view.locator(".mll-token[aria-selected='true']")
    assert "step 3 of 60" in selected.get_attribute("aria-label")
    assert strip.flow.get_attribute("aria-activedescendant") == selected.get_attribute("id")
    strip.card.locator("li.mll-alt").first.wait_for()
    press(strip, "ArrowDown", "ArrowDown", "Enter")
    press(strip, "e")
    assert strip.view.locator(".mll-tabs [aria-pressed='true']").inner_text() == "Entropy"
    press(strip, "Escape")
    assert not strip.card.is_visible()
    press(strip, "?")
    assert strip.view.locator(".mll-help").is_visible()
    press(strip, "Escape", "End")
    assert "step 60 of 60" in selected.get_attribute("aria-label")
    assert cells(strip) == before
    strip.run_cell(2)
    assert strip.outputs().strip().splitlines()[-1].startswith("[(2, ")


def test_keys_that_the_strip_does_not_use_reach_the_notebook(strip):
    before = cells(strip)
    strip.flow.focus()
    press(strip, "b")  # in command mode: a cell below
    assert cells(strip) == before + 1


def test_a_click_holds_the_card_and_an_alternative_can_be_chosen(strip):
    strip.tokens.nth(5).click()
    strip.card.locator("li.mll-alt").nth(1).click()
    strip.page.mouse.move(5, 5)
    strip.page.wait_for_timeout(500)
    assert strip.card.is_visible()
    strip.run_cell(2)
    assert "[(5, " in strip.outputs()


def test_colours_are_different_in_light_and_dark_and_follow_the_layer(strip):
    def colours():
        return strip.view.locator(".mll-strip-scale .mll-token").evaluate_all(
            "(nodes) => nodes.map((node) => getComputedStyle(node).backgroundColor)"
        )

    strip.dark(False)
    light = colours()
    strip.picture("strip-light")
    strip.dark()
    dark = colours()
    strip.picture("strip-dark")
    strip.view.get_by_role("button", name="Time").click()
    assert len(set(light)) == len(set(dark)) == 6
    assert set(light[1:]).isdisjoint(dark[1:])
    assert set(colours()[1:]).isdisjoint(dark[1:])
    assert "1× is" in strip.view.locator(".mll-strip-says").inner_text()


def test_a_narrow_page_has_nothing_that_sticks_out(strip):
    strip.page.set_viewport_size({"width": 420, "height": 900})
    strip.page.wait_for_timeout(400)
    strip.picture("strip-narrow")
    assert strip.view.first.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    strip.tokens.nth(8).hover()
    strip.card.wait_for()
    box = strip.card.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 420


def test_text_streams_in_and_the_end_is_known_after_a_reload(notebook):
    page = notebook([SETUP, RUN.format(n=400), "print(run.wait().tokens.tolist()[-1])"])
    page.run_cell(0)
    page.run_cell(1)
    tokens = page.view.locator(".mll-flow .mll-token")
    tokens.nth(2).wait_for(state="attached")
    page.page.get_by_text("ended at the length asked for").wait_for(timeout=60_000)
    assert tokens.count() == 400
    assert page.view.locator(".mll-flow-prompt").inner_text() == "<s>Hello you"
    page.save_and_reload()
    page.view.locator(".mll-strip-foot", has_text="400 tokens").wait_for(timeout=30_000)
    assert page.view.locator(".mll-flow .mll-token").count() == 400


def test_thousands_of_tokens_change_their_colours_at_once(notebook):
    page = notebook([SETUP, RUN.format(n=5000)])
    page.run_cell(0)
    page.run_cell(1)
    page.page.get_by_text("5,000 tokens").wait_for(timeout=120_000)
    page.page.get_by_text("ended at the length asked for").wait_for(timeout=60_000)
    spent = page.page.evaluate(
        """async () => {
            const times = [];
            for (const layer of ['entropy', 'probability', 'rank', 'surprise', 'entropy']) {
                const start = performance.now();
                document.querySelector(`.mll-strip [data-layer=${layer}]`).click();
                document.querySelector('.mll-flow').getBoundingClientRect();
                times.push(performance.now() - start);
                await new Promise((done) => setTimeout(done, 100));
            }
            return times.sort((a, b) => a - b);
        }"""
    )
    assert spent[2] < 50
    assert page.view.locator(".mll-flow-block").count() > 5


def test_a_dead_kernel_is_noticed_and_said(strip):
    strip.kill_kernel()
    strip.page.wait_for_timeout(500)
    strip.view.first.hover(position={"x": 5, "y": 5})
    strip.page.get_by_text("The kernel does not answer. Run the cell again to go on.").wait_for()
    assert strip.view.locator(".mll-tabs button").first.is_disabled()
    strip.picture("strip-gone")


def test_a_failure_stands_in_the_strip(notebook):
    bad = "TokenStrip(run=session.start('a', ml.Custom(lambda logits, history: logits[:3])))"
    page = notebook([SETUP, bad])
    page.run_cell(0)
    page.run_cell(1)
    page.view.locator(".mll-note:visible").wait_for()
    assert "(3,)" in page.view.locator(".mll-note:visible").inner_text()


def test_details_are_answered_while_a_cell_runs(notebook):
    page = notebook([SETUP, "strip", "import time; time.sleep(12)"])
    page.run_cell(0)
    page.run_cell(1)
    tokens = page.view.locator(".mll-flow .mll-token")
    tokens.nth(59).wait_for(state="attached")
    page.run_cell(2, wait=False)
    page.page.wait_for_timeout(1000)
    tokens.nth(7).hover()
    page.page.locator("li.mll-alt").first.wait_for(timeout=3000)
    assert "[*]" in page.page.locator(".jp-InputPrompt").nth(2).inner_text()

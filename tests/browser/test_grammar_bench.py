"""The grammar bench under a real hand, in a real JupyterLab."""

from __future__ import annotations

import re

import pytest

SETUP = """
import mullama_lab as ml
model = ml.Model.load({tiny!r})
lab = ml.labs.GrammarLab(model, "Hello", seed=3, max_tokens=6)
lab.grammar_bench.grammar = 'root ::= "{{" [a-c]+ "}}"'
lab
"""


ENDS = "(nodes) => nodes.map((node) => node.getBoundingClientRect().right)"


@pytest.fixture
def page(notebook, tiny_path):
    page = notebook(
        [SETUP.format(tiny=str(tiny_path)), "print('chain:', lab.chain)"], width=1400, height=757
    )
    page.run_cell(0)
    page.page.locator(".mll-gb-input").wait_for()
    return page


def half(page, n):
    return page.page.locator(".mll-gb-half").nth(n)


def test_a_grammar_is_typed_and_a_text_is_put_to_it(page):
    half(page, 1).locator(".mll-gb-sample").fill("{ax")
    said = half(page, 1).locator(".mll-gb-said")
    half(page, 1).locator(".mll-gb-said:has-text('found `x`')").wait_for()
    assert half(page, 1).locator(".mll-gb-rest").inner_text() == "x"
    code = page.page.locator(".mll-gb-input")
    code.fill('root ::= "{" [a-c]+ "}"\nlost ::= "a')
    half(page, 0).locator(".mll-gb-problem:has-text('line 2')").wait_for()
    assert half(page, 0).locator("[data-wrong]").count() == 1
    code.fill('root ::= "{" [a-x]+ "}"\nlost ::= "a"')
    half(page, 0).locator(".mll-gb-warnings :text('lost')").wait_for()
    half(page, 1).locator(".mll-gb-said:not([data-bad])").wait_for()
    assert said.inner_text().startswith("A beginning.")
    half(page, 0).locator(".mll-gb-go").click()
    assert code.evaluate("node => node.selectionStart") == 24, "the caret is at the warning"


def test_steps_examples_and_the_run_that_keeps_to_it(page):
    half(page, 1).locator(".mll-gb-sample").click()
    page.press("Alt+ArrowRight")
    page.page.wait_for_function("() => document.querySelector('.mll-gb-sample').value === '{'")
    half(page, 1).locator(".mll-gb-chip").first.click()
    half(page, 1).locator(".mll-gb-token").nth(1).wait_for()
    page.press("Alt+ArrowLeft", "Alt+ArrowLeft")
    page.page.wait_for_function("() => document.querySelector('.mll-gb-sample').value === ''")
    half(page, 1).locator("button:text-is('Example')").click()
    half(page, 1).locator(".mll-gb-said:has-text('Complete')").wait_for()
    half(page, 1).locator(".mll-gb-sample").click()
    page.press("Control+Enter")
    half(page, 0).locator(".mll-switch:checked").wait_for()
    page.run_until(1, "Constrain(Grammar.gbnf(")
    half(page, 0).locator("button:text-is('Run both')").click()
    page.page.locator(".mll-rp-drawer .mll-cmp, .mll-rp-drawer table").first.wait_for()
    page.page.locator(".mll-rp-past:text-is('Runs (2)')").wait_for()
    assert page.page.locator(".mll-rp-drawer input:checked").count() == 2
    beside = page.page.locator(".mll-rp-drawer .mll-cmp")
    cost = beside.locator(".mll-cmp-cost")
    cost.wait_for()
    number = re.match(r"run ([12]): the grammar cost ", cost.inner_text())[1]
    free, bound = (beside.locator(f"tbody tr:first-child td:nth-child({n})") for n in (2, 3))
    assert bound.locator(".mll-cmp-removed").inner_text().endswith("%")
    assert free.locator(".mll-cmp-removed").count() == 0
    heads = beside.locator("thead th").all_inner_texts()
    other = {"1": "2", "2": "1"}[number]  # the two are numbered as they end
    assert heads[1:] == [f"run {other} chance", f"run {number} chance KL removed"]
    for column in ("p", "kl", "removed"):
        ends = beside.locator(f"tr > :nth-child(3) .mll-cmp-{column}").evaluate_all(ENDS)
        assert len(ends) > 2 and max(ends) - min(ends) < 2, "a figure ends under its heading"
    page.picture("both-with-tax")


@pytest.mark.parametrize("width, height", [(1400, 757), (1280, 720), (1000, 700)])
def test_the_grammar_and_what_it_says_are_in_view_together(page, width, height):
    half(page, 1).locator(".mll-gb-sample").fill("{a")
    half(page, 1).locator(".mll-gb-chip").first.wait_for()
    page.page.set_viewport_size({"width": width, "height": height})
    page.page.locator(".mll-lab").first.evaluate("n => n.scrollIntoView({block: 'start'})")
    names = [".mll-gb-input", ".mll-gb-sample", ".mll-gb-said", ".mll-gb-chip"]
    boxes = page.page.evaluate(
        """(names) => names.map((name) => {
            const {top, bottom} = document.querySelector(name).getBoundingClientRect();
            return [top, bottom];
        })""",
        names,
    )
    for name, (top, bottom) in zip(names, boxes):
        assert 0 <= top < bottom <= height, name
    wide = page.page.locator(".mll-gb").evaluate("n => n.scrollWidth - n.clientWidth")
    assert wide <= 0


def test_the_head_of_the_text_is_one_line_in_a_narrow_window(page):
    page.page.set_viewport_size({"width": 700, "height": 757})
    page.settled()
    buttons = half(page, 1).locator("header .mll-button:not([popover] *)").all()
    tops = [button.bounding_box()["y"] for button in buttons]
    assert len(tops) == 6 and max(tops) - min(tops) < 8


def test_what_the_grammar_cost_is_a_layer_of_the_text(page):
    strip = page.page.locator(".mll-strip")
    layer = strip.locator("[data-layer=grammar]")
    foot = strip.locator(".mll-strip-foot")
    run = page.page.get_by_role("button", name="Run", exact=True)
    run.click()
    page.wait_for_state("finished")
    strip.locator(".mll-strip-foot:has-text('mean logprob')").wait_for()
    assert layer.is_hidden() and "grammar" not in foot.inner_text()
    page.page.locator(".mll-gb-half .mll-switch").first.check()
    page.run_until(1, "Constrain(Grammar.gbnf(")
    run.click()
    strip.locator(".mll-strip-foot:has-text('grammar cost')").wait_for()
    assert " nats " in foot.inner_text() and " at token " in foot.inner_text()
    strip.locator("summary").click()
    strip.locator("th:text-is('grammar cost')").wait_for()
    strip.locator("tbody tr:first-child td:last-child:has-text(' nats')").wait_for()
    page.picture("strip-grammar-table")
    strip.locator("summary").click()
    layer.click()
    strip.locator("[data-layer=grammar][aria-pressed=true]").wait_for()
    first = strip.locator(".mll-flow .mll-token").first
    strip.locator(".mll-flow .mll-token[data-level=violet-5]").first.wait_for()
    assert strip.locator(".mll-strip-says").inner_text().endswith("in nats")
    first.click()
    card = page.page.locator(".mll-card-aside:has-text('the grammar removed ')")
    card.wait_for()
    assert "the grammar removed" in first.get_attribute("aria-label")
    page.picture("strip-grammar")
    page.press("Escape", "p")
    strip.locator("[data-layer=probability][aria-pressed=true]").wait_for()
    page.press("g")
    strip.locator("[data-layer=grammar][aria-pressed=true]").wait_for()
    page.page.locator(".mll-gb-half .mll-switch").first.uncheck()
    run.click()
    strip.locator("[data-layer=probability][aria-pressed=true]").wait_for()
    page.wait_for_state("finished")
    assert layer.is_hidden() and "grammar" not in foot.inner_text()


def test_which_alternatives_the_texts_tried_use(page):
    code, text = page.page.locator(".mll-gb-input"), half(page, 1).locator(".mll-gb-sample")
    assert not half(page, 0).locator(".mll-gb-tried").is_visible(), "nothing was tried"
    code.fill('root ::= letter+\nletter ::= "a" | "b" | "c"')
    half(page, 0).locator(".mll-gb-about:has-text('2 rules')").wait_for()
    text.fill("ab")
    tried = half(page, 0).locator(
        ".mll-gb-tried:has-text('1 text tried: 3 of 4 alternatives used')"
    )
    tried.wait_for()
    tried.locator("button:text-is('letter ::= \"c\"')").click()
    assert code.evaluate("node => node.selectionStart") == 17, "the caret is at the rule"
    text.fill("c")
    half(page, 0).locator(".mll-gb-tried:has-text('2 texts tried: 4 of 4')").wait_for()
    assert tried.locator("button").count() == 0
    page.picture("tried")


def test_a_starter_is_begun_with_and_a_mistake_holds_the_run_back(page):
    left, code = half(page, 0), page.page.locator(".mll-gb-input")
    left.locator(".mll-gb-start:text-is('JSON Schema')").click()
    asks = left.locator(".mll-gb-start:text-is('Replace what is written?')")
    asks.wait_for()
    assert "[a-c]" in code.input_value()
    asks.click()
    left.locator(".mll-gb-about:text-is('JSON Schema')").wait_for()
    left.locator(".mll-switch").check()
    code.fill("apple, pear\n" + "plum, " * 60 + "plum")
    problem = left.locator('.mll-gb-problem:has-text(\'put words in quotes: "apple" | "pear"\')')
    problem.wait_for()
    assert problem.locator("strong").inner_text().startswith("Nothing runs until")
    page.page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_state("failed")
    assert "nothing ran" in page.page.locator(".mll-rp-state").inner_text()
    lines = left.locator(".mll-gb-line")
    heights = [lines.nth(i).bounding_box()["height"] for i in range(2)]
    assert heights[0] < 20 < heights[1], "a long line is broken"
    assert code.evaluate("n => n.scrollWidth <= n.clientWidth")
    under = left.locator(".mll-gb-under").evaluate("n => n.scrollHeight")
    assert code.evaluate("n => n.scrollHeight") == under, "both layers break it alike"


def test_what_the_grammar_would_have_forbidden_of_a_free_text_is_a_layer_of_the_strip(page):
    page.page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_state("finished")
    strip = page.page.locator(".mll-strip")
    tab = strip.locator("[data-layer=forbidden]")
    tab.wait_for()
    assert strip.locator("[data-layer=tokenizer]").is_hidden()
    tab.click()
    strip.locator("[data-layer=forbidden][aria-pressed=true]").wait_for()
    strip.locator(".mll-strip-foot:has-text('would have been forbidden')").wait_for()
    assert "by the grammar written here" in strip.locator(".mll-strip-says").inner_text()
    text = strip.locator(".mll-flow .mll-token")
    strip.locator(".mll-flow .mll-token[data-level^=violet]").first.wait_for()
    assert strip.locator(".mll-flow .mll-token[data-level=unknown]").count() == 0
    page.picture("forbidden")
    text.first.click()
    page.page.locator(".mll-card:has-text('forbidden: expected `{`')").wait_for()
    page.dark()
    page.picture("forbidden-dark")
    page.dark(False)
    page.press("Escape")
    page.page.set_viewport_size({"width": 700, "height": 757})
    page.settled()
    page.picture("forbidden-narrow")
    page.page.locator(".mll-gb-input").fill('root ::= "#"')
    strip.locator(".mll-strip-foot:has-text('expected `#`')").wait_for()

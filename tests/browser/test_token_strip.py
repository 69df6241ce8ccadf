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

SLOW = """
import time
from mullama_lab.widgets import _columns
at_once = _columns.details
_columns.details = lambda *about: time.sleep(0.8) or at_once(*about)
"""
LISTEN = "wishes = []; _ = strip.on_bias(lambda token, change: wishes.append((token, change)))"
BIASED = """
above = trace[0].top[38][0]
print(wishes[0] == (trace.tokens[0], -float("inf")), wishes[1] == (above, 1.0), len(wishes))
"""
BIASED_BY_BUTTON = """
third = trace[5].top[2][0]
print(wishes == [(third, -float("inf")), (third, 1.0)])
"""


@pytest.fixture
def strip(notebook):
    page = notebook([SETUP, "strip", "print(heard)", LISTEN, BIASED, BIASED_BY_BUTTON])
    page.run_cell(0)
    page.run_cell(1)
    page.tokens = page.view.locator(".mll-flow .mll-token")
    page.tokens.nth(59).wait_for(state="attached")
    page.card = page.page.locator(".mll-card")
    page.flow = page.view.locator(".mll-flow")
    return page


def cells(page):
    return page.page.locator(".jp-Notebook .jp-Cell").count()


def test_hover_shows_alternatives_before_and_after_the_chain(strip):
    strip.tokens.nth(3).hover()
    rows = strip.card.locator("li.mll-alt")
    rows.nth(20).wait_for(state="attached")
    assert "step 3" in strip.card.inner_text()
    assert "left by each stage: TopK(40) 40" in strip.card.inner_text()
    assert "all other tokens" in strip.card.inner_text()
    assert rows.locator(".mll-alt-p").all_inner_texts()[0].endswith("%")
    assert "out" in rows.locator(".mll-alt-p").all_inner_texts()
    strip.picture("strip-hover")


def test_a_card_that_was_shown_twice_keeps_the_alternative_that_a_key_marked(notebook):
    page = notebook([SETUP, SLOW, "strip", "_columns.details = at_once"])
    for cell in range(3):
        page.run_cell(cell)
    token = page.view.locator(".mll-flow .mll-token").nth(3)
    token.hover()
    page.page.wait_for_selector(".mll-card")
    token.click()  # the kernel has not answered yet
    page.page.wait_for_selector("li.mll-alt")
    page.press("ArrowDown", "ArrowDown")
    page.page.wait_for_timeout(1200)  # a second answer would be there by now
    marked = page.page.locator(".mll-card li[aria-selected='true']")
    assert marked.locator(".mll-alt-rank").inner_text() == "41"  # the token's own is 39
    page.run_cell(3)


def test_the_arrows_start_at_the_token_that_was_chosen_and_the_list_opens_there(strip):
    chosen = strip.card.locator("li.mll-alt[data-chosen]")
    marked = strip.card.locator("li.mll-alt[aria-selected='true'] .mll-alt-rank")
    for step, rank in [(0, 39), (5, 4)]:  # the first is below what the list shows from its top
        strip.tokens.nth(step).click()
        strip.page.wait_for_function(
            "rank => document.querySelector('.mll-alt[data-chosen] .mll-alt-rank')?.innerText"
            " === rank",
            arg=str(rank),
        )
        rows, row = strip.card.locator(".mll-alts").bounding_box(), chosen.bounding_box()
        assert rows["y"] <= row["y"] and row["y"] + row["height"] <= rows["y"] + rows["height"]
        assert not marked.count()
        strip.press("ArrowUp")
        assert marked.inner_text() == str(rank - 1)
        strip.press("ArrowDown", "ArrowDown")
        assert marked.inner_text() == str(rank + 1)
        strip.picture(f"strip-card-rank-{rank}")


def test_the_keyboard_does_what_the_mouse_does(strip):
    before = cells(strip)
    strip.flow.focus()
    strip.press("Home", "ArrowRight", "ArrowRight")
    selected = strip.view.locator(".mll-token[aria-selected='true']")
    assert "step 2," in selected.get_attribute("aria-label")
    assert strip.flow.get_attribute("aria-activedescendant") == selected.get_attribute("id")
    strip.card.locator("li.mll-alt").first.wait_for()
    strip.press("ArrowDown", "ArrowDown", "Enter")
    strip.press("e")
    assert strip.view.locator(".mll-tabs [aria-pressed='true']").inner_text() == "Entropy"
    strip.press("Escape")
    assert not strip.card.is_visible()
    strip.press("?")
    assert strip.view.locator(".mll-help").is_visible()
    strip.press("Escape", "End")
    assert "step 59," in selected.get_attribute("aria-label")
    assert cells(strip) == before
    strip.run_cell(2)
    assert strip.outputs().strip().splitlines()[-1].startswith("[(2, ")


def test_keys_that_the_strip_does_not_use_reach_the_notebook_unless_they_write_or_run(strip):
    before = cells(strip)
    strip.flow.focus()
    strip.press("a")  # in command mode: a cell above
    assert cells(strip) == before
    strip.press("Alt+Enter")  # runs the cell and puts one below
    assert cells(strip) == before
    strip.press("Control+Shift+c")  # the list of all commands
    strip.page.locator("#modal-command-palette").wait_for()
    strip.press("Escape")


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
    strip.settled()
    strip.picture("strip-narrow")
    assert strip.view.first.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    strip.tokens.nth(8).hover()
    strip.card.wait_for()
    box = strip.card.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 420


RECTANGLES = """async () => {
    // a card that has grown takes its place before the next frame is drawn
    for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
    const box = (node) => node.getBoundingClientRect().toJSON();
    const card = document.querySelector('.mll-card');
    const token = document.querySelector('.mll-flow .mll-token[aria-selected=true]');
    const shown = card.matches(':popover-open') && card.style.visibility !== 'hidden';
    return {shown, card: box(card), token: box(token), wide: innerWidth, high: innerHeight};
}"""


def must_stand_beside(page, where):
    """The card of the marked token covers nothing of it and lies inside the window.

    It follows its token from frame to frame, and on a busy machine a frame takes its time.
    """
    for _ in range(10):
        found = page.page.evaluate(RECTANGLES)
        if stands_beside(**found):
            return
        page.page.wait_for_timeout(50)
    assert stands_beside(**found), (where, found)


def stands_beside(*, shown, card, token, wide, high):
    beside = card["bottom"] <= token["top"] or card["top"] >= token["bottom"]
    across = card["left"] >= 0 and card["right"] <= wide
    inside = card["top"] >= 0 and card["bottom"] <= high and card["height"] > 150
    return shown and beside and across and inside


@pytest.mark.parametrize("size", [(1400, 757), (700, 757), (1400, 420)])
def test_the_card_stands_beside_its_token_inside_the_window(notebook, size):
    many = "\n".join(["strip.explain_with(lambda trace, step, token: 'a remark')", "strip"])
    page = notebook([SETUP, "print('above\\n' * 12)", many, "print('below\\n' * 40)"])
    page.page.set_viewport_size({"width": size[0], "height": size[1]})
    for cell in range(4):
        page.run_cell(cell)
    tokens = page.view.locator(".mll-flow .mll-token")
    tokens.nth(59).wait_for(state="attached")
    page.view.locator(".mll-flow").focus()
    for key, step in (("Home", 0), ("End", 59), ("ArrowLeft", 58)):
        page.press(key)
        must_stand_beside(page, f"{key} at once")  # before the kernel has said the rest
        page.page.locator("li.mll-alt").nth(8).wait_for()
        page.page.locator(".mll-card-why:has-text('a remark')").wait_for()  # comes last
        page.settled(".mll-card")
        must_stand_beside(page, f"{key} filled")
        page.picture(f"strip-card-{size[0]}-{size[1]}-{step}")
    for by in (-120, 60, 60, 60, 60):
        page.page.evaluate(
            "(by) => document.querySelector('.jp-WindowedPanel-outer').scrollBy(0, by)", by
        )
        page.page.wait_for_timeout(150)
        page.drawn()
        if page.page.evaluate(RECTANGLES)["shown"]:
            must_stand_beside(page, f"scrolled by {by}")
    page.page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollBy(0, 3000)")
    page.page.wait_for_timeout(150)
    page.drawn()
    assert not page.page.evaluate(RECTANGLES)["shown"], "its token is out of sight"


def test_text_streams_in_and_the_end_is_known_after_a_reload(notebook):
    page = notebook([SETUP, RUN.format(n=400), "print(run.wait().tokens.tolist()[-1])"])
    page.run_cell(0)
    page.run_cell(1)
    tokens = page.view.locator(".mll-flow .mll-token")
    tokens.nth(2).wait_for(state="attached")
    page.page.locator(".mll-strip-foot:has-text('reached max tokens')").wait_for(timeout=60_000)
    assert tokens.count() == 400
    assert page.view.locator(".mll-flow-prompt").inner_text() == "<s>Hello you"
    page.save_and_reload()
    page.view.locator(".mll-strip-foot", has_text="400 tokens").wait_for(timeout=30_000)
    assert page.view.locator(".mll-flow .mll-token").count() == 400


def test_thousands_of_tokens_change_their_colours_at_once(notebook):
    page = notebook([SETUP, RUN.format(n=5000)])
    page.run_cell(0)
    page.run_cell(1)
    page.page.locator(".mll-strip-foot:has-text('5,000 tokens')").wait_for(timeout=120_000)
    page.page.locator(".mll-strip-foot:has-text('reached max tokens')").wait_for(timeout=60_000)
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
    page.page.locator(".jp-InputPrompt:has-text('[*]')").wait_for()
    tokens.nth(7).hover()
    page.page.locator("li.mll-alt").first.wait_for(timeout=3000)
    assert "[*]" in page.page.locator(".jp-InputPrompt").nth(2).inner_text()


def test_buttons_of_the_row_at_hand_ban_its_token_and_favour_it_and_move_nothing(strip):
    rows, acts = strip.card.locator("li.mll-alt"), strip.card.locator(".mll-bias")
    strip.tokens.nth(5).click()
    rows.nth(8).wait_for()
    assert not acts.is_visible()  # nobody would hear it
    strip.run_cell(3)
    strip.page.wait_for_function("document.querySelector('.mll-flow')")
    strip.tokens.nth(0).click()
    strip.tokens.nth(5).click()
    acts.wait_for()
    own = strip.card.locator("li.mll-alt[data-chosen]").bounding_box()
    assert abs(acts.bounding_box()["y"] - own["y"]) < 2  # the token's own, at first
    before = [rows.nth(i).bounding_box() for i in range(7)]
    rows.nth(2).hover()
    strip.page.locator("li.mll-alt:nth-child(3)[data-hand]").wait_for()
    ban = acts.get_by_role("button", name="Ban ")
    assert ban.get_attribute("title").endswith("(b)")
    assert [rows.nth(i).bounding_box() for i in range(7)] == before
    strip.picture("strip-card-buttons")
    ban.click()
    strip.card.locator(".mll-card-why:has-text('banned. Run writes the text anew.')").wait_for()
    acts.get_by_role("button", name="Favour ").click()
    strip.card.locator(".mll-card-why:has-text('favoured')").wait_for()
    strip.run_cell(5)
    assert strip.outputs().strip().splitlines()[-1] == "True"


def test_one_key_bans_the_token_or_favours_the_alternative_that_is_marked(strip):
    before = cells(strip)
    strip.flow.focus()
    strip.press("Home")
    rows = strip.card.locator("li.mll-alt")
    rows.nth(1).wait_for()
    strip.press("b")
    strip.card.get_by_text("nothing listens to bias").wait_for()
    strip.run_cell(3)
    strip.flow.focus()
    strip.press("Home")
    rows.nth(1).wait_for()
    strip.press("b")
    said = strip.card.locator(".mll-card-why")
    said.get_by_text("banned").wait_for()
    assert said.locator("b").inner_text() == strip.card.locator(".mll-card-piece").inner_text()
    strip.press("ArrowUp", "f")  # from rank 39
    strip.card.get_by_text("favoured").wait_for()
    assert said.locator("b").inner_text() == rows.nth(38).locator(".mll-alt-piece").inner_text()
    strip.press("Escape", "b")  # no card, no token
    strip.run_cell(4)
    assert strip.outputs().strip().splitlines()[-1] == "True True 2"
    assert cells(strip) == before

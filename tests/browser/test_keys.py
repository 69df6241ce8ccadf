"""Keys in a real JupyterLab: what is typed in a view stays there, chords reach the notebook."""

from __future__ import annotations

import pytest

SETUP = """
import pathlib, tempfile
import ipywidgets, numpy as np
import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.widgets import ChainEditor, ModelPicker, PanelBar, RankBoard, RunPanel, TokenStrip
from mullama_lab.widgets import NextToken
model = ml.Model.load(tiny.write(pathlib.Path(tempfile.mkdtemp()) / "tiny.gguf"))
session = model.session(n_ctx=512, n_threads=1)
trace = session.generate("Once", ml.TopK(40), max_tokens=30, seed=1)
panel, chat = RunPanel("Once", seed=1), RunPanel("")
chat.messages, chat.chat = [{"role": "user", "content": "hi"}], True
board = RankBoard(searchable=True)
strip, next_token = TokenStrip(trace), NextToken()
next_token.show((ml.TopK(9) | ml.Temperature(1)).preview(
    np.linspace(0, 9, model.n_vocab, dtype=np.float32), model=model))
wishes, ran = [], []
for view in (strip, next_token):
    view.on_bias(lambda token, change: wishes.append((token, change)))
for view in (panel, chat):
    view.on_run(lambda p: ran.append(p.messages[-1]["content"] if p.chat else p.prompt))
bar = PanelBar({"one": "One", "two": "Two"}, "one")
"""
SHOW = "ipywidgets.VBox([{}])"
FIELDS = [
    (".mll-rp-prompt", "once"),
    (".mll-rp-say", "hi"),
    ("[data-setting=stop_strings] input", ""),
    ("[data-setting=seed] input", ""),
    (".mll-rp-turn select", ""),
    (".mll-ce .mll-box", ""),
    (".mll-ce .mll-range", ""),
    (".mll-ce-naming .mll-field", ""),
    (".mll-rb-query", "what"),
    (".mll-mp-file input", "nowhere"),
]


@pytest.fixture
def page(notebook):
    def show(*views):
        page = notebook([SETUP, SHOW.format(", ".join(views)), "1 + 1"], width=1400, height=757)
        page.run_cell(0)
        page.run_cell(1)
        page.view.first.wait_for()
        return page

    return show


def notebook_now(page):
    """The cells and how often each ran; a key that reached JupyterLab changes them."""
    return page.page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets.map(
            (cell) => `${cell.model.id} ${cell.model.executionCount}`)"""
    )


def press(page, *names):
    for name in names:
        page.page.keyboard.press(name)
        page.page.wait_for_timeout(80)
        page.drawn()


def said(page, code):
    """What the kernel says of an expression."""
    page.page.evaluate(
        """(code) => {
            const { content } = window.jupyterapp.shell.currentWidget;
            content.widgets.at(-1).model.sharedModel.setSource(code);
        }""",
        code,
    )
    page.run_cell(page.page.evaluate("jupyterapp.shell.currentWidget.content.widgets.length") - 1)
    return page.page.locator(".jp-Cell").last.locator(".jp-OutputArea-output").inner_text()


def focused_view(page):
    return page.page.evaluate("Boolean(document.activeElement.closest('.mll'))")


def test_enter_in_a_field_runs_no_cell_and_loses_no_focus(page):
    page = page("panel", "chat", "board", "ModelPicker()", "ChainEditor(ml.Temperature(0.7))")
    page.page.get_by_role("button", name="Save as…").click()
    before = notebook_now(page)
    wrong = []
    for selector, text in FIELDS:
        field = page.page.locator(selector).locator("visible=true").first
        field.scroll_into_view_if_needed()
        field.focus()
        if text:
            field.fill(text)
        for name in ("Shift+Enter", "Alt+Enter", "Enter", "Control+Enter", "ArrowDown"):
            field.focus()
            press(page, name)
            if notebook_now(page) != before or not focused_view(page):
                wrong.append((selector, name))
                before = notebook_now(page)
    assert not wrong


BUTTONS = (
    ".mll-rp-past", ".mll-rp-go [data-main]", ".mll-pb-tab button", ".mll-ce-name",
    ".mll-ce-line .mll-switch", ".mll-strip .mll-tabs button", ".mll-flow",
    ".mll-nt tbody tr[tabindex='0']", "summary",
)  # fmt: skip


def test_enter_on_a_button_presses_it_and_runs_no_cell(page):
    page = page("bar", "panel", "strip", "next_token", "ChainEditor(ml.Temperature(0.7))")
    before = notebook_now(page)
    wrong = []
    for selector in BUTTONS:
        button = page.page.locator(selector).locator("visible=true").first
        for name in ("Shift+Enter", "Control+Enter", "Alt+Enter", "Meta+Enter"):
            button.focus()
            press(page, name)
            if notebook_now(page) != before:
                wrong.append((selector, name))
                before = notebook_now(page)
    assert not wrong
    past = page.page.locator(".mll-rp-past")
    opened = past.get_attribute("aria-expanded")
    past.focus()
    press(page, "Enter")
    assert past.get_attribute("aria-expanded") != opened and notebook_now(page) == before


def test_a_prompt_of_lines_is_written_with_enter_and_run_with_ctrl_enter(page):
    page = page("panel")
    before = notebook_now(page)
    area = page.page.locator(".mll-rp-prompt")
    area.fill("a")
    press(page, "Enter", "b", "Shift+Enter", "c", "Enter", "d")
    assert area.input_value() == "a\nb\nc\nd"
    press(page, "Control+Enter")
    assert notebook_now(page) == before
    assert said(page, "ran == ['a\\nb\\nc\\nd'] or ran") == "True"


def test_a_turn_of_a_chat_is_sent_with_enter_and_shift_enter_begins_a_line(page):
    page = page("chat")
    before = notebook_now(page)
    area = page.page.locator(".mll-rp-say").last
    area.fill("a")
    press(page, "Shift+Enter", "b")
    assert area.input_value() == "a\nb"
    press(page, "Enter")
    assert area.input_value() == "a\nb"
    assert notebook_now(page) == before
    assert said(page, "ran == ['a\\nb'] or ran") == "True"
    area.fill("c")
    press(page, "Control+Enter")
    assert said(page, "ran == ['a\\nb', 'c'] or ran") == "True"
    area.fill("   ")
    press(page, "Enter")
    assert said(page, "len(ran)") == "2"  # nothing is said, so nothing is sent


COMPOSED = """(area) => {
    const enter = {key: 'Enter', bubbles: true, cancelable: true};
    const free = area.dispatchEvent(new KeyboardEvent('keydown', {...enter, isComposing: true}));
    return free;
}"""


def test_enter_that_ends_a_composition_sends_nothing(page):
    page = page("chat")
    area = page.page.locator(".mll-rp-say").last
    area.fill("あ")
    assert area.evaluate(COMPOSED)  # it is left to the input method
    press(page, "x")
    assert said(page, "ran") == "[]"


def test_the_run_bar_says_which_key_sends(page):
    page = page("panel", "chat")
    key = "(node) => getComputedStyle(node, '::after').content"
    run = page.page.locator(".mll-rp-go [data-main]")
    assert "Ctrl+Enter" in run.nth(0).evaluate(key)
    assert '"Enter"' in run.nth(1).evaluate(key)
    assert "(Enter in a turn)" in run.nth(1).get_attribute("title")
    turn = page.page.locator("[data-role=user] .mll-rp-say").last
    assert "Enter sends it, Shift+Enter" in turn.get_attribute("placeholder")


def test_a_letter_pressed_in_a_view_is_no_command_of_the_notebook(page):
    page = page("bar", "panel", "strip", "next_token", "ChainEditor(ml.Temperature(0.7))")
    before = notebook_now(page)
    clicked = [
        ".mll-pb-tab button",
        ".mll-rp-bar .mll-tabs button >> nth=1",
        ".mll-strip .mll-tabs button",
    ]
    clicked += [".mll-flow .mll-token", ".mll-nt tbody tr", ".mll-ce-preset", ".mll-rp-past"]
    wrong = []
    for selector in clicked:
        page.page.locator(selector).first.click()
        for name in ("b", "d", "d", "x", "m", "y", "Shift+M", "1"):
            press(page, name)
        press(page, "Escape")
        if notebook_now(page) != before:
            wrong.append(selector)
            before = notebook_now(page)
    assert not wrong


def test_chords_and_keys_beside_a_view_still_reach_the_notebook(page):
    page = page("bar", "panel")
    saved = "() => { window.saved = 0; jupyterapp.shell.currentWidget.context.saveState.connect("
    page.page.evaluate(saved + "(_, state) => window.saved += state === 'completed') }")
    for selector in (".mll-rp-prompt", ".mll-pb-tab button"):
        page.page.locator(selector).first.click()
        before = page.page.evaluate("window.saved")  # JupyterLab saves by itself too
        press(page, "Control+s")
        page.page.wait_for_function("(n) => window.saved > n", arg=before)
    before = len(notebook_now(page))
    page.page.locator(".jp-InputPrompt").last.click()
    press(page, "b")
    assert len(notebook_now(page)) == before + 1


def test_b_and_f_act_on_the_token_under_the_pointer_before_any_click(page):
    page = page("strip", "next_token")
    before = notebook_now(page)
    page.page.locator(".mll-flow .mll-token").nth(3).hover()
    page.page.locator(".mll-card li.mll-alt").first.wait_for()
    press(page, "b", "f")
    page.page.mouse.move(5, 5)
    page.page.locator(".mll-card").wait_for(state="hidden")
    page.page.locator(".mll-nt tbody tr").nth(2).hover()
    press(page, "b")
    assert notebook_now(page) == before
    expected = "[(trace.tokens[3], -np.inf), (trace.tokens[3], 1.0), (model.n_vocab - 3, -np.inf)]"
    assert said(page, f"wishes == {expected} or wishes") == "True"


def test_a_letter_typed_under_the_pointer_goes_where_one_writes(page):
    page = page("panel", "strip")
    area = page.page.locator(".mll-rp-prompt")
    area.fill("")
    page.page.locator(".mll-flow .mll-token").nth(3).hover()
    page.page.locator(".mll-card li.mll-alt").first.wait_for()
    press(page, "b", "f")
    assert area.input_value() == "bf"
    assert said(page, "wishes") == "[]"

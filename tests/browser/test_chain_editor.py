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
    assert "TopK(40)" in chain(page)
    assert box.input_value() == "-5"
    assert problem.is_visible()
    box.fill("12")
    page.view.locator(".mll-ce-code:has-text('TopK(12)')").wait_for()
    assert problem.count() == 0


def test_a_card_moves_once_for_each_press_however_fast(page) -> None:
    card(page, "TopK").locator("input[type=range]").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown"):
        page.page.keyboard.press(f"Alt+{key}")
    page.run_until(1, "chain: MinP(0.05) | Temperature(0.8) | TopK(40) 4")
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
    card(page, "TopK").locator(".mll-ce-name").click()  # what is seldom needed unfolds
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
            "name === 'color' ? node : node.closest('.mll-ce-scroll'))[name]",
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
    page.view.hover()
    page.view.locator("[data-kind=bad]:has-text('Run the cell again')").wait_for(timeout=10_000)
    assert page.view.get_by_role("button", name="Add").is_disabled()


IDLE = """
from mullama_lab.engine.stages import Chain
from mullama_lab.widgets import ChainEditor
editor = ChainEditor(Chain.default())
editor
"""


def test_a_stage_is_one_line_and_those_without_effect_are_one_together(notebook) -> None:
    page = notebook([IDLE, "print('chain:', editor.chain)"], width=1280)
    page.run_cell(0)
    shown = page.view.locator(".mll-ce-card:visible")
    shown.first.wait_for()
    assert shown.count() == 4
    assert max(shown.nth(i).bounding_box()["height"] for i in range(4)) <= 32
    fold = page.view.locator(".mll-ce-fold")
    assert fold.inner_text() == "5 stages have no effect"
    fold.press("Enter")
    shown.nth(8).wait_for()
    assert shown.count() == 9
    slider = card(page, "Penalties").locator("input[type=range]").first
    slider.focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    page.view.locator(".mll-ce-code:not(:has-text('Penalties()'))").wait_for()
    fold.click()
    shown.nth(5).wait_for(state="detached")
    assert shown.count() == 5 and card(page, "Penalties").is_visible()
    slider.focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowLeft")
    page.view.locator(".mll-ce-code:has-text('Penalties()')").wait_for()
    assert card(page, "Penalties").is_visible()  # a hand was on it
    assert "Penalties()" in chain(page)


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
    page.view.locator(".mll-ce-told:has-text('Saved as my stories.')").wait_for()
    page.picture("chain-saved")
    page.view.get_by_role("button", name="Save as…").click()
    name.fill("a copy")  # its chain is the same, and it is listed first
    name.press("Enter")
    page.view.locator(".mll-ce-told:has-text('Saved as a copy.')").wait_for()
    page.page.wait_for_function("document.querySelector('.mll-ce-preset').value === 'a copy'")
    pick.select_option("creative-min-p")
    page.view.locator(".mll-ce-code:has-text('Temperature(1.5)')").wait_for()
    assert "chain: MinP(0.1) | Temperature(1.5)" in chain(page)
    pick.select_option("my stories")
    page.view.locator(".mll-ce-code:has-text('TopK(40)')").wait_for()
    assert "chain: TopK(40) | MinP(0.05) | Temperature(0.8)" in chain(page)
    assert pick.input_value() == "my stories"
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


def test_a_ban_is_read_by_its_word_and_in_the_details_by_its_id(notebook) -> None:
    named = "editor.bias(5, -float('inf')); editor.spell_with({5: b' leg'}.__getitem__)"
    page = notebook([SETUP, named])
    page.run_cell(0)
    card(page, "TopK").wait_for()
    page.run_cell(1)
    note = card(page, "LogitBias").locator(".mll-ce-note")
    assert note.inner_text() == "bans ·leg"
    assert note.get_attribute("title") == "5: bans ·leg"
    field, said = (
        card(page, "LogitBias").locator("input.mll-field").bounding_box(),
        note.bounding_box(),
    )
    assert said["y"] >= field["y"] + field["height"] and said["width"] == field["width"]
    card(page, "LogitBias").locator(".mll-ce-name").click()
    assert "5: bans ·leg" in card(page, "LogitBias").locator(".mll-ce-details").inner_text()


def test_what_a_stage_does_is_said_once_and_not_cut(notebook) -> None:
    named = "editor.bias(5, -float('inf')); editor.spell_with({5: b' leg'}.__getitem__)"
    page = notebook(
        [IDLE, named, "editor.annotate(['keeps 40 · removes 15%'] * len(editor.chain))"]
    )
    page.run_all()
    ban = card(page, "LogitBias")
    ban.locator(".mll-ce-note:has-text('keeps 40')").wait_for()
    ban.locator(".mll-ce-name").click()
    details = ban.locator(".mll-ce-details")
    details.get_by_text("5: bans ·leg; keeps 40 · removes 15%").wait_for()
    assert ban.inner_text().count("bans ·leg") == 1
    assert not ban.locator(".mll-ce-note").is_visible()
    details.locator("xpath=.").get_by_text("Add a bias").wait_for()
    page.view.locator(".mll-ce-fold").click()
    for width in ("980px", "482px"):  # alone, and as in a lab at 1400
        page.view.evaluate("(node, width) => (node.style.width = width)", width)
        notes = page.view.locator(".mll-ce-note:visible")
        assert notes.count() >= 8
        for note in notes.all():
            over = note.evaluate(
                "(n) => [n.scrollWidth - n.clientWidth, n.scrollHeight - n.clientHeight]"
            )
            assert max(over) <= 1, (width, note.inner_text())
            assert note.get_attribute("title")
        acts = ".mll-ce-card:visible:not([data-tokens], [data-inert]) > .mll-ce-line"
        lines = page.view.locator(acts)
        assert max(line.bounding_box()["height"] for line in lines.all()) <= 32


def test_a_grammar_that_is_typed_or_wrong_is_said_not_to_be_in_force(page) -> None:
    page.view.locator("select[aria-label='Stage to add']").select_option("Constrain")
    page.view.locator("button:text-is('Add')").click()
    grammar = card(page, "Constrain")
    box, does = grammar.locator("textarea"), grammar.locator(".mll-ce-about p:last-child")
    box.wait_for()
    assert does.inner_text() == "no effect: the grammar allows every text"
    page.page.keyboard.type('root = "a"')
    assert does.inner_text() == "what is typed is not in force: Ctrl+Enter applies it"
    page.page.keyboard.press("Control+Enter")
    does.get_by_text("what is typed is not in force: ").and_(
        does.get_by_text("line 1, column 6")
    ).wait_for()
    grammar.locator(".mll-ce-name").click()  # the same on the line, once the rest is folded
    assert "is not in force: " in grammar.locator(".mll-ce-note").inner_text()
    page.picture("chain-grammar-not-in-force")
    grammar.locator(".mll-ce-name").click()
    box.fill('root ::= "a"')
    assert does.inner_text() == "what is typed is not in force: Ctrl+Enter applies it"
    box.press("Control+Enter")
    page.view.locator(".mll-ce-code:has-text('Constrain(ml.Grammar.gbnf(')").wait_for()
    page.page.wait_for_function(
        "!document.querySelector('[data-stage=Constrain]').textContent.includes('not in force')"
    )


def test_a_word_of_what_was_saved_goes_by_itself_or_with_what_is_done_next(notebook) -> None:
    page = notebook([NAMED + SETUP], width=1400)
    page.run_cell(0)
    page.view.locator(".mll-ce-card").first.wait_for()
    told = page.view.locator(".mll-ce-told")
    for name, leave in (("one", lambda: None), ("two", page.view.locator(".mll-title").click)):
        page.view.get_by_role("button", name="Save as…").click()
        page.view.get_by_role("textbox", name="Name", exact=True).fill(name)
        page.view.get_by_role("button", name="Save", exact=True).click()
        told.get_by_text(f"Saved as {name}.").wait_for()
        told.hover()  # where the button was that the pointer had pressed
        leave()
        told.wait_for(state="detached", timeout=8000 if name == "one" else 1000)


def test_a_grammar_is_added_typed_and_put_right(page) -> None:
    page.view.locator("select[aria-label='Stage to add']").select_option("Constrain")
    page.view.locator("button:text-is('Add')").click()
    box = card(page, "Constrain").locator("textarea")
    box.wait_for()
    assert stages(page)[0] == "Constrain", "a mask comes first"
    assert box.evaluate("node => node === document.activeElement"), "ready to be typed in"
    card(page, "Constrain").locator(".mll-syntax:has-text('Ctrl+Enter applies it')").wait_for()
    page.page.keyboard.type('root ::= x\nx = "a"')
    page.page.keyboard.press("Control+Enter")
    problem = card(page, "Constrain").locator(".mll-problem:has-text('line 2, column 3')")
    problem.wait_for()
    assert problem.inner_text().endswith("In force: empty.")
    box.fill('root ::= x\nx ::= "a" | "b"')
    page.page.keyboard.press("Control+Enter")
    page.view.locator(".mll-ce-code:has-text('Constrain(ml.Grammar.gbnf(')").wait_for()
    problem.wait_for(state="detached")
    line = card(page, "Constrain").locator(".mll-ce-call")
    assert line.inner_text() == 'root ::= x x ::= "a" | "b"'
    assert "Constrain(Grammar.gbnf(" in chain(page)


def test_ones_own_preset_is_deleted_and_the_deletion_undone(notebook) -> None:
    page = notebook([NAMED + SETUP, "editor.save_preset('mine'); editor.load_preset('greedy')"])
    page.run_all()
    pick, erase = page.view.locator(".mll-ce-preset"), page.view.locator(".mll-ce-erase")
    page.page.wait_for_function("document.querySelector('.mll-ce-preset').value === 'greedy'")
    assert not erase.is_visible()  # a built-in one
    pick.select_option("mine")
    erase.click()
    told = page.view.locator(".mll-ce-told:has-text('Deleted mine.')")
    told.wait_for()
    page.picture("chain-deleted")
    mine = pick.locator("option[value=mine]")
    mine.wait_for(state="detached")
    assert not erase.is_visible()
    page.press("Enter")  # Undo has the focus
    page.view.locator(".mll-ce-told:has-text('mine is back.')").wait_for()
    mine.wait_for(state="attached")
    page.page.wait_for_function("document.querySelector('.mll-ce-preset').value === 'mine'")
    erase.click()
    told.wait_for()
    page.press("Escape")
    told.wait_for(state="detached")
    assert page.page.evaluate("document.activeElement.textContent") == "Save as…"


def test_a_new_page_shows_the_preset_that_was_picked_last(notebook) -> None:
    alike = "editor.chain.save('one'); editor.chain.save('two'); editor.chain.save('three')"
    page = notebook([NAMED + SETUP, alike])
    page.run_all()
    pick = page.view.locator(".mll-ce-preset")
    pick.focus()  # the list is read again
    pick.locator("option[value=two]").wait_for(state="attached")
    pick.select_option("two")
    page.view.locator(".mll-spoken:has-text('chain two')").wait_for(state="attached")
    page.save_and_reload()
    page.view.locator(".mll-ce-card").first.wait_for()
    assert page.view.locator(".mll-ce-preset").input_value() == "two"

"""SamplerLab in a real JupyterLab, with a real model: what a person does with it."""

from __future__ import annotations

import re

import pytest

from mullama_lab.engine import tiny

MODEL = "import mullama_lab as ml\nmodel = ml.Model.load('smollm2-135m')"
LAB = """lab = ml.labs.SamplerLab(
    model, prompt="The capital of France is", max_tokens=40, seed=7
)
lab"""
ENDLESS = "ml.Mask(ban=range(5)) | ml.Chain.default()"  # 0, 2 and 4 end a text
SAYS_WHERE = """() => {
    const about = document.querySelector('.mll-nt-about'), where = document.createRange();
    where.setStart(about.firstChild, 0);
    where.setEnd(about.firstChild, about.textContent.indexOf(' ·'));
    const inside = about.getBoundingClientRect();
    return [...where.getClientRects()].every((line) => line.bottom <= inside.bottom + 1);
}"""
BLOCKING = f"""lab.chain = {ENDLESS}  # which a turned slider gives to what runs
lab.session.generate('Once upon a time', lab.chain, max_tokens=3000).finish_reason"""


@pytest.fixture
def lab(notebook):
    def open_lab(*more, **size):
        page = notebook([MODEL, LAB, *more], **size)
        for cell in (0, 1):
            page.run_cell(cell)
        page.page.wait_for_selector(".mll-nt table, .mll-nt [role=row]", timeout=30_000)
        page.page.wait_for_selector(".mll-nt >> text=Paris", timeout=30_000)
        return page

    return open_lab


def slider(page, name):
    return page.page.locator(f".mll-ce input[type=range][aria-label^='{name}']").first


def press(page, name):
    page.page.get_by_role("button", name=re.compile(f"^{name}")).first.click()


def shown(page):
    return page.page.locator(".mll-nt").inner_text()


def test_dragging_a_slider_moves_the_distribution_without_a_decode(lab):
    page = lab("lab.session.n_decoded", "lab.session.n_decoded")
    page.run_cell(2)
    handle = slider(page, "Temperature")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    y = box["y"] + box["height"] / 2
    page.page.mouse.move(box["x"] + box["width"] * 0.4, y)
    page.page.mouse.down()
    for i in range(40, 100, 4):
        page.page.mouse.move(box["x"] + box["width"] * i / 100, y)
    page.page.mouse.up()
    page.page.wait_for_function(
        "() => /Temperature\\((1\\.[5-9]|2)/.test(document.querySelector('.mll-nt').textContent)"
    )
    page.run_cell(3)
    counts = re.findall(r"^\d+$", page.outputs(), re.MULTILINE)[-2:]
    assert counts[0] == counts[1]


def test_run_streams_the_text_and_history_remembers_it(lab):
    page = lab(width=1400, height=1500)
    press(page, "Run")
    page.wait_for_state("finished")
    page.page.wait_for_selector(".mll-strip .mll-token", timeout=10_000)
    assert page.page.locator(".mll-strip .mll-token").count() >= 30
    assert "Paris" in page.page.locator(".mll-strip").inner_text()
    page.picture("lab-light")
    page.dark(True)
    page.picture("lab-dark")
    page.page.set_viewport_size({"width": 520, "height": 1800})
    page.settled()
    page.picture("lab-narrow")


def test_a_run_moves_nothing_that_a_hand_may_be_on(lab):
    page = lab()
    tops = """() => {
        const y = (node) => node.getBoundingClientRect().y;
        const nodes = ['.mll-ce', '.mll-nt table'].map((name) => document.querySelector(name));
        return nodes.map((node) => y(node) - y(node.closest('.mll-lab')));
    }"""
    before = page.page.evaluate(tops)
    for n in (1, 2):
        press(page, "Run")
        page.page.locator(f".mll-rp-past:has-text('Runs ({n})')").wait_for()
    page.wait_for_state("finished")
    page.page.locator(".mll-flow .mll-token").nth(6).click()
    page.page.keyboard.press("Enter")  # the step's longer text stands above the next token
    page.page.wait_for_selector(".mll-nt-about:has-text('at step 6')")
    assert page.page.evaluate(tops) == before


def test_a_click_on_a_token_shows_the_distribution_of_its_step_and_a_button_leads_back(lab):
    page = lab(width=1110)
    press(page, "Run")
    page.wait_for_state("finished")
    about, back = page.page.locator(".mll-nt-about"), page.page.locator(".mll-nt-back")
    assert not back.is_visible()
    token = page.page.locator(".mll-flow .mll-token").nth(6)
    token.click()
    about.locator(":scope:has-text('at step 6')").wait_for()
    page.page.wait_for_function(SAYS_WHERE)  # beside the button that came
    page.press("Escape")  # the card of the token
    drawn = page.page.locator(".mll-nt tr[data-choice] .mll-nt-text")
    assert drawn.inner_text().strip("·") == token.inner_text().strip()
    assert token.get_attribute("data-looked") == ""
    page.press("ArrowRight")
    about.locator(":scope:has-text('at step 7')").wait_for()
    page.picture("step-looked-at")
    page.press("Escape")
    back.click()
    about.locator(":scope:has-text('at the end of the prompt')").wait_for()
    assert not back.is_visible() and page.page.locator("[data-looked]").count() == 0
    assert page.page.evaluate("document.activeElement.matches('.mll-nt tbody tr')")
    token.click()
    about.locator(":scope:has-text('at step 6')").wait_for()
    page.page.locator(".mll-nt tbody tr[tabindex='0']").focus()
    page.press("e")
    about.locator(":scope:has-text('at the end of the prompt')").wait_for()


@pytest.mark.parametrize("width", [1280, 700])
def test_no_head_is_cut_off_and_what_a_run_changes_is_near_it(lab, width):
    page = lab(width=width, height=900)
    cut = """[...document.querySelectorAll('.mll-nt thead th:not([data-inert]) > .mll-nt-headline')]
        .filter((line) => line.scrollWidth > line.clientWidth).map((line) => line.textContent)"""
    assert page.page.evaluate(cut) == []
    tools = page.page.locator(".mll-ce-tools > :visible")
    tops = {tools.nth(i).bounding_box()["y"] for i in range(tools.count())}
    assert tools.count() == 2 and max(tops) - min(tops) < 4  # on one line
    scroll = page.page.locator(".mll-nt-scroll")
    if width == 1280:
        assert scroll.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    inside = scroll.bounding_box()
    for end in (".mll-nt thead .mll-nt-token", ".mll-nt thead [data-last]"):  # they stick
        box = page.page.locator(end).bounding_box()
        assert box["x"] >= inside["x"]
        assert box["x"] + box["width"] <= inside["x"] + inside["width"] + 1
    if width == 700:
        bar = page.page.locator(".jp-Cell-outputCollapser").first.bounding_box()
        assert page.page.locator(".mll-rp").bounding_box()["x"] >= bar["x"] + bar["width"] + 8
        places = [
            page.page.locator(f".mll-{name}").bounding_box()["y"]
            for name in ("rp", "strip", "nt", "ce")
        ]
        assert places == sorted(places)


def test_no_output_has_a_scroll_bar_and_each_run_shows_its_text(lab):
    page = lab("lab.trace", width=1400, height=757)  # with the file browser beside it
    press(page, "Run")
    page.page.get_by_role("button", name="Show What if beside").click()
    page.page.locator(".mll-wi-now:visible").wait_for(timeout=30_000)
    page.run_cell(2)
    page.page.locator(".mll-strip").nth(1).wait_for()
    outputs = page.page.locator(".jp-OutputArea-output:has(.mll)")
    assert outputs.count() == 2
    fits = "(node) => [node.scrollWidth - node.clientWidth, node.scrollHeight - node.clientHeight]"
    assert [outputs.nth(i).evaluate(fits) for i in (0, 1)] == [[0, 0], [0, 0]]
    page.page.locator(".mll-rp-past").click()
    runs = page.page.locator(".mll-rp-scroll").first
    assert runs.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    assert runs.locator("tbody td:nth-last-child(2)").bounding_box()["width"] > 60


def test_stop_ends_a_long_run_and_the_lab_runs_again(lab):
    page = lab(f"lab.set(max_tokens=3000, chain={ENDLESS})", "lab.set(max_tokens=5)")
    page.run_cell(2)
    press(page, "Run")
    page.wait_for_state("running")
    press(page, "Stop")
    page.wait_for_state("stopped", timeout=10)
    page.run_cell(3)
    press(page, "Run")
    page.wait_for_state("finished")


def test_while_a_cell_generates_sliders_answer_and_stop_ends_the_cell(lab):
    page = lab(BLOCKING)
    page.run_cell(2, wait=False)
    page.wait_for_state("running")
    handle = slider(page, "Temperature")
    handle.focus()
    page.page.keyboard.press("End")
    page.page.wait_for_function(
        "() => document.querySelector('.mll-nt').textContent.includes('Temperature(2)')",
        timeout=5000,
    )
    assert page.page.locator(".mll-rp").get_attribute("data-state") == "running"
    press(page, "Stop")
    page.wait_until_idle(timeout=15)
    assert "'stopped'" in page.outputs()


def test_a_reloaded_page_shows_the_lab_as_it_was(lab):
    page = lab("lab.run(); lab.set('TopK', k=17); lab")
    page.run_cell(2)
    page.save_and_reload()
    page.page.wait_for_selector(".mll-strip .mll-token", timeout=30_000)
    for i in range(2):  # one in each output that shows the lab
        page.page.locator(".mll-nt").nth(i).get_by_text("TopK(17)").first.wait_for()


def test_a_restarted_kernel_is_said_and_running_the_cells_again_works(lab):
    page = lab()
    places = """[...document.querySelectorAll('.mll-lab .mll')]
        .sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)
        .map((view) => view.className)"""
    before = page.page.evaluate(places)
    page.restart_kernel()
    gone = page.page.locator(".mll-lab .mll > p:text('Run the cell again'):visible")
    gone.first.wait_for(timeout=10_000)
    page.wait_until_gone(".mll-rp", ".mll-strip", ".mll-ce", ".mll-nt")
    assert gone.count() == 1  # said once, in the run bar
    assert page.page.evaluate(places) == before
    page.run_all()
    page.page.wait_for_selector(".mll-nt >> text=Paris", timeout=30_000)


def test_an_interrupted_cell_leaves_the_lab_usable(lab):
    page = lab(BLOCKING)
    page.run_cell(2, wait=False)
    page.wait_for_state("running")
    page.page.evaluate(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
    )
    page.page.wait_for_selector("text=KeyboardInterrupt", timeout=15_000)
    press(page, "Run")
    page.wait_for_state("finished")


BESIDE = """
import numpy as np
import mullama_lab as ml
model = ml.Model.load({path!r})
lab = ml.labs.SamplerLab(model, "Hello", seed=3, max_tokens=6,
    chain=ml.Mask(ban=[{end}]) | ml.TopK(40) | ml.Temperature(0.8))
lab
"""
CODE = """
lab.wait()
made = {}
exec(lab.to_code(), made)
session, tokens = made["session"], lab.prompt_tokens()
row = session.logits(tokens)
seen = made["chain"].preview(row, model=model, history=tokens, seed=3, step=0)
same = all(np.array_equal(one.ids, other.ids) and np.allclose(one.probs, other.probs, atol=1e-5)
           for one, other in zip(seen.stages, lab.preview.stages, strict=True))
print("code:", same, list(session.adapters.values()), session.control is not None,
      made["trace"].tokens.tolist() == lab.trace.tokens.tolist())
session.close()
"""


def test_adapter_cards_beside_the_chain_turn_the_distribution(
    notebook, tiny_path, adapter, tmp_path
):
    import mullama_lab as ml

    happy = tmp_path / "happy.gguf"
    ml.ControlVector({1: [0.5, -1.0] * 16}, name="happy").save(happy)
    page = notebook(
        [BESIDE.format(path=str(tiny_path), end=tiny.EOS), CODE], width=1400, height=757
    )
    page.run_cell(0)
    lab = page.page
    about, rows = lab.locator(".mll-nt-about"), lab.locator(".mll-nt tbody")
    cards = lab.locator(".mll-ac")
    card = cards.locator(".mll-ac-card")

    def distribution(weights):
        """The rows, once they are those of these weights."""
        where = f"at the end of the prompt{weights and ', with '}{weights} ·"
        about.filter(has_text=re.compile(re.escape(where))).wait_for()
        page.settled()
        return rows.inner_text()

    base = distribution("")
    lab.get_by_role("button", name="Adapters", exact=True).locator("..").locator(
        ".mll-pb-more"
    ).click()
    path = cards.get_by_label("Path of a file, or name of a vector, to add")
    path.fill(str(adapter.path))
    page.press("Enter")
    one = distribution("adapter × 1")
    assert one != base

    scale = card.first.get_by_label("adapter, scale, exact")
    scale.fill("2")
    page.press("Enter")
    two = distribution("adapter × 2")
    assert two not in (one, base)
    card.first.locator(".mll-range").focus()
    page.press("ArrowLeft")
    assert distribution("adapter × 1.99") != one
    path.fill(str(happy))
    page.press("Enter")
    both = distribution("adapter × 1.99, happy × 1")
    card.first.get_by_role("switch").uncheck()
    assert distribution("happy × 1") not in (both, base)
    card.nth(1).get_by_role("switch").uncheck()
    assert distribution("") == base, "what is off does nothing"
    card.first.get_by_role("switch").check()
    card.nth(1).get_by_role("switch").check()
    assert distribution("adapter × 1.99, happy × 1") == both
    lab.locator(".mll-lab").evaluate("(lab) => lab.scrollIntoView()")
    page.settled()
    page.picture("adapters-beside")
    inside = lab.locator(".jp-NotebookPanel-notebook").bounding_box()
    for part in (".mll-ce-lever input", ".mll-nt tbody tr", ".mll-ac-line input", ".mll-ac-force"):
        box = lab.locator(part).first.bounding_box()
        assert box["y"] >= inside["y"] - 2, part
        assert box["y"] + box["height"] <= inside["y"] + inside["height"] + 1, part

    press(page, "Run")
    page.wait_for_state("finished")
    page.run_until(1, "code: True [1.99] True True")
    slider(page, "Temperature").focus()
    page.press("ArrowRight")
    lab.wait_for_function(
        "() => /Temperature\\(0\\.8[1-9]/.test(document.querySelector('.mll-nt').textContent)"
    )
    assert distribution("adapter × 1.99, happy × 1") != both, "the chain is turned as before"

"""The run panel in a real JupyterLab: its keys, a run, the history, a comparison."""

from __future__ import annotations

import pytest

SETUP = """
import pathlib, tempfile, time
from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Custom, Temperature
from mullama_lab.widgets import RunPanel
model = Model.load(tiny.write(pathlib.Path(tempfile.mkdtemp()) / "tiny.gguf"))
session = model.session(n_ctx=512)
panel = RunPanel("Once", seed=1, max_tokens=6)
chosen = []
def slow(logits, history):
    time.sleep(0.02 if panel.max_tokens > 100 else 0)
    return logits
panel.on_select(lambda past: chosen.append(past.number))
panel.on_run(lambda p: p.follow(
    session.start(p.prompt, Temperature(1.2) | Custom(slow), max_tokens=p.max_tokens, seed=p.seed)))
panel
"""


@pytest.fixture
def page(notebook):
    page = notebook([SETUP, "print('chosen:', chosen, repr(panel.prompt), panel.seed)"])
    page.run_cell(0)
    page.view.locator(".mll-rp-prompt").wait_for()
    return page


def rows(page):
    return page.view.locator(".mll-rp tbody tr, tbody tr")


def open_runs(page):
    page.view.locator(".mll-rp-past").click()


def said(page) -> str:
    page.run_cell(1)
    return page.page.locator(".jp-OutputArea-output:has-text('chosen:')").last.inner_text()


def test_the_prompt_runs_with_its_key_and_cells_stay_as_they_are(page) -> None:
    area = page.view.locator(".mll-rp-prompt")
    area.fill("Twice ")
    area.press("Control+Enter")
    page.view.locator(".mll-rp-past:has-text('Runs (1)')").wait_for()
    page.view.locator(".mll-rp-state:has-text('Finished')").wait_for()
    assert area.input_value() == "Twice "
    assert "'Twice '" in said(page)
    assert rows(page).count() == 1


def test_a_refused_number_moves_no_box(page) -> None:
    line = page.view.locator("[data-setting=seed]")
    boxes = page.view.locator(".mll-rp-settings input, .mll-rp-settings button")
    before = [box.bounding_box()["x"] for box in boxes.all()]
    line.locator("input").fill("many")
    line.locator("input").press("Enter")
    line.locator(".mll-problem:has-text('In force: 1.')").wait_for()
    assert [box.bounding_box()["x"] for box in boxes.all()] == before


def test_runs_are_compared_and_one_is_chosen(page) -> None:
    run = page.view.get_by_role("button", name="Run", exact=True)
    seed = page.view.locator("[data-setting=seed] input")
    for n, value in enumerate(["1", "2", "3"], 1):
        seed.fill(value)
        seed.press("Enter")
        run.click()
        page.view.locator(f".mll-rp-past:has-text('Runs ({n})')").wait_for()
        page.view.locator(".mll-rp-state:has-text('Finished')").wait_for()
    open_runs(page)
    for n in (3, 1, 2):  # in whatever order
        page.view.get_by_label(f"Compare run {n}").check()
    page.view.locator(".mll-cmp-side").nth(2).wait_for()
    text = page.view.locator(".mll-cmp").inner_text()
    assert "differs" in text and "run 3 parts from run 1 at step" in text
    differs = page.view.locator(".mll-cmp-differs li").all_inner_texts()
    assert differs == ["run 1 → run 2: seed 1 → 2", "run 1 → run 3: seed 1 → 3"]
    parts = page.view.locator(".mll-cmp-parts li")
    assert "the model's chances are the same" in parts.first.inner_text().split(";")[0]
    assert "nats" not in page.view.locator(".mll-cmp-parts").inner_text()
    page.view.locator(".mll-cmp-parts summary").click()
    figures = page.view.locator(".mll-cmp-parts details").inner_text()
    assert "KL(run 1 ‖ run 2)" in figures and "nats before the chain" in figures
    assert page.view.locator("mark.mll-cmp-diff").count() == 3
    page.picture("run-panel")
    page.view.locator("tr[data-run='1'] td").nth(2).click()
    page.view.locator("tr[data-run='1'][aria-selected=true]").wait_for()
    assert "chosen: [1]" in said(page)
    page.view.locator("tr[data-run='1']").focus()
    page.page.keyboard.press("r")
    page.page.wait_for_function("document.querySelector('[data-setting=seed] input').value === '1'")
    told = page.view.locator(".mll-rp-hint p")
    back = "The chain, seed, prompt, max tokens and stop strings of run 1 are in force again."
    told.get_by_text(back).wait_for()
    ended = page.view.locator("tr[data-run='1'] [data-cell=ended]")
    assert ended.inner_text() == "reached max tokens"
    page.picture("run-restored")
    page.page.keyboard.press("Escape")
    page.view.locator(".mll-rp-drawer").wait_for(state="hidden")


SAVED = """
for n in range(20):
    panel.add(session.generate("ab", Temperature(1.0), max_tokens=3, seed=n))
"""
IN_VIEW = """(n) => {
    const scroll = document.querySelector('.mll-rp-scroll').getBoundingClientRect();
    const head = document.querySelector('.mll-rp-scroll th').getBoundingClientRect();
    const row = document.querySelector(`tr[data-run='${n}']`).getBoundingClientRect();
    return row.height > 0 && row.top >= head.bottom - 1 && row.bottom <= scroll.bottom + 1;
}"""


def test_the_list_opens_at_the_run_that_is_shown(notebook) -> None:
    page = notebook([SETUP, SAVED, "panel.select(9);"], width=1400)
    page.run_cell(0)
    page.view.locator(".mll-rp-prompt").wait_for()
    page.run_cell(1)
    page.view.locator(".mll-rp-past:has-text('Runs (20)')").wait_for()
    open_runs(page)
    assert page.page.evaluate(IN_VIEW, 20)
    page.view.locator("tr[data-run='20']").focus()
    for _ in range(19):
        page.page.keyboard.press("ArrowDown")
    assert page.page.evaluate(IN_VIEW, 1) and not page.page.evaluate(IN_VIEW, 20)
    open_runs(page)
    open_runs(page)
    assert page.page.evaluate(IN_VIEW, 20)
    open_runs(page)
    page.run_cell(2)
    page.view.locator("tr[data-run='9'][aria-selected=true]").wait_for(state="attached")
    open_runs(page)
    assert page.page.evaluate(IN_VIEW, 9)
    page.picture("runs-opened")


def test_a_seed_that_cannot_be_says_why(page) -> None:
    seed = page.view.locator("[data-setting=seed] input")
    seed.fill("-3")
    seed.press("Enter")
    page.view.locator(".mll-problem:has-text('seed')").first.wait_for()
    assert seed.get_attribute("aria-invalid") == "true"
    assert said(page).strip().endswith("1")


def test_stop_strings_are_shown_as_they_were_read(page) -> None:
    field = page.view.locator("[data-setting=stop_strings] input")
    read = page.view.locator(".mll-rp-read > span")
    bar = page.view.locator(".mll-rp-settings").bounding_box()["height"]
    for typed, texts in (("\\n", ["↵"]), ("\\n, .", ["↵,·."]), ('"\\n", "."', ["↵", "."])):
        field.fill(typed)
        field.press("Enter")
        page.page.wait_for_function(
            "(texts) => texts.join() === "
            "[...document.querySelectorAll('.mll-rp-read > span')].map((x) => x.innerText).join()",
            arg=texts,
        )
        page.picture(f"stops-{len(typed)}")
    assert page.view.locator(".mll-rp-settings").bounding_box()["height"] == bar
    field.fill("END")
    field.press("Enter")
    read.first.wait_for(state="detached")
    assert field.input_value() == "END"


def test_escape_stops_a_run(page) -> None:
    most = page.view.locator("[data-setting=max_tokens] input")
    most.fill("400")
    most.press("Enter")
    area = page.view.locator(".mll-rp-prompt")
    area.press("Control+Enter")
    page.view.locator(".mll-rp-state:has-text('Generating')").wait_for()
    area.press("Escape")
    page.view.locator(".mll-rp-state:has-text('Stopped')").wait_for()
    assert rows(page).count() == 1


# The second run differs from the first by a cache in 8 bits, 0.0003 nats.
NOISY = """
import pathlib, tempfile
from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Temperature
from mullama_lab.widgets import RunPanel
model = Model.load(tiny.write(pathlib.Path(tempfile.mkdtemp()) / "tiny.gguf"))
panel = RunPanel("Once upon a time there was a lighthouse")
once = panel.prompt
for kv_type, seed, prompt in (("f16", 1, once), ("q8_0", 2, once), ("f16", 2, "Twice")):
    session = model.session(n_ctx=512, n_threads=1, kv_type=kv_type)
    panel.add(session.generate(prompt, Temperature(1.2), max_tokens=6, seed=seed, top=259))
panel
"""
# Not with `noise`: there are processors on which the rows of a tiny model never differ.
MEASURE = """
from mullama_lab.engine.noise_floor import NoiseFloor, known_floor, remember
remember(model, NoiseFloor(logit=0.1, logprob=0.1, kl=0.001, js=0.02))
print("measured", known_floor(model) is not None)
"""


def test_a_difference_is_called_noise_once_the_noise_was_measured(notebook) -> None:
    page = notebook([NOISY, MEASURE])
    page.run_cell(0)
    open_runs(page)
    for n in (1, 2, 3):
        page.view.get_by_label(f"Compare run {n}").check()
    said = page.view.locator(".mll-cmp-parts")
    said.locator("code:has-text('noise(model)')").wait_for()
    assert "within noise" not in page.view.locator(".mll-cmp").inner_text()
    page.run_cell(1)
    page.page.locator(".jp-OutputArea-output:has-text('measured True')").wait_for()
    page.view.get_by_label("Compare run 3").uncheck()
    page.view.get_by_label("Compare run 3").check()
    said.get_by_text("but for rounding, which was measured").wait_for()
    lines = said.locator("li").all_inner_texts()
    assert "chances are the same but for rounding; after the chain they" in lines[0]
    assert "chances differ" in lines[1] and "rounding" not in lines[1]
    part = page.view.locator(".mll-cmp tr[data-part] td")
    assert "within noise" in part.nth(1).inner_text()
    assert "within noise" not in part.nth(2).inner_text()
    page.picture("noise-light", of=".mll-cmp")
    page.dark()
    page.picture("noise-dark", of=".mll-cmp")


def test_a_remark_leaves_the_figures_in_their_place(notebook) -> None:
    kept = "4 runs with a model: kept until that model is opened again."
    page = notebook([SETUP, f"panel.message = {kept!r}", "panel.message = ''"], width=1400)
    page.run_cell(0)
    page.view.locator(".mll-rp-prompt").press("Control+Enter")
    page.view.locator(".mll-rp-state:has-text('Finished')").wait_for()
    page.view.locator(".mll-rp-figure").nth(1).wait_for()
    remark = page.view.locator(".mll-rp-remark")

    def places():
        parts = [".mll-rp-state", ".mll-rp-figure", ".mll-rp-past"]
        return [page.view.locator(part).first.bounding_box() for part in parts]

    for width in ("980px", "860px", "620px", "340px"):
        page.view.evaluate("(node, width) => (node.style.width = width)", width)
        page.run_cell(2)
        remark.wait_for(state="hidden")
        page.settled()
        before = places()
        page.run_cell(1)
        remark.get_by_text(kept).wait_for()
        page.settled()
        assert places() == before, width
        page.picture(f"remark-{width}")
        assert remark.get_attribute("title") == kept


# How far the third figure stands from the second whenever they are drawn, and how often they were.
DRAWN = """() => {
    const list = document.querySelector('.mll-rp-figures');
    window.apart = new Set();
    window.lines = new Set();
    window.drawn = 0;
    new MutationObserver(() => {
        const [, speed, logprob] = list.children;
        const goes_on = list.closest('.mll-rp').dataset.state === 'running';
        if (!goes_on || !logprob?.querySelector('polyline')) return;
        window.drawn += 1;
        window.apart.add(Math.round(logprob.offsetLeft - speed.offsetLeft));
        window.lines.add(list.closest('.mll-rp-bar').offsetHeight);
    }).observe(list, {childList: true});
}"""


ENDLESS = SETUP.replace("Temperature(1.2) |", "Mask(ban=range(5)) | Temperature(1.2) |").replace(
    "import Custom,", "import Custom, Mask,"
)
ENDS = "() => document.querySelector('.mll-rp').dataset.state !== 'running'"


def test_speed_and_chances_are_curves_while_a_run_goes_on_and_stand_still(notebook) -> None:
    page = notebook([ENDLESS], width=1400, height=757)
    page.run_cell(0)
    prompt = page.view.locator(".mll-rp-prompt")
    most = page.view.locator("[data-setting=max_tokens] input")
    most.fill("480")
    most.press("Enter")
    page.page.evaluate("window.jupyterapp.commands.execute('filebrowser:activate')")
    page.settled()
    page.page.evaluate(DRAWN)
    prompt.press("Control+Enter")
    page.page.wait_for_function("window.drawn > 5")
    page.picture("run-panel-running")
    prompt.press("Escape")
    page.page.wait_for_function(ENDS)
    assert len(page.page.evaluate("[...window.apart]")) == 1
    (bar,) = page.page.evaluate("[...window.lines]")
    assert bar < 60, "the figures take no line more than the bar has"

"""RetrievalLab in a real JupyterLab: what a person does with it. The encoder is tiny but real."""

from __future__ import annotations

import pytest

ENCODER = """
import tempfile
from pathlib import Path
import mullama_lab as ml
from mullama_lab.engine import tiny
folder = tempfile.TemporaryDirectory()
model, other = (
    ml.Model.load(tiny.write(Path(folder.name) / f"{seed}.gguf", seed=seed)) for seed in (0, 5)
)
encoder, rival = ml.MultiVectorEncoder(model), ml.MultiVectorEncoder(other)
documents = {f"document {i}": f"{i} is a number, {i * i} its square" for i in range(40)}
"""
LAB = """lab = ml.labs.RetrievalLab(
    encoder, documents, rivals={"another encoder": rival}, title="numbers"
)
lab"""
STATE = "print(lab.query, lab.board.off, lab.grid.off, lab.grid.title, lab.board.rival)"


@pytest.fixture
def lab(notebook):
    page = notebook([ENCODER, LAB, STATE, "lab.add(['some words ' * 30] * 300)"])
    page.run_cell(0)
    page.run_cell(1)
    page.rows = page.view.locator(".mll-rb-row")
    page.view.get_by_text("the documents are ready").wait_for(timeout=30_000)
    return page


def ask(page, text):
    box = page.view.get_by_role("searchbox")
    box.fill(text)
    box.press("Enter")
    page.page.wait_for_function(
        """(text) => {
            const tokens = [...document.querySelectorAll('.mll-rb-chip > [dir]')];
            return tokens.map((token) => token.textContent).join('') === text
                && document.querySelector('.mll-rb').dataset.state === 'ready'
                && document.querySelector('.mll-sg-token') !== null;
        }""",
        arg=text.replace(" ", "·"),
    )
    page.settled()


def column(page, name):
    return page.view.locator(f".mll-rb-{name}").all_inner_texts()


def printed(page):
    page.run_cell(2)
    return page.outputs()


def test_a_query_fills_the_board_and_the_grid(lab):
    ask(lab, "7 squared")
    assert lab.rows.count() == 10
    score = lab.view.locator(".mll-sg-score").inner_text()
    assert score == f"score {column(lab, 'score')[0]}"
    first = lab.rows.first.locator(".mll-rb-name").inner_text()
    assert lab.page.locator(".mll-sg .mll-title").inner_text() == first
    lab.rows.nth(3).click()
    fourth = lab.rows.nth(3).locator(".mll-rb-name").inner_text()
    lab.page.locator(".mll-sg .mll-title").get_by_text(fourth, exact=True).wait_for()
    assert f"7 squared [] [] {fourth}" in printed(lab)
    lab.picture("retrieval-lab-light")


def test_before_a_query_the_grid_has_no_controls_and_says_what_will_show(lab):
    grid = lab.page.locator(".mll-sg")
    assert "Which of their tokens match shows here" in grid.inner_text()
    assert not grid.get_by_role("button", name="All on").is_visible()
    ask(lab, "7 squared")
    grid.get_by_role("button", name="All on").wait_for()
    assert grid.get_by_role("button", name="Words").is_visible()


RECTANGLES = """() => {
    const panel = document.querySelector('.jp-WindowedPanel-outer').getBoundingClientRect();
    const seen = [...document.querySelectorAll(
        '.mll-rb-query, .mll-rb-scroll, .mll-heat-scroll, .mll-versus, .mll-sg-text')];
    const box = (node) => node.getBoundingClientRect();
    return {
        bottom: panel.bottom,
        boxes: Object.fromEntries(seen.filter((node) => box(node).height > 0).map((node) => {
            const {top, bottom, left, right, height} = box(node);
            return [node.classList[node.classList.length - 1], {top, bottom, left, right, height}];
        })),
        across: document.querySelector('.jp-WindowedPanel-outer').scrollWidth - panel.width,
        lab: document.querySelector('.mll-lab').scrollWidth,
        room: document.querySelector('.mll-lab').clientWidth,
    };
}"""


def rectangles(page):
    page.settled()
    page.page.locator(".mll-lab").evaluate("(node) => node.scrollIntoView({block: 'start'})")
    page.settled()
    return page.page.evaluate(RECTANGLES)


def beside(one, other):
    return one["right"] <= other["left"] and abs(one["bottom"] - other["bottom"]) < 400


@pytest.mark.parametrize("size", [(1400, 757), (1280, 720)])
def test_search_box_list_and_matrix_are_in_sight_at_once(lab, size):
    lab.page.evaluate("window.jupyterapp.commands.execute('filebrowser:activate')")
    lab.page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
    ask(lab, "7 squared")
    seen = rectangles(lab)
    boxes = seen["boxes"]
    assert all(box["bottom"] <= seen["bottom"] for box in boxes.values()), boxes
    matrix, found = boxes["mll-heat-scroll"], boxes["mll-rb-scroll"]
    assert beside(found, matrix) and beside(boxes["mll-rb-query"], matrix)
    assert found["height"] > 250 and matrix["height"] > 150
    lab.rows.nth(9).scroll_into_view_if_needed()
    moved = rectangles(lab)["boxes"]
    assert moved["mll-rb-query"] == boxes["mll-rb-query"]  # the list scrolled, not the page
    lab.rows.first.get_by_role("button", name="as A").click()
    seen = rectangles(lab)
    panel = seen["boxes"]["mll-live"]
    assert "mll-heat-scroll" not in seen["boxes"] and panel["bottom"] <= seen["bottom"]
    assert beside(seen["boxes"]["mll-rb-scroll"], panel)
    assert seen["boxes"]["mll-rb-query"] == boxes["mll-rb-query"]
    lab.picture(f"retrieval-lab-what-differs-{size[0]}")


def test_no_width_has_a_bar_to_scroll_sideways(lab):
    ask(lab, "7 squared")
    for width in (480, 560, 700, 900, 1100, 1400, 1900, 2560):
        lab.page.set_viewport_size({"width": width, "height": 757})
        seen = rectangles(lab)
        assert seen["across"] <= 0 and seen["lab"] <= seen["room"], (width, seen)


def test_a_new_view_of_the_output_is_filled(lab):
    ask(lab, "7 squared")
    lab.page.evaluate(
        "document.activeElement.blur(); window.jupyterapp.commands.execute("
        "'notebook:create-output-view')"
    )
    view = lab.page.locator(".jp-LinkedOutputView")
    view.locator(".mll-heat-scroll").wait_for()
    lab.settled(".jp-LinkedOutputView, .jp-LinkedOutputView .mll")
    sizes = view.evaluate(
        """(node) => [node, node.querySelector('.mll-lab-pair')]
            .map((one) => one.getBoundingClientRect().height)"""
    )
    assert 0 <= sizes[0] - sizes[1] < 40
    assert view.evaluate("(node) => node.scrollHeight <= node.clientHeight + 1")


def test_choosing_a_result_brings_its_matrix_in_place_of_the_comparison(lab):
    ask(lab, "7 squared")
    title = lab.page.locator(".mll-sg .mll-title")
    lab.rows.first.get_by_role("button", name="as A").click()
    lab.page.locator(".mll-versus").wait_for()
    assert not title.is_visible()
    lab.rows.nth(2).click()
    third = lab.rows.nth(2).locator(".mll-rb-name").inner_text()
    title.get_by_text(third, exact=True).wait_for()
    assert not lab.page.locator(".mll-versus").is_visible()
    lab.rows.nth(2).focus()
    lab.page.keyboard.press("ArrowDown")
    fourth = lab.rows.nth(3).locator(".mll-rb-name").inner_text()
    title.get_by_text(fourth, exact=True).wait_for()


def test_what_is_to_be_said_of_the_vectors_stands_behind_a_sign(lab):
    said = lab.page.locator(".mll-tip", has_text="untrained for this").first
    sign = lab.page.locator(".mll-rb").get_by_role("button", name="About the vectors")
    assert not said.is_visible()
    sign.hover()
    assert said.is_visible()
    lab.page.mouse.move(0, 0)
    assert not said.is_visible()
    sign.focus()
    sign.click()
    lab.page.mouse.move(0, 0)
    assert said.is_visible()
    lab.page.keyboard.press("Escape")
    assert not said.is_visible()
    sign.evaluate("(node) => node.blur()")
    lab.page.locator(".mll-rb-query").focus()
    lab.page.keyboard.press("Shift+Tab")
    lab.page.keyboard.press("Shift+Tab")
    assert sign.evaluate("(node) => node === document.activeElement")
    assert said.is_visible()


def test_a_token_switched_in_one_view_is_off_in_both_without_the_kernel(lab):
    ask(lab, "7 squared")
    lab.kill_kernel()
    before = float(column(lab, "score")[0])
    lab.view.locator(".mll-sg-name input").nth(2).click()
    lab.page.wait_for_timeout(200)
    lab.drawn()
    assert lab.view.locator(".mll-rb-chip").nth(2).get_attribute("aria-pressed") == "false"
    lab.view.locator(".mll-rb-chip").nth(4).click()
    lab.page.wait_for_timeout(200)
    lab.drawn()
    assert not lab.view.locator(".mll-sg-name input").nth(4).is_checked()
    assert float(column(lab, "score")[0]) != before
    shown = lab.page.locator(".mll-sg .mll-title").inner_text()
    place = column(lab, "name").index(shown)
    score = lab.view.locator(".mll-sg-score").inner_text()
    assert score == f"score {column(lab, 'score')[place]}"


def test_an_edited_query_and_another_encoder_show_what_moves(lab):
    ask(lab, "7 squared")
    assert set(column(lab, "move")) == {""}
    ask(lab, "its square is 49")
    status = lab.view.locator(".mll-rb-status")
    status.get_by_text("moved against the query before").wait_for()
    assert set("".join(column(lab, "move"))) & set("▲▼")
    lab.view.get_by_label("Moves against").select_option("another encoder")
    status.get_by_text("moved against another encoder").wait_for(timeout=20_000)
    assert "its square is 49 [] [] document" in printed(lab)
    assert "another encoder" in lab.outputs().splitlines()[-1]


def test_reading_shows_how_far_it_is_and_can_be_stopped(lab):
    lab.run_cell(3, wait=False)
    status = lab.view.locator(".mll-rb-status")
    status.get_by_text("reading the documents:").wait_for(timeout=20_000)
    lab.view.get_by_role("button", name="Stop").click()
    status.get_by_text("stopped:").wait_for()
    box = lab.view.get_by_role("searchbox")
    box.fill("some words")
    box.press("Enter")
    lab.rows.first.wait_for()
    lab.view.get_by_role("button", name="Go on").click()
    status.get_by_text("the list is of those").wait_for()
    lab.view.get_by_role("button", name="Stop").click()
    status.get_by_text("stopped:").wait_for()


def test_it_is_there_after_a_reload_and_fits_a_narrow_dark_page(lab):
    ask(lab, "7 squared")
    names = column(lab, "name")
    lab.save_and_reload()
    lab.rows.nth(9).wait_for(timeout=30_000)
    assert column(lab, "name") == names
    lab.page.set_viewport_size({"width": 560, "height": 1600})
    lab.dark()
    lab.settled()
    for view in lab.view.all():
        assert view.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    lab.picture("retrieval-lab-dark-narrow")


def test_an_empty_query_is_answered_in_place(lab):
    box = lab.view.get_by_role("searchbox")
    box.fill("")
    box.press("Enter")
    lab.view.get_by_text("A query needs at least one word").wait_for()
    ask(lab, "7")
    assert not lab.view.get_by_text("A query needs at least one word").is_visible()

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
        "(text) => document.querySelector('.mll-sg-token') && "
        "document.querySelector('.mll-rb').dataset.state === 'ready'",
        arg=text,
    )
    page.page.wait_for_timeout(300)


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


def test_a_token_switched_in_one_view_is_off_in_both_without_the_kernel(lab):
    ask(lab, "7 squared")
    lab.kill_kernel()
    lab.page.wait_for_timeout(500)
    before = float(column(lab, "score")[0])
    lab.view.locator(".mll-sg-name input").nth(2).click()
    lab.page.wait_for_timeout(200)
    assert lab.view.locator(".mll-rb-chip").nth(2).get_attribute("aria-pressed") == "false"
    lab.view.locator(".mll-rb-chip").nth(4).click()
    lab.page.wait_for_timeout(200)
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
    lab.page.wait_for_timeout(400)
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

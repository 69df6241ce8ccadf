"""The picker in a real JupyterLab: a model by its path, the bench in its place, another model."""

from __future__ import annotations

import pytest

from mullama_lab.engine import tiny

SETUP = (
    "import mullama_lab as ml\nbench = ml.Workbench(prompt='Hello', max_tokens=6, seed=3)\nbench"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return tiny.write(folder / "tiny.gguf", chat_template=tiny.CHATML)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A model of another vocabulary."""
    return tiny.write(tmp_path_factory.mktemp("other") / "other.gguf", n_vocab=300)


@pytest.fixture
def page(notebook):
    page = notebook([SETUP], width=1400, height=757)
    page.run_cell(0)
    page.page.locator(".mll-mp-row").first.wait_for()
    return page


def load(page, path, n_ctx=""):
    page.page.locator(".mll-mp-file input").fill(str(path))
    page.page.get_by_label("context").fill(n_ctx)
    page.page.keyboard.press("Enter")


def test_a_model_is_picked_by_its_path_run_and_exchanged(page, path):
    load(page, "/nowhere/x.gguf")
    page.page.locator(".mll-mp-problem:has-text('no file')").wait_for()
    load(page, path, n_ctx="many")
    page.page.locator(".mll-mp-problem:has-text('n_ctx is')").wait_for()
    load(page, path, n_ctx="64")
    model = page.page.locator(".mll-pb-model")
    model.wait_for()
    assert model.inner_text().split() == ["model", "tiny", "▾"]
    assert page.page.locator(".mll-mp").count() == 0
    page.view.get_by_role("button", name="Run", exact=True).click()
    page.page.locator(".mll-rp-past:has-text('(1)')").wait_for()

    model.click()
    over = page.page.locator(".mll-mp[data-over]")
    over.wait_for()
    assert page.page.locator(".mll-rp").is_visible()
    assert "at work here" in over.inner_text() and "of 64 tokens" in over.inner_text()
    page.page.keyboard.press("Escape")
    over.wait_for(state="detached")

    model.click()
    over.wait_for()
    load(page, path, n_ctx="128")
    over.wait_for(state="detached")
    page.view.get_by_role("button", name="Run", exact=True).click()
    page.page.locator(".mll-rp-past:has-text('(2)')").wait_for()


def test_what_becomes_of_the_runs_is_said_before_and_they_come_back(page, path, other):
    load(page, path, n_ctx="64")
    model, past = page.page.locator(".mll-pb-model"), page.page.locator(".mll-rp-past")
    model.wait_for()
    page.view.get_by_role("button", name="Run", exact=True).click()
    past.get_by_text("Runs (1)").wait_for()
    text = page.page.locator(".mll-flow").inner_text()
    model.click()
    chosen = page.page.locator(".mll-mp-row[aria-checked=true]")
    chosen.wait_for()
    assert "at work here, 1 run" in chosen.inner_text()
    kept, go = page.page.locator(".mll-mp-kept"), page.page.locator(".mll-mp button[data-main]")
    assert kept.inner_text() == "" and go.inner_text() == "Go on"
    page.page.locator(".mll-mp-file input").fill(str(other))
    assert kept.inner_text().startswith("The tree here, of 1 run, is kept with tiny")
    page.picture("picker-says-what-becomes-of-the-runs")
    page.page.keyboard.press("Enter")
    past.get_by_text("Runs (0)").wait_for()
    remark = page.page.locator(".mll-rp-remark")
    remark.get_by_text("1 run with tiny: kept until that model is opened again").wait_for()
    model.click()
    former = page.page.locator(".mll-mp-row:has-text('1 run kept')")
    former.click()
    assert "1 run with tiny will be shown again" in kept.inner_text()
    page.picture("picker-before")
    go.click()
    past.get_by_text("Runs (1)").wait_for()
    page.page.wait_for_function(
        "(text) => document.querySelector('.mll-flow').innerText === text", arg=text
    )


def test_the_keyboard_alone_chooses_among_the_rows(page):
    rows = page.page.locator(".mll-mp-row")
    chosen = page.page.locator(".mll-mp-row[aria-checked=true]")
    assert chosen.get_attribute("data-key") == "smollm2-135m"
    chosen.focus()
    cells = page.page.locator(".jp-Cell").count()
    page.page.keyboard.press("ArrowDown")
    assert chosen.get_attribute("data-key") == rows.last.get_attribute("data-key") == "gemma3-270m"
    page.page.keyboard.press("ArrowUp")
    assert chosen.evaluate("node => node === document.activeElement")
    assert page.page.locator(".jp-Cell").count() == cells

"""The next-token view in a real JupyterLab: rows that stay, keys, numbers, failure."""

from __future__ import annotations

import pytest

SETUP = """
import pathlib, tempfile
import numpy as np
from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain, MinP, Penalties, Temperature, TopK
from mullama_lab.widgets import NextToken
model = Model.load(tiny.write(pathlib.Path(tempfile.mkdtemp()) / "tiny.gguf"))
row = np.full(model.n_vocab, -30.0, np.float32)
row[100:180] = -np.log(2.0) * np.arange(80)
view = NextToken()
def show(chain, **more):
    view.show(chain.preview(row, model=model, seed=7), after="Once", **more)
view
"""
LISTEN = "wishes = []; _ = view.on_bias(lambda token, change: wishes.append((token, change)))"
SHOW = "show(Penalties() | TopK(8) | MinP(0.1) | Temperature(0.5))"


@pytest.fixture
def page(notebook):
    more = ["show(Chain([TopK(2)]))", "view.fail('nothing is left')", LISTEN, "print(wishes)"]
    page = notebook([SETUP, SHOW, *more])
    page.run_cell(0)
    page.view.locator(":text('No distribution yet')").wait_for()
    page.run_cell(1)
    page.view.locator("tbody tr").first.wait_for()
    return page


def texts(page) -> list[str]:
    return page.view.locator(".mll-nt-text").all_inner_texts()


def test_rows_keep_their_elements_while_the_chain_changes(page) -> None:
    before = texts(page)
    page.page.evaluate("document.querySelectorAll('.mll-nt tbody tr').forEach((r) => (r.mine = 1))")
    height = page.view.bounding_box()["height"]
    page.run_cell(2)
    page.page.wait_for_function("document.querySelectorAll('.mll-nt thead th').length === 3")
    assert texts(page) == before
    kept = "[...document.querySelectorAll('.mll-nt tbody tr')].every((r) => r.mine)"
    assert page.page.evaluate(kept)
    assert abs(page.view.bounding_box()["height"] - height) < 24
    assert page.view.locator("td[data-removed]").count() == 18


def test_keys_go_over_the_rows_and_say_what_became_of_each(page) -> None:
    page.view.locator("tbody tr[tabindex='0']").focus()
    page.page.keyboard.press("End")
    details = page.view.locator(".mll-nt-details")
    assert "removed by TopK(8)" in details.inner_text()
    page.page.keyboard.press("d")
    assert "drawn, u = " in details.inner_text()
    page.page.keyboard.press("Home")
    assert "rank 0, 50.0% before" in details.inner_text()
    told = page.view.locator(".mll-spoken[role=status]")
    told.get_by_text("rank 0, 50.0% before").wait_for(state="attached")
    page.page.keyboard.press("t")
    assert page.view.get_by_role("button", name="Numbers").get_attribute("aria-pressed") == ("true")
    page.page.keyboard.press("l")
    page.view.locator("th:has-text('0.01–100%, log')").wait_for()


def test_buttons_in_a_row_ban_its_token_and_favour_it_where_somebody_listens(page) -> None:
    row = page.view.locator("tbody tr").nth(3)
    row.hover()
    ban = row.get_by_role("button", name="Ban ")
    page.view.locator(".mll-nt-details:has-text('rank 3')").wait_for()
    assert not ban.is_visible()  # nobody would hear it
    page.run_cell(4)
    page.page.locator(".mll-nt[data-biases]").wait_for()
    before = [page.view.locator("tbody tr").nth(i).bounding_box() for i in range(8)]
    row.hover()
    ban.wait_for()
    assert ban.get_attribute("title").endswith("(b)")
    assert [page.view.locator("tbody tr").nth(i).bounding_box() for i in range(8)] == before
    ban.click()
    page.page.mouse.move(5, 5)
    ban.wait_for(state="hidden")
    row.focus()
    row.get_by_role("button", name="Favour ").click()
    page.run_until(5, "[(103, -inf), (103, 1.0)]")


def test_a_failure_is_said_and_the_next_picture_takes_it_away(page) -> None:
    page.run_cell(3)
    page.view.locator("[role=alert]:has-text('nothing is left')").wait_for()
    assert page.view.locator("tbody tr").count() == 20
    page.run_cell(2)
    page.view.locator(".mll-note[role=alert]").wait_for(state="hidden")


def test_no_layout_is_wider_than_its_cell(notebook) -> None:
    page = notebook([SETUP, SHOW], width=500)
    page.run_all()
    page.view.locator("tbody tr").first.wait_for()
    page.dark()
    page.picture("next-token-narrow-dark")
    wide = "(el) => el.scrollWidth - el.clientWidth"
    assert page.view.evaluate(wide) <= 1
    assert page.view.locator(".mll-nt-scroll").evaluate("(el) => el.scrollWidth > 0")
    page.dark(False)

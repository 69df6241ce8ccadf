"""The rank board in a real JupyterLab, on contributions that one can check by hand."""

from __future__ import annotations

import pytest

SETUP = """
import numpy as np
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.widgets import Hit, RankBoard

def hand(pieces, vectors):
    ends = np.cumsum([len(piece) for piece in pieces])
    return MultiVector(
        vectors=np.asarray(vectors, np.float32), ids=np.arange(len(pieces)), kind="query",
        pieces=tuple(piece.encode() for piece in pieces), text="".join(pieces),
        spans=np.stack([np.r_[0, ends[:-1]], ends], axis=1),
    )

query = hand(["remove", " white", "space"], np.eye(3))
parts = {"dedent": [0.5, 0.25, 0.75], "strip": [0.75, 0.5, 0.0], "\\u202e<b>": [0.25, 0.5, 0.25]}
parts |= {f"other {i}": [0.2, 0.2, 0.3 - 0.01 * i] for i in range(20)}
hits = [
    Hit(name, np.array(row, np.float32), "שלום עולם" if k == 1 else f"what {name} does",
        hand(["one", " two", " three"], np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])), before=k)
    for k, (name, row) in enumerate(parts.items())
]
board = RankBoard(title="results", searchable=True)
heard = []
_ = board.on_search(lambda text: heard.append(text))
_ = board.on_open(lambda hit: heard.append(hit.name))
_ = board.on_rank_all(lambda: heard.append("all"))
board.show(query, hits, total=100, baseline="another index")
"""

READING = """
with board.hold_sync():
    board.state, board.progress = "indexing", [{n}, 30]
"""


@pytest.fixture
def board(notebook):
    said = "print(heard, board.off, board.pair, board.query)"
    page = notebook([SETUP, "board", said, READING.format(n=0), READING.format(n=20)])
    page.run_cell(0)
    page.run_cell(1)
    page.rows = page.view.locator(".mll-rb-row")
    page.rows.nth(9).wait_for()
    return page


def column(page, name):
    return page.view.locator(f".mll-rb-{name}").all_inner_texts()


def test_the_list_says_who_ranks_where_and_what_moved(board):
    assert column(board, "name")[:3] == ["dedent", "strip", "RLO<b>"]
    assert column(board, "score")[:3] == ["1.500", "1.250", "1.000"]
    assert column(board, "move")[:3] == ["new", "▼1", "▼1"]
    status = board.view.locator(".mll-rb-status").inner_text()
    assert "the 23 best of 100 documents" in status and "against another index" in status
    assert board.rows.count() == 10
    board.view.get_by_role("button", name="Show 10 more").click()
    board.rows.nth(19).wait_for()
    assert board.rows.count() == 20
    board.picture("rank-board")


def test_a_text_read_from_right_to_left_stands_below_its_name(board):
    lefts = """(row) => [".mll-rb-name", ".mll-rb-text"].map((part) => {
        const range = document.createRange();
        range.selectNodeContents(row.querySelector(part));
        return range.getBoundingClientRect().left;
    })"""
    for name in (0, 1):
        above, below = board.rows.nth(name).evaluate(lefts)
        assert abs(above - below) < 2


def test_switching_a_token_ranks_again_at_once(board):
    board.view.locator(".mll-rb-chip").nth(2).click()
    assert column(board, "name")[:3] == ["strip", "dedent", "RLO<b>"]
    assert column(board, "score")[:3] == ["1.250", "0.750", "0.750"]
    assert column(board, "move")[:3] == ["▲1", "▼1", "="]
    status = board.view.locator(".mll-rb-status").inner_text()
    assert "moved against all query tokens on; ranked among these 23 only" in status
    board.view.get_by_role("button", name="Rank all documents").click()
    board.run_until(2, "['all'] [2] []")
    board.view.get_by_role("button", name="All on").click()
    assert column(board, "name")[:2] == ["dedent", "strip"]


def test_the_bars_add_up_to_the_score(board):
    def widths():
        return board.rows.first.evaluate(
            """(row) => [...row.querySelectorAll('.mll-rb-bar > span')]
                .filter((part) => !part.hidden)
                .map((part) => [parseFloat(part.style.left), parseFloat(part.style.width)])"""
        )

    assert board.view.locator(".mll-tabs button").all_inner_texts() == ["What differs", "Whole"]
    scale = board.view.get_by_role("button", name="bars 0.400 to 1.500")
    scale.hover()
    board.view.get_by_text("from 0.400, which every document of this list has").wait_for()
    assert sum(w for _, w in widths()) == pytest.approx(100, abs=0.01)
    board.view.get_by_role("button", name="Whole").click()
    lefts, wide = zip(*widths(), strict=True)
    assert list(wide) == pytest.approx([100 * x / 1.5 for x in (0.5, 0.25, 0.75)], abs=0.01)
    assert list(lefts) == pytest.approx([0, wide[0], wide[0] + wide[1]], abs=0.01)


def test_one_document_by_itself_differs_from_nothing(notebook):
    page = notebook([SETUP, "board.show(query, hits[:1])\nboard"])
    page.run_all()
    page.view.get_by_role("button", name="bars 0.000 to 1.500").wait_for()
    assert not page.view.locator(".mll-tabs").is_visible()
    page.picture("rank-board-one")


def test_two_documents_side_by_side_say_why_one_is_ahead(board):
    board.rows.nth(0).get_by_role("button", name="as A").click()
    panel = board.view.locator(".mll-versus")
    panel.get_by_text("A is 0.250 ahead of B").wait_for()
    panel.locator("tbody tr").first.get_by_text("one").nth(1).wait_for()
    texts = panel.locator("tbody tr").all_inner_texts()
    rows = [text.replace("\n", "").split("\t") for text in texts]
    assert rows[0] == ["2space", "one", "0.750", "+0.750", "0.000", "one"]
    assert rows[-1][2:5] == ["1.500", "+0.250", "1.250"]
    board.picture("rank-board-versus")
    board.view.locator(".mll-rb-chip").nth(2).click()
    panel.get_by_text("A is 0.500 behind B").wait_for()
    board.press("Tab")
    board.rows.first.focus()
    board.press("Escape")
    assert not panel.is_visible()


def test_the_keyboard_does_what_the_mouse_does(board):
    before = board.page.locator(".jp-Notebook .jp-Cell").count()
    board.rows.first.focus()
    board.press("ArrowDown", "ArrowRight", "ArrowRight")
    details = board.view.locator(".mll-rb-details").inner_text()
    assert details == "2nd strip · score 1.250 · query token 1 “white” adds 0.500 of 1.250"
    board.press("Space")
    assert "query token 1 “white” is off" in board.view.locator(".mll-rb-details").inner_text()
    board.press("Enter", "a", "d")
    board.press("Home", "b", "End")
    assert board.view.locator(".mll-versus").is_visible()
    assert board.view.locator(".mll-tabs [aria-pressed='true']").inner_text() == "Whole"
    board.press("?")
    assert board.view.locator(".mll-help").is_visible()
    board.run_until(2, "['strip', 'strip'] [1] [1, 0]")
    assert board.page.locator(".jp-Notebook .jp-Cell").count() == before


def test_what_the_arrows_change_is_told_and_the_open_document_is_marked(board):
    told = board.view.locator(".mll-spoken[role=status]")
    board.rows.first.focus()
    board.press("ArrowDown", "ArrowRight", "ArrowRight")
    told.get_by_text("query token 1 “white” adds 0.500 of 1.250").wait_for(state="attached")
    board.press("Enter")
    marks = board.rows.evaluate_all("(rows) => rows.map((row) => row.ariaCurrent)")
    assert marks == ["false", "true", *["false"] * 8]


def test_documents_that_are_read_do_not_flood_the_ear(board):
    board.run_cell(3)
    told = board.view.locator(".mll-spoken[role=status]")
    told.get_by_text("reading the documents: 0 of 30").wait_for(state="attached")
    board.run_cell(4)
    board.view.locator(".mll-rb-status :text('20 of 30')").wait_for()
    board.page.wait_for_timeout(1200)
    assert told.inner_text().startswith("reading the documents: 0 of 30")
    assert board.view.locator(".mll-rb-status [role=status]").count() == 0


def test_chips_are_one_tab_stop_with_arrows(board):
    chips = board.view.locator(".mll-rb-chip")
    chips.first.focus()
    board.press("ArrowRight", "Space", "End", "Space")
    assert [chips.nth(i).get_attribute("aria-pressed") for i in range(3)] == [
        "true",
        "false",
        "false",
    ]
    stops = board.view.locator(".mll-rb-chip[tabindex='0']")
    assert stops.count() == 1


def test_a_search_reaches_python_and_its_failure_the_eye(board):
    box = board.view.get_by_role("searchbox")
    box.fill("how do I <b>trim</b>?")
    box.press("Enter")
    board.run_until(2, "how do I <b>trim</b>?")


def test_its_state_comes_back_after_a_reload(board):
    board.view.locator(".mll-rb-chip").nth(2).click()
    board.run_until(2, "[2]")
    board.save_and_reload()
    board.rows.nth(9).wait_for(timeout=30_000)
    assert column(board, "name")[:2] == ["strip", "dedent"]


def test_it_fits_a_narrow_page_and_a_dark_one(board):
    board.page.set_viewport_size({"width": 560, "height": 900})
    board.settled()
    assert board.view.first.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    board.dark()
    board.picture("rank-board-dark-narrow")
    colour = "(node) => getComputedStyle(node).backgroundColor"
    dark = board.rows.first.evaluate(colour)
    board.dark(False)
    assert board.rows.first.evaluate(colour) != dark


def test_a_dead_kernel_is_said_and_ranking_goes_on(board):
    board.kill_kernel()
    board.view.first.hover(position={"x": 5, "y": 5})
    board.page.get_by_text("The kernel does not answer. Run the cell again to go on.").wait_for()
    assert board.view.get_by_role("button", name="Search").is_disabled()
    board.view.locator(".mll-rb-chip").nth(2).click()
    assert column(board, "name")[:2] == ["strip", "dedent"]

"""The Python half of the rank board, on contributions that one can check by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from page import ask, ask_data, text_of

from mullama_lab.engine.multivector import maxsim
from mullama_lab.widgets.rank_board import MOST_HITS, MOST_QUERY, MOST_TEXT, Hit, RankBoard

QUERY = ["remove", " white", "space"]
PARTS = {"dedent": [0.5, 0.25, 0.75], "strip": [0.75, 0.5, 0.0], "indent": [0.25, 0.5, 0.25]}
HOSTILE = "\u202eevil\n<script>😀\x00\ud800" * 40


def hits(**changes):
    return [
        Hit(name, np.array(parts, np.float32), text=f"{name} does it", **changes)
        for name, parts in PARTS.items()
    ]


@pytest.fixture
def query(by_hand):
    return by_hand(QUERY, np.eye(3))


@pytest.fixture
def board(query):
    board = RankBoard(title="results", searchable=True)
    board.show(query, hits(), total=412)
    return board


def test_a_score_is_the_sum_of_its_contributions(board):
    assert board.scores == [1.5, 1.25, 1.0]
    assert [sum(row) for row in board.contributions.tolist()] == board.scores
    assert board.order == [0, 1, 2]


def test_without_a_token_the_order_is_another(board):
    board.off = [2]
    assert board.scores == [0.75, 1.25, 0.75]
    assert board.order == [1, 0, 2]
    assert board.to_pandas().index.tolist() == ["strip", "dedent", "indent"]
    assert board.to_pandas()["2 space"].tolist() == [0, 0, 0]


def test_a_table_adds_each_document_up_once(board, monkeypatch):
    totals = []
    total = maxsim.total
    monkeypatch.setattr(maxsim, "total", lambda row: totals.append(row) or total(row))
    board.to_pandas()
    assert len(totals) == len(PARTS)


@pytest.mark.parametrize("sent", [{"selected": 3}, {"selected": -2}, {"off": [3]}, {"pair": [0]}])
def test_places_that_are_not_there_are_refused_from_the_browser_too(board, sent):
    before = {name: getattr(board, name) for name in sent}
    board.set_state(sent)
    assert {name: getattr(board, name) for name in sent} == before


def test_what_the_browser_gets_is_what_python_has(query):
    board = RankBoard()
    found = [Hit(h.name, h.contributions, h.text, before=i) for i, h in enumerate(hits())]
    board.show(query, found, baseline="the query before")
    header, buffers = ask_data(board, "board")
    assert header == {"epoch": board.epoch, "rows": 3}
    assert buffers[1] == b"remove whitespace"
    assert buffers[3] == b"dedentstripindent"
    values = np.frombuffer(buffers[6], "<f4").reshape(3, 3)
    assert values.tolist() == list(PARTS.values())
    assert np.frombuffer(buffers[7], "<i4").tolist() == [0, 1, 2]
    assert buffers[9] == b""
    board.show(query, found)
    assert ask_data(board, "board")[1][7] == b""


def test_special_tokens_are_named_in_the_list_and_in_what_matched(by_hand):
    nowhere = np.array([[-1, -1], [0, 4]])
    query, document = (
        replace(by_hand([piece, "file"], np.eye(2)), text="file", spans=nowhere, kind=kind)
        for piece, kind in (("[unused0]", "query"), ("[unused1]", "document"))
    )
    board = RankBoard()
    parts = np.array([1.0, 0.5], np.float32)
    board.show(query, [Hit("x", parts, document=document), Hit("y", parts)])
    says = b"[unused0], the query marker: tells the model that this is a query"
    assert ask_data(board, "board")[1][9] == says
    _, buffers = ask_data(board, "matches", {"a": 0, "b": 1})
    assert buffers[1] == b"[D]file"
    assert buffers[3].startswith(b"[unused1], the document marker")
    assert board.to_pandas().columns.tolist() == ["score", "0 [Q]", "1 file"]
    assert re.search(r"1st +x +1\.50 +0 \[Q\] 1\.00", text_of(board))
    html = board._still_forms()["text/html"]
    assert re.search(rf'title="{re.escape(says.decode())}"[^>]*>Q</span> 1\.00', html)


def test_two_documents_say_which_token_of_theirs_matched(query, by_hand):
    document = by_hand(["a", "b", "c"], np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]))
    asked = []
    lazily = lambda: asked.append(1) or document  # noqa: E731
    board = RankBoard()
    parts = np.ones(3, np.float32)
    board.show(query, [Hit("x", parts, document=lazily), Hit("y", parts)])
    assert asked == []
    _, buffers = ask_data(board, "matches", {"a": 0, "b": 1})
    assert (buffers[1], buffers[3], buffers[5], asked) == (b"bca", b"", b"", [1])


def test_searching_stopping_opening_and_ranking_tell_who_listens(board):
    heard = []
    leave = board.on_search(heard.append)
    board.on_stop(lambda: heard.append("stop"))
    board.on_open(lambda hit: heard.append(hit.name))
    board.on_rank_all(lambda: heard.append("all"))
    ask(board, "search", {"text": "a query"})
    ask(board, "stop")
    ask(board, "open", {"row": 1})
    ask(board, "rank_all")
    leave()
    assert heard == ["a query", "stop", "strip", "all"]
    assert board.selected == 1
    with pytest.raises(ValueError, match="nothing listens to search"):
        ask(board, "search", {"text": "again"})


@pytest.mark.parametrize(
    ("op", "args"),
    [("open", {"row": 3}), ("open", {"row": -1}), ("open", {}), ("matches", {"a": 0}),
     ("matches", {"a": 0, "b": "1"}), ("search", {"text": 7}), ("search", {}),
     ("search", {"text": "x" * (MOST_QUERY + 1)}), ("delete", {})],
)  # fmt: skip
def test_bad_requests_are_refused(board, op, args):
    board.on_search(lambda text: None)
    with pytest.raises(ValueError, match=r"from 0 to 2|at most 4000 characters|no request"):
        ask(board, op, args)


@pytest.mark.parametrize(("trait", "value"), [("off", [3]), ("pair", [0, 3]), ("pair", [1])])
def test_places_that_are_not_there_are_refused(board, trait, value):
    with pytest.raises(ValueError, match=r"go from 0 to 2"):
        setattr(board, trait, value)


def test_contributions_of_a_wrong_shape_or_not_finite_are_refused(query):
    board = RankBoard()
    with pytest.raises(ValueError, match=r"'x' have shape \(2,\); the query has 3 tokens"):
        board.show(query, [Hit("x", np.ones(2, np.float32))])
    with pytest.raises(ValueError, match="'x' is not finite"):
        board.show(query, [Hit("x", np.array([1, np.nan, 1], np.float32))])
    with pytest.raises(ValueError, match=f"at most {MOST_HITS}"):
        board.show(query, [Hit("x", np.ones(3, np.float32))] * (MOST_HITS + 1))


def test_another_search_begins_with_all_tokens_on(board, query):
    board.off, board.pair = [1], [0, 2]
    board.show(query, hits()[:1])
    assert (board.off, board.pair, board.selected, board.total) == ([], [], -1, 1)


def test_no_query_tokens_and_no_documents_are_no_error(board, by_hand):
    board.show(by_hand([], np.zeros((0, 3))), [Hit("x", np.zeros(0, np.float32))])
    assert board.scores == [0.0]
    assert text_of(board)
    board.show(by_hand(QUERY, np.eye(3)), [])
    assert board.contributions.shape == (0, 3)
    board.clear(total=5)
    assert text_of(board).endswith("no results, 5 documents")


def test_a_failure_keeps_what_was_shown(board):
    board.fail(ValueError("the query has 600 tokens"))
    assert (board.state, board.problem) == ("failed", "the query has 600 tokens")
    assert len(board.hits) == 3


def test_the_plain_form_is_the_same_each_time_and_adds_up(board):
    assert text_of(board) == text_of(board)
    lines = text_of(board).splitlines()
    assert lines[:2] == ["results", "'remove whitespace': 3 of 412 documents"]
    assert re.match(r"1st +dedent +1\.50 +2 space 0\.75", lines[3])


def test_hostile_text_is_text_in_every_form(by_hand):
    board = RankBoard(title=HOSTILE[:20])
    board.show(by_hand([HOSTILE], np.eye(1)), [Hit(HOSTILE, np.ones(1, np.float32), HOSTILE)])
    for form in board._still_forms().values():
        form.encode("utf-8")
        assert not re.search("[\x00\r\u202e]", form)
    assert "<script>" not in board._still_forms()["text/html"]
    _, buffers = ask_data(board, "board")
    assert len(buffers[5]) <= 4 * MOST_TEXT


def test_a_saved_view_stays_small(by_hand):
    board = RankBoard()
    query = by_hand(["token"] * 100, np.eye(100))
    board.show(query, [Hit("name" * 50, np.ones(100, np.float32), "text " * 200)] * 200)
    state = {k: v for k, v in board.get_state().items() if k not in ("_esm", "_css")}
    saved = len(board._still_forms()["text/html"]) + len(repr(state))
    assert saved < 40_000


def test_its_code_searches_for_the_same(board):
    board.off, board.bars = [1], "whole"
    assert board.to_code() == "lab.search('remove whitespace')\nlab.set(off=[1], bars='whole')"

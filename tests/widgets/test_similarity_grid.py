"""The Python half of the similarity grid, on vectors that one can check by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page import ask, ask_data, text_of

from mullama_lab.engine.multivector import maxsim
from mullama_lab.widgets import _front_end
from mullama_lab.widgets._rounding import adds_up
from mullama_lab.widgets._tokens_in_text import in_text, labels, special, words
from mullama_lab.widgets.similarity_grid import MOST_BYTES, SimilarityGrid

QUERY = ["[CLS]", "re", "move", " it"]
DOCUMENT = ["[CLS]", "Strip", " the", "\n", "text"]
SIMILAR = [[0.9, 0.1, 0, 0, 0], [0, 0.8, 0.1, 0, 0.2], [0, 0.7, 0, 0.3, 0], [0.1, 0, 0.2, 0.2, 0.6]]
HOSTILE = ["\u202eevil", "\u200b", "<script>", "😀", "\x00", "שלום", "\r\n", "$x_1$", "\ud800"]


@pytest.fixture
def pair(by_hand):
    """A query of unit vectors e1..e4, so that the document's components are the similarities."""
    return by_hand(QUERY, np.eye(4)), by_hand(DOCUMENT, np.array(SIMILAR).T)


@pytest.fixture
def grid(pair):
    return SimilarityGrid(*pair, title="a grid")


def test_the_matrix_is_the_similarity_of_each_pair(grid):
    np.testing.assert_allclose(grid.matrix, SIMILAR, rtol=1e-6)
    assert grid.best.tolist() == [0, 1, 1, 4]
    with pytest.raises(ValueError, match="read-only"):
        grid.matrix[0, 0] = 1


def test_contributions_add_up_to_the_score_exactly(by_hand):
    rng = np.random.default_rng(3)
    for rows, columns in ((1, 1), (32, 128), (7, 300)):
        query = by_hand(["a"] * rows, rng.normal(size=(rows, 16)))
        document = by_hand(["b"] * columns, rng.normal(size=(columns, 16)))
        grid = SimilarityGrid(query, document)
        assert grid.score == maxsim.total(grid.contributions)
        slow = [max(float(q @ d) for d in document.vectors) for q in query.vectors]
        np.testing.assert_allclose(grid.contributions, slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fast", [True, False])
def test_the_score_is_that_of_the_engine_to_the_last_bit(by_hand, monkeypatch, fast):
    if not fast:
        monkeypatch.setattr(maxsim, "compiled", lambda: None)
    rng = np.random.default_rng(5)
    for rows, columns, dim in ((1, 1, 3), (7, 13, 32), (33, 17, 40), (32, 300, 96), (48, 999, 384)):
        query = by_hand(["a"] * rows, rng.normal(size=(rows, dim)))
        for dtype in (np.float32, np.float16):
            vectors = rng.normal(size=(columns, dim)).astype(dtype)
            document = by_hand(["b"] * columns, vectors)
            grid = SimilarityGrid(query, document)
            np.testing.assert_array_equal(grid.contributions, maxsim.contributions(query, document))
            assert grid.score == maxsim.score(query, document)
    empty = by_hand([], np.zeros((0, dim)))
    assert SimilarityGrid(query, empty).score == maxsim.score(query, empty) == 0.0


def test_scores_are_added_first_to_last_as_the_engine_does(by_hand):
    # 1e8 takes away what the ones before it were, and a compensated sum would keep it.
    values = np.array([[1.0], [1e8], [1e-3], [-1e8]], np.float32)
    grid = SimilarityGrid(by_hand(["a"] * 4, values), by_hand(["b"], np.ones((1, 1))))
    assert grid.score == ((1.0 + 1e8) + float(np.float32(1e-3))) - 1e8


def test_a_token_that_is_off_adds_nothing(grid):
    whole = grid.score
    grid.off = [2, 0, 2]
    assert grid.off == [0, 2]
    assert grid.contributions.tolist() == pytest.approx([0, 0.8, 0, 0.6])
    assert grid.score == pytest.approx(whole - 0.9 - 0.7)


@pytest.mark.parametrize("off", [[4], [-1], [0, 99]])
def test_only_tokens_of_the_query_can_be_off(grid, off):
    with pytest.raises(ValueError, match="go from 0 to 3"):
        grid.off = off
    assert grid.off == []


def test_the_same_query_keeps_its_switches_and_another_begins_anew(grid, pair, by_hand):
    grid.off = [1]
    grid.show(pair[0], by_hand(["other"], np.ones((1, 4))))
    assert grid.off == [1]
    grid.show(by_hand(["other"], np.ones((1, 4))), pair[1])
    assert grid.off == []


def test_what_the_browser_gets_is_the_matrix_in_parts(by_hand):
    rows, columns = 512, 2048
    rng = np.random.default_rng(0)
    query = by_hand(["q"] * rows, rng.normal(size=(rows, 4)))
    grid = SimilarityGrid(query, by_hand(["d"] * columns, rng.normal(size=(columns, 4))))
    parts, have = [], 0
    while have < rows:
        header, (data,) = ask_data(grid, "matrix", {"from": have})
        assert len(data) <= MOST_BYTES and header["epoch"] == grid.epoch
        parts.append(np.frombuffer(data, "<f4").reshape(header["rows"], columns))
        have += header["rows"]
    assert np.array_equal(np.concatenate(parts), grid.matrix)


def test_the_texts_are_tokens_gaps_and_words(grid):
    header, buffers = ask_data(grid, "texts")
    assert header == {"epoch": grid.epoch, "scale": [0.0, float(grid.matrix.max())]}
    assert buffers[1] == b"[CLS]remove it"
    assert buffers[3] == b"[CLS]Strip the\ntext"
    assert buffers[7] == buffers[9] == b"[CLS], a special token: begins a text"
    assert np.frombuffer(buffers[8], "<i4").tolist() == [len(buffers[9]), 0, 0, 0, 0]
    assert np.frombuffer(buffers[10], "<i4").tolist() == [0, 1, 1, 2]
    assert np.frombuffer(buffers[11], "<i4").tolist() == [0, 1, 2, 3, 4]


def test_unit_vectors_have_the_scale_from_0_to_1(by_hand):
    grid = SimilarityGrid(by_hand(["a"], [[1, 0]]), by_hand(["b", "c"], [[0.6, 0.8], [-1, 0]]))
    assert ask(grid, "texts")["scale"] == [0.0, 1.0]
    grid.show(by_hand(["a"], [[2, 0]]), by_hand(["b", "c"], [[3, 0], [-1, 0]]))
    assert ask(grid, "texts")["scale"] == [-2.0, 6.0]


def test_the_markers_of_queries_and_documents_are_shown_as_what_they_are(by_hand):
    nowhere = np.array([[-1, -1], [0, 4]])
    query = replace(by_hand(["[unused0]", "file"], np.eye(2)), text="file", spans=nowhere)
    document = replace(by_hand(["[D] ", "file"], np.eye(2)), text="file", spans=nowhere)
    query, document = replace(query, kind="query"), replace(document, kind="document")
    grid = SimilarityGrid(query, document)
    assert grid.to_pandas().index[0] == (0, "[Q]")
    assert grid.to_pandas().columns[0] == (0, "[D]")
    assert re.search(r"^0 +\[Q\] +1\.00 +\[D\] +0$", text_of(grid), re.MULTILINE)
    html = grid._still_forms()["text/html"]
    for mark, piece, kind in (("Q", "[unused0]", "query"), ("D", "[D]", "document")):
        says = f"{piece}, the {kind} marker: tells the model that this is a {kind}"
        assert re.search(rf'title="{re.escape(says)}"[^>]*>{mark}</span>', html)
    swapped = replace(query, kind="document")
    assert labels(swapped)[0] == "[unused0]" and "no text" in special(swapped)[0]


def test_a_marker_that_the_text_itself_has_is_text(by_hand):
    spans = np.array([[0, 9], [9, 12]])
    tokens = replace(by_hand(["[unused0]", "[Q]"], np.eye(2)), text="[unused0][Q]", spans=spans)
    assert special(tokens) == ["", ""]


def test_what_stands_between_tokens_is_kept(by_hand):
    spans = np.array([[1, 2], [5, 6]])
    tokens = replace(by_hand(["a", "b"], np.eye(2)), text="«a — b»", spans=spans)
    assert in_text(tokens) == (["a", "b"], ["«", " — ", "»"])
    assert words(tokens).tolist() == [0, 1]


def test_what_ends_a_text_stands_behind_the_mark_that_has_no_vector(by_hand):
    spans = np.array([[-1, -1], [0, 4], [-1, -1]])
    tokens = replace(by_hand(["[CLS]", "file", "[SEP]"], np.eye(3)), text="file.", spans=spans)
    assert in_text(tokens) == (["[CLS]", "file", "[SEP]"], ["", "", ".", ""])


def test_tokens_that_share_a_character_show_it_once(by_hand):
    spans = np.array([[0, 1], [0, 1]])
    tokens = replace(by_hand(["x", "y"], np.eye(2)), text="😀", spans=spans)
    assert in_text(tokens) == (["😀", ""], ["", "", ""])
    assert words(tokens).tolist() == [0, 1]


def test_an_empty_side_is_said_and_nothing_is_invented(by_hand, pair):
    nothing = by_hand([], np.zeros((0, 4)))
    grid = SimilarityGrid(nothing, pair[1])
    assert (grid.n_query, grid.score) == (0, 0.0)
    assert "query has no tokens" in text_of(grid)
    grid.show(pair[0], nothing)
    assert (grid.n_document, grid.score, grid.best.tolist()) == (0, 0.0, [-1] * 4)
    assert "document has no tokens" in grid._still_forms()["text/html"]
    grid.show(None, None)
    assert repr(grid) == "SimilarityGrid()"
    with pytest.raises(ValueError, match=r"show\(query, document\)"):
        ask(grid, "matrix", {"from": 0})


def test_vectors_of_other_widths_are_refused(pair, by_hand):
    with pytest.raises(ValueError, match="query has vectors of 4 numbers, the document of 3"):
        SimilarityGrid(pair[0], by_hand(["a"], np.ones((1, 3))))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(pair, by_hand, bad):
    with pytest.raises(ValueError, match="NaN or an infinity"):
        SimilarityGrid(pair[0], by_hand(["a", "b"], [[1, 0, 0, 0], [0, bad, 0, 0]]))


def test_a_pair_that_is_too_big_and_what_is_no_pair_are_refused(by_hand, pair):
    long = by_hand(["a"] * 3000, np.ones((3000, 1)))
    with pytest.raises(ValueError, match="9000000 cells; a grid shows at most 4194304"):
        SimilarityGrid(long, long)
    with pytest.raises(TypeError, match="document is 'text'; give a MultiVector"):
        SimilarityGrid(pair[0], "text")


@pytest.mark.parametrize("args", [{}, {"from": -1}, {"from": 4}, {"from": "0"}, {"from": 0.5}])
def test_requests_out_of_range_are_refused(grid, args):
    with pytest.raises(ValueError, match="must be a whole number from 0 to 3"):
        ask(grid, "matrix", args)


def test_the_table_has_every_cell(grid):
    table = grid.to_pandas()
    assert table.shape == (4, 5)
    assert table.loc[(2, "move"), (1, "Strip")] == np.float32(0.7)
    assert table.index.names == ["query", "token"]


def test_the_plain_form_adds_up(grid):
    grid.off = [0]
    text = text_of(grid)
    assert text == text_of(grid)
    adds = re.findall(r"^\d+ .*?(\d\.\d\d)", text, re.MULTILINE)
    assert sum(round(100 * float(x)) for x in adds) == 210
    assert re.search(r"score +2\.10", text) and "off" in text


def test_printed_parts_add_up_to_the_printed_sum():
    rng = np.random.default_rng(1)
    for n in range(1, 60):
        values = rng.normal(size=n).tolist()
        parts, total = adds_up(values)
        assert sum(round(1000 * x) for x in parts) == round(1000 * total)
        assert all(abs(x - y) < 0.001 + 1e-12 for x, y in zip(parts, values, strict=True))
    assert adds_up([]) == ([], 0.0)


def test_hostile_text_is_text_in_every_form(by_hand):
    tokens = by_hand(HOSTILE, np.eye(len(HOSTILE)))
    grid = SimilarityGrid(tokens, tokens, title="<b>\u202e</b>")
    forms = grid._still_forms()
    assert "&lt;script&gt;" in forms["text/html"] and "😀" in forms["text/html"]
    for form in forms.values():
        form.encode("utf-8")
        assert not re.search("[\x00\r\u202e\u200b]", form)
    assert "<script>" not in forms["text/html"]
    _, buffers = ask_data(grid, "texts")
    assert b"".join(buffers)


def test_a_saved_view_stays_small(by_hand):
    tokens = by_hand([" word"] * 400, np.eye(400))
    grid = SimilarityGrid(tokens, tokens)
    html = grid._still_forms()["text/html"]
    state = {k: v for k, v in grid.get_state().items() if k not in ("_esm", "_css")}
    assert len(html) + len(repr(state)) < 40_000


def test_its_code_makes_the_same_grid(pair):
    grid = SimilarityGrid(*pair, scale="by query", unit="words")
    grid.off = [1]

    class Encoder:
        def encode_query(self, text):
            assert text == pair[0].text
            return pair[0]

        def encode_documents(self, texts):
            assert texts == [pair[1].text]
            return [pair[1]]

    names = {"encoder": Encoder()}
    exec(grid.to_code(), names)
    made = names["grid"]
    assert (made.scale, made.unit, made.off) == ("by query", "words", [1])
    assert made.score == grid.score


def test_both_halves_round_alike():
    script = Path(_front_end.folder(), "shared/matrix.js").read_text(encoding="utf-8")
    assert "Math.floor(x * unit)" in script and "Math.round(" in script

"""RetrievalLab driven from Python, as the browser drives it, on a tiny real encoder."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from page import ask

import mullama_lab as ml
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.model import Model
from mullama_lab.engine.multivector import maxsim
from mullama_lab.engine.tiny import write
from mullama_lab.errors import ClosedError

DOCUMENTS = {
    "dedent": "Remove any common leading whitespace from every line.",
    "fill": "Fill a single paragraph of text.",
    "rmtree": "Delete an entire directory tree.",
    "gcd": "Greatest common divisor of the integers.",
    "which": "The path of the program that a command would run.",
    "escape": "Make a text safe for a web page.",
    "median": "The middle value of the data.",
    "sample": "Some elements, each at most once.",
}
N = len(DOCUMENTS)
QUERY = "common whitespace"


@pytest.fixture(scope="module")
def encoder(tiny_model):
    with MultiVectorEncoder(tiny_model, n_threads=1) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    with (
        Model.load(write(tmp_path_factory.mktemp("other") / "other.gguf", seed=5)) as model,
        MultiVectorEncoder(model, n_threads=1) as encoder,
    ):
        yield encoder


@pytest.fixture
def lab(encoder, other):
    lab = ml.labs.RetrievalLab(encoder, DOCUMENTS, rivals={"other": other}, title="a lab")
    yield lab
    lab.close()


def by_hand(encoder, text, documents=DOCUMENTS):
    """Names and scores as `maxsim` alone makes them, best first."""
    query = encoder.encode_query(text)
    found = encoder.encode_documents(documents.values(), progress=False)
    scores = {name: maxsim.score(query, each) for name, each in zip(documents, found, strict=True)}
    return sorted(scores.items(), key=lambda item: -item[1])


def test_a_search_ranks_as_maxsim_does(lab, encoder):
    hits = lab.search(QUERY)
    expected = by_hand(encoder, QUERY)
    assert list(hits.ids) == [name for name, _ in expected]
    np.testing.assert_allclose(hits.scores, [score for _, score in expected], rtol=1e-4)
    assert lab.hits is hits and lab.query == QUERY


def test_the_board_shows_the_hits_and_the_grid_the_first_of_them(lab, encoder):
    hits = lab.search(QUERY)
    assert [hit.name for hit in lab.board.hits] == list(hits.ids)
    np.testing.assert_allclose(lab.board.scores, hits.scores, rtol=1e-5)
    assert lab.board.state == "ready" and lab.board.total == N
    assert lab.grid.title == hits.ids[0] and lab.board.selected == 0
    assert lab.grid.score == pytest.approx(lab.board.scores[0], rel=1e-5)
    lab.look_at(hits.ids[2])
    assert (lab.grid.title, lab.board.selected) == (hits.ids[2], 2)


def test_what_it_gives_as_a_table_adds_up(lab):
    lab.search(QUERY)
    table = lab.to_pandas()
    np.testing.assert_allclose(table.iloc[:, 1:].sum(axis=1), table["score"], rtol=1e-5)
    assert table["score"].is_monotonic_decreasing


def test_editing_the_query_shows_what_moved(lab, encoder):
    lab.search(QUERY)
    assert lab.board.baseline == ""
    lab.search("directory")
    before = {name: rank for rank, (name, _) in enumerate(by_hand(encoder, QUERY), 1)}
    assert lab.board.baseline == "the query before"
    assert [hit.before for hit in lab.board.hits] == [before[hit.name] for hit in lab.board.hits]
    lab.search("directory")  # the same again: still measured against the other query
    assert [hit.before for hit in lab.board.hits] == [before[hit.name] for hit in lab.board.hits]


def test_another_encoder_is_compared_rank_by_rank(lab, encoder, other):
    lab.search(QUERY)
    table = lab.compare("other")
    ours, theirs = (
        {name: rank for rank, (name, _) in enumerate(by_hand(side, QUERY), 1)}
        for side in (encoder, other)
    )
    assert ours != theirs
    expected = {name for name in ours if ours[name] != theirs[name]}
    assert set(table["document"]) == expected
    for row in table.itertuples():
        assert (row.before, row.after) == (theirs[row.document], ours[row.document])
    assert (lab.board.rival, lab.board.baseline) == ("other", "other")
    assert [hit.before for hit in lab.board.hits] == [theirs[hit.name] for hit in lab.board.hits]
    assert lab.compare("").empty
    assert lab.board.baseline == ""


def test_other_storage_is_compared_over_many_queries(lab, encoder):
    queries = [QUERY, "directory", "text"]
    table = lab.compare("int8", queries)
    small = MultiVectorIndex(encoder, storage="int8")
    small.add(list(DOCUMENTS.values()), list(DOCUMENTS), progress=False)
    for i, text in enumerate(queries):
        query = encoder.encode_query(text)
        ranks = {name: rank for rank, name in enumerate(small.search(query, N).ids, 1)}
        now = {name: rank for rank, name in enumerate(lab.index.search(query, N).ids, 1)}
        moved = table[table["query"] == i]
        assert set(moved["document"]) == {name for name in now if now[name] != ranks[name]}


def test_rounded_vectors_are_no_measure_for_exact_ones(encoder):
    lab = ml.labs.RetrievalLab(encoder, DOCUMENTS, storage="int8")
    lab.search(QUERY)
    lab.compare("float32")
    exact = encoder.encode_documents(DOCUMENTS.values())[list(DOCUMENTS).index("gcd")]
    reading = lab._rivals.reading
    assert np.array_equal(reading.index.get("gcd").vectors, exact.vectors)
    assert not np.array_equal(lab.index.get("gcd").vectors, exact.vectors)
    lab.close()


def test_documents_added_later_are_found_and_compared_too(lab):
    lab.search(QUERY)
    lab.compare("float16")
    lab.add({"new": QUERY})
    lab.wait()
    assert "new" in [hit.name for hit in lab.board.hits]
    assert lab.progress == (N + 1, N + 1)
    assert set(lab._rivals.reading.index.ids) == {*DOCUMENTS, "new"}


def test_texts_without_names_are_numbered(encoder):
    lab = ml.labs.RetrievalLab(encoder, list(DOCUMENTS.values()))
    lab.add(["one more"])
    lab.wait()
    assert list(lab.index.ids) == list(range(N + 1))
    lab.search(QUERY)
    lab.look_at(3)
    assert lab.grid.title == "3"
    lab.close()


def test_an_index_is_searched_as_it_is(encoder):
    index = MultiVectorIndex(encoder, storage="float16")
    index.add(list(DOCUMENTS.values()), list(DOCUMENTS), progress=False)
    lab = ml.labs.RetrievalLab(encoder, index)
    assert lab.index is index
    assert set(lab.search(QUERY).ids) == set(DOCUMENTS)
    assert lab.board.rivals == ["float32", "int8"]
    lab.close()


def test_it_says_that_it_reads_before_the_first_documents_are_read(encoder, monkeypatch, until):
    go_on, encode = threading.Event(), encoder.encode_documents
    monkeypatch.setattr(
        encoder, "encode_documents", lambda *a, **b: go_on.wait(20) and encode(*a, **b)
    )
    lab = ml.labs.RetrievalLab(encoder, DOCUMENTS)
    until(lambda: lab.board.state == "indexing")
    assert lab.board.progress == [0, N]
    go_on.set()
    lab.wait()
    assert lab.board.state == "empty"
    lab.close()


def test_reading_can_be_stopped_and_goes_on_where_it_was(encoder):
    texts = {f"d{i}": f"{i} " + "some words " * 30 for i in range(60)}
    lab = ml.labs.RetrievalLab(encoder, texts)
    lab.stop()
    lab.wait()
    done, total = lab.progress
    assert done < total == 60
    assert lab.board.state == "stopped" and lab.board.progress == [done, 60]
    assert len(lab.search("some words").ids) == min(done, lab.k)
    assert lab.board.state == "stopped"
    lab.go_on()
    lab.wait()
    assert lab.progress == (60, 60) and lab.board.state == "ready"
    assert len(lab.board.hits) == lab.k  # what was asked is answered from all of them
    lab.close()


def test_a_query_from_the_browser_is_answered_while_documents_are_read(encoder):
    texts = {f"d{i}": f"{i} " + "some words " * 30 for i in range(60)}
    lab = ml.labs.RetrievalLab(encoder, texts)
    seen = []
    shown = threading.Event()

    def look(change):
        seen.append((lab.progress[0], len(lab.board.hits)))
        shown.set()

    lab.board.observe(look, "epoch")
    ask(lab.board, "search", {"text": "words"})
    assert shown.wait(20)
    lab.wait()
    assert seen[0][0] < 60 and seen[-1] == (60, lab.k)
    lab.close()


def test_only_the_newest_of_several_quick_queries_is_done(lab):
    lab.search(QUERY)
    epoch = lab.board.epoch
    hold = threading.Event()
    lab._jobs.later(hold.wait, 20)
    for text in ("one", "two", "three"):
        ask(lab.board, "search", {"text": text})
    hold.set()
    lab.wait()
    assert lab.query == "three" and lab.board.epoch == epoch + 1


def test_a_fork_is_told_that_the_lab_is_its_parents(lab, in_a_fork):
    lab.search(QUERY)

    def is_told():
        with pytest.raises(ClosedError, match="a fork of that"):
            lab.search(QUERY)
        return True

    assert in_a_fork(is_told)


def test_all_documents_are_ranked_by_the_tokens_that_are_on(encoder):
    lab = ml.labs.RetrievalLab(encoder, DOCUMENTS, k=2)
    hits = lab.search(QUERY)
    off = list(range(1, len(hits.query)))
    lab.set(off=off)
    assert lab.grid.off == lab.board.off == off
    ask(lab.board, "rank_all")
    lab.wait()
    first = hits.query.select([0])
    scores = {n: maxsim.score(first, encoder.encode_document(t)) for n, t in DOCUMENTS.items()}
    expected = sorted(scores, key=lambda name: -scores[name])[:2]
    assert [hit.name for hit in lab.board.hits] == expected
    assert lab.board.off == off
    lab.close()


def test_why_one_beats_another_adds_up(lab):
    hits = lab.search(QUERY)
    a, b = hits.ids[:2]
    table = lab.explain(a, b)
    gap = float(hits.scores[0]) - float(hits.scores[1])
    assert table["difference"].sum() == pytest.approx(gap, abs=1e-4)


def test_what_is_said_about_the_encoder_is_shown(lab, encoder):
    lab.wait()
    assert encoder.notes
    assert all(note in lab.board.note for note in encoder.notes)


def test_a_document_longer_than_the_window_is_cut_and_that_is_said(encoder):
    lab = ml.labs.RetrievalLab(encoder, {"long": "word " * encoder.window, "short": "word"})
    lab.wait()
    assert "1 of 2 documents was cut" in lab.board.note and "the first is long" in lab.board.note
    lab.close()


def test_an_empty_query_is_refused_and_said_in_the_view(lab):
    with pytest.raises(ValueError, match="A query needs at least one word"):
        lab.search("")
    assert "at least one word" in lab.board.problem
    lab.search(QUERY)
    assert lab.board.problem == ""


def test_no_documents_and_hostile_ones_can_be_searched(encoder):
    lab = ml.labs.RetrievalLab(encoder)
    assert lab.search("anything").ids == ()
    lab.add({"empty": "", "punctuation": "?!.", "emoji": "😀\u202e\x00", "<b>": "<script>"})
    lab.wait()
    assert len(lab.search("anything").ids) == 4
    assert "<script" not in lab._repr_mimebundle_()[0]["text/html"]
    lab.close()


def test_settings_change_together_or_not_at_all(lab):
    lab.search(QUERY)
    with pytest.raises(ValueError, match="scale"):
        lab.set(off=[0], bars="whole", scale="upside down")
    assert (lab.board.off, lab.grid.off, lab.board.bars) == ([], [], "difference")


def test_wrong_arguments_are_refused(lab, encoder):
    with pytest.raises(TypeError, match="takes a MultiVectorEncoder, not 'colbert-small'. Write"):
        ml.labs.RetrievalLab("colbert-small", DOCUMENTS)
    with pytest.raises(ValueError, match="k=0: it must be from 1"):
        ml.labs.RetrievalLab(encoder, DOCUMENTS, k=0)
    with pytest.raises(TypeError, match="give a list of texts"):
        lab.add("one text")
    with pytest.raises(TypeError, match="the document 'x' is 3; it must be a text"):
        lab.add({"x": 3})
    with pytest.raises(ValueError, match="the document 'x' has a lone surrogate"):
        lab.add({"x": "a\ud800b"})
    with pytest.raises(ValueError, match="there is a document 'gcd' already"):
        lab.add({"gcd": "again"})
    with pytest.raises(ValueError, match="'int4' is none of float16, int8, other"):
        lab.compare("int4")
    with pytest.raises(ValueError, match=r"array\(\[0., 0.\]\) is none of float16"):
        lab.compare(np.zeros(2))
    with pytest.raises(TypeError, match="it must be a dict of encoders by name"):
        ml.labs.RetrievalLab(encoder, DOCUMENTS, rivals=np.zeros(2))
    with pytest.raises(TypeError, match=r"why=array\(\[0., 0.\]\): it must be a text"):
        lab.close(np.zeros(2))
    with pytest.raises(ValueError, match="no setting 'k'; it has off, bars, scale, unit"):
        lab.set(k=3)
    with pytest.raises(ValueError, match="nothing was searched for yet"):
        lab.explain("gcd", "fill")
    lab.wait()
    assert lab.progress == (N, N)


def test_what_ends_the_reading_is_raised_once_and_the_lab_can_go_on(tiny_model):
    encoder = MultiVectorEncoder(tiny_model)
    encoder.close()
    lab = ml.labs.RetrievalLab(encoder, DOCUMENTS)
    with pytest.raises(ClosedError):
        lab.wait()
    assert lab.board.state == "failed" and "closed" in lab.board.problem
    lab.wait()
    lab.close()


def made_by(lab, path, **given):
    """What the code of a lab makes, with its model from another file."""
    scope = {"documents": DOCUMENTS, **given}
    model = lab.encoder.model
    model.source, kept = str(path), model.source
    try:
        exec(lab.to_code(), scope)
    finally:
        model.source = kept
    return scope


def test_its_code_makes_the_same_result(lab, other, tiny_path):
    lab.search(QUERY)
    lab.set(off=[0])
    code = lab.to_code()
    assert f"lab.search({QUERY!r})" in code and "lab.set(off=[0])" in code
    scope = made_by(lab, tiny_path, rivals={"other": other})
    assert scope["lab"].board.scores == pytest.approx(lab.board.scores, rel=1e-5)
    assert scope["lab"].board.rivals == lab.board.rivals and scope["lab"].board.title == "a lab"
    scope["lab"].close(), scope["encoder"].close(), scope["model"].close()


def test_its_code_keeps_every_option(tiny_model, tiny_path):
    options = {"query_prefix": "ask: ", "skip_special": True, "normalize": False}
    options |= {"dtype": "float16", "batch_tokens": 256, "n_threads": 1}
    with MultiVectorEncoder(tiny_model, preset="colbert", **options) as encoder:
        lab = ml.labs.RetrievalLab(encoder, DOCUMENTS, storage="int8", k=3, title="three")
        opened = list(lab.search(QUERY).ids)[-1]
        lab.look_at(opened)
        lab.set(unit="words", scale="by query")
        scope = made_by(lab, tiny_path)
        same = scope["lab"]
        assert same.encoder.options == encoder.options == {"preset": "colbert", **options}
        assert (same.index.storage, same.k, same.board.title) == ("int8", 3, "three")
        assert (same.grid.title, same.grid.unit, same.grid.scale) == (opened, "words", "by query")
        assert same.board.scores == pytest.approx(lab.board.scores, rel=1e-5)
        lab.close(), same.close(), scope["encoder"].close(), scope["model"].close()


def test_it_shows_in_three_forms(lab):
    lab.search(QUERY)
    data, _ = lab._repr_mimebundle_()
    assert set(data) >= {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert f"{N} of {N} documents" in data["text/plain"] and "dedent" in data["text/html"]
    assert "<script" not in data["text/html"]
    assert lab._repr_mimebundle_()[0]["text/plain"] == data["text/plain"]


def test_a_closed_lab_says_so_and_leaves_the_encoder_open(encoder):
    lab = ml.labs.RetrievalLab(encoder, DOCUMENTS)
    lab.close()
    lab.close()
    with pytest.raises(ClosedError, match="the lab is closed"):
        lab.search(QUERY)
    assert len(encoder.encode_query("still there"))

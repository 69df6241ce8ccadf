"""Scores: equal to a slow loop and to maxsim-cpu, and the sum of what query tokens add."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mullama_lab.engine.multivector import MultiVector, maxsim
from mullama_lab.engine.multivector.maxsim import KINDS, Ragged

METHODS = ("numba", "numpy")


@pytest.fixture(params=METHODS)
def method(request, monkeypatch):
    """Both halves: the compiled one, and what an installation without numba has."""
    if request.param == "numpy":
        monkeypatch.setattr(maxsim, "compiled", lambda: None)
    else:
        assert maxsim.compiled() is not None
    return request.param


def unit(rng, n_tokens, dim=24, dtype=np.float32):
    vectors = rng.standard_normal((n_tokens, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


def texts(rng, lengths, dim=24):
    return [unit(rng, n, dim) for n in lengths]


def multivector(vectors, kind="document"):
    n = len(vectors)
    return MultiVector(vectors, np.arange(n), (b"x",) * n, np.full((n, 2), -1), "x", kind)


def slow_scores(query, documents):
    """Loops, in double precision."""
    found = []
    for document in documents:
        score = 0.0
        for asked in query.astype(float):
            score += max((float(asked @ there) for there in document.astype(float)), default=0.0)
        found.append(score)
    return np.array(found)


def int8(documents):
    ragged = Ragged.of(documents)
    scales = (np.abs(ragged.vectors).max(axis=1) / 127).astype(np.float32)
    codes = np.rint(ragged.vectors / scales[:, None]).astype(np.int8)
    return Ragged(codes, ragged.offsets, scales)


# Equal to others


@pytest.mark.parametrize("n_query", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("dim", [1, 24, 129])
def test_scores_equal_a_slow_loop(method, n_query, dim):
    rng = np.random.default_rng(n_query)
    query, documents = unit(rng, n_query, dim), texts(rng, [1, 2, 7, 0, 8, 9, 31, 128, 3], dim)
    expected = slow_scores(query, documents)
    for given_as in (documents, [multivector(d) for d in documents], Ragged.of(documents)):
        np.testing.assert_allclose(maxsim.scores(query, given_as), expected, atol=2e-5)


def test_scores_equal_maxsim_cpu(method):
    peer = pytest.importorskip("maxsim_cpu")
    rng = np.random.default_rng(0)
    query, same = unit(rng, 32, 128), np.stack(texts(rng, [50] * 300, 128))
    different = texts(rng, rng.integers(1, 60, 300), 128)
    np.testing.assert_allclose(
        maxsim.scores(query, Ragged.of(list(same))), peer.maxsim_scores(query, same), atol=1e-4
    )
    np.testing.assert_allclose(
        maxsim.scores(query, different), peer.maxsim_scores_variable(query, different), atol=1e-4
    )


def test_numpy_and_numba_agree(monkeypatch):
    rng = np.random.default_rng(3)
    query, documents = unit(rng, 20), texts(rng, rng.integers(0, 50, 100))
    fast = {kind: maxsim.scores(query, documents, kind=kind) for kind in KINDS}
    monkeypatch.setattr(maxsim, "compiled", lambda: None)
    for kind in KINDS:
        slow = maxsim.scores(query, documents, kind=kind)
        np.testing.assert_allclose(fast[kind], slow, atol=1e-5)


def test_small_numbers_by_hand(method):
    query = np.array([[1.0, 0.0], [0.0, 1.0]])
    document = np.array([[0.5, 0.25], [0.125, -1.0], [-1.0, 0.75]])
    assert maxsim.similarity(query, document).tolist() == [[0.5, 0.125, -1.0], [0.25, -1.0, 0.75]]
    positions, values = maxsim.best_matches(query, document)
    assert positions.tolist() == [0, 2]
    assert values.tolist() == [0.5, 0.75]
    assert maxsim.contributions(query, document).tolist() == [0.5, 0.75]
    assert maxsim.score(query, document) == 1.25
    assert maxsim.score(query, document, kind="normalized") == 0.625
    # From the document: 0.5 and 0.125 go to the first query token, 0.75 to the second.
    symmetric = maxsim.contributions(query, document, kind="symmetric")
    np.testing.assert_allclose(symmetric, [0.5 / 4 + 0.625 / 6, 0.75 / 4 + 0.75 / 6])


def test_symmetric_is_the_mean_of_both_directions(method):
    rng = np.random.default_rng(1)
    a, b = unit(rng, 9), unit(rng, 14)
    both = [maxsim.score(x, y, kind="normalized") for x, y in ((a, b), (b, a))]
    assert maxsim.score(a, b, kind="symmetric") == pytest.approx(sum(both) / 2, abs=1e-6)
    assert maxsim.score(b, a, kind="symmetric") == pytest.approx(sum(both) / 2, abs=1e-6)


# Adding up


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_add_up_to_the_score_to_the_last_bit(method, kind):
    rng = np.random.default_rng(2)
    query, documents = unit(rng, 31), texts(rng, rng.integers(0, 70, 60))
    scores = maxsim.scores(query, documents, kind=kind)
    for document, score in zip(documents, scores):
        parts = maxsim.contributions(query, document, kind=kind)
        assert maxsim.total(parts) == maxsim.score(query, document, kind=kind)
        if method == "numba":  # a product of matrices may round by its shape
            assert np.float32(maxsim.total(parts)) == score
        assert maxsim.total(parts) == pytest.approx(score, abs=1e-5)


def test_columns_of_the_table_add_up_to_the_scores(method):
    rng = np.random.default_rng(4)
    query, documents = unit(rng, 31), texts(rng, rng.integers(0, 70, 60))
    table = maxsim.contribution_table(query, documents)
    assert table.shape == (31, 60)
    scores = maxsim.scores(query, documents)
    assert [np.float32(maxsim.total(column)) for column in table.T] == scores.tolist()


def test_a_score_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(5)
    query, documents = unit(rng, 21), texts(rng, rng.integers(1, 70, 200))
    together = maxsim.contribution_table(query, documents, n_threads=2)
    for i, document in enumerate(documents):
        alone = maxsim.contribution_table(query, [document])[:, 0]
        assert (alone == together[:, i]).all()
        assert (maxsim.similarity(query, document).max(axis=1) == alone).all()


def test_threads_change_nothing():
    rng = np.random.default_rng(6)
    query, documents = unit(rng, 32, 128), Ragged.of(texts(rng, [100] * 200, 128))
    one, three = (maxsim.scores(query, documents, n_threads=n) for n in (1, 3))
    assert one.tolist() == three.tolist()


def test_a_query_of_float16_is_one_of_float32():
    rng = np.random.default_rng(7)
    query, document = unit(rng, 5, dtype=np.float16), unit(rng, 9)
    assert maxsim.score(query, document) == maxsim.score(query.astype(np.float32), document)


# Ragged


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_stored_vectors_score_as_what_is_read_from_them(storage):
    rng = np.random.default_rng(8)
    query, documents = unit(rng, 32), texts(rng, rng.integers(0, 40, 100))
    if storage == "int8":
        ragged = int8(documents)
    else:
        ragged = Ragged.of([d.astype(np.float16) for d in documents])
    read = [ragged.document(i) for i in range(len(ragged))]
    assert ragged.vectors.dtype == storage
    assert read[0].dtype == np.float32
    assert maxsim.scores(query, ragged).tolist() == maxsim.scores(query, read).tolist()
    assert np.abs(maxsim.scores(query, ragged) - maxsim.scores(query, documents)).max() < 0.2


def test_every_float16_is_read_exactly():
    bits = np.arange(1 << 16, dtype=np.uint16)
    halves = bits.view(np.float16)
    halves = halves[np.isfinite(halves)]
    ragged = Ragged(halves[:, None], np.arange(len(halves) + 1))
    assert (maxsim.contribution_table(np.ones((1, 1)), ragged)[0] == halves).all()


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12), n_query=st.integers(1, 18))
def test_any_lengths_may_be_mixed(lengths, n_query):
    rng = np.random.default_rng(n_query)
    query, documents = unit(rng, n_query, 5), texts(rng, lengths, 5)
    np.testing.assert_allclose(
        maxsim.scores(query, Ragged.of(documents)), slow_scores(query, documents), atol=1e-5
    )


def test_ragged_copies_without_padding():
    rng = np.random.default_rng(9)
    documents = texts(rng, [3, 0, 5])
    ragged = Ragged.of(documents)
    assert ragged.vectors.shape == (8, 24)
    assert ragged.lengths.tolist() == [3, 0, 5]
    assert [ragged.document(i).tolist() for i in range(3)] == [d.tolist() for d in documents]
    assert repr(ragged) == "<Ragged 3 documents, 8 tokens of 24, float32>"


@pytest.mark.parametrize(
    ("vectors", "offsets", "scales", "said"),
    [
        (np.zeros((2, 3), np.float64), [0, 2], None, "float64 and shape .2, 3.: they must be"),
        (np.zeros(3, np.float32), [0, 3], None, r"shape \(3,\)"),
        (np.zeros((2, 3), np.float32), [0, 3], None, "that rise from 0 to the 2 rows"),
        (np.zeros((2, 3), np.float32), [0, 2, 1, 2], None, "that rise"),
        (np.zeros((2, 3), np.float32), [], None, "that rise"),
        (np.zeros((2, 3), np.float32), [0.0, 2.0], None, "must be whole numbers that rise"),
        (np.zeros((2, 3), np.float32), [0, 2**70, 2], None, "must be whole numbers that rise"),
        (np.zeros((2, 3), np.float32), [0, 2**63 - 1, -(2**63), -1, 0, 2], None, "that rise"),
        (np.zeros((2, 3), np.int8), [0, 2], None, "need a scale a row"),
        (np.zeros((2, 3), np.float32), [0, 2], [1, 1], "others have none"),
        (np.zeros((2, 3), np.int8), [0, 2], [1], r"scales of shape \(1,\) for 2 rows"),
        (np.zeros((2, 3), np.int8), [0, 2], [1, np.nan], "NaN or an infinity at token 1"),
        (np.array([[1, 2], [np.inf, 1]], np.float16), [0, 2], None, "infinity at token 1"),
    ],
)
def test_what_is_no_ragged_array_is_refused(vectors, offsets, scales, said):
    with pytest.raises(ValueError, match=said):
        Ragged(vectors, offsets, scales)


@settings(max_examples=200)
@given(st.lists(st.sampled_from([0, 1, 2, 3, -1, 2**62, 2**63 - 1, -(2**62), -(2**63)])))
def test_offsets_are_taken_only_where_each_is_a_row_and_none_falls(middle):
    offsets = [0, *middle, 3]
    if offsets == sorted(offsets) and all(0 <= offset <= 3 for offset in offsets):
        assert Ragged(np.zeros((3, 2), np.float32), np.array(offsets)).offsets.tolist() == offsets
    else:
        with pytest.raises(ValueError, match="that rise"):
            Ragged(np.zeros((3, 2), np.float32), np.array(offsets))


def test_nothing_altered_later_leads_a_search_astray():
    vectors, offsets = np.ones((4, 3), np.float32), np.array([0, 2, 4])
    ragged = Ragged(vectors, offsets)
    offsets[1] = 2**40
    vectors.shape = 3, 4
    assert ragged.lengths.tolist() == [2, 2]
    assert ragged.vectors.shape == (4, 3)
    with pytest.raises(ValueError, match="read-only"):
        ragged.offsets[1] = 9


def test_numbers_of_another_byte_order_are_read_as_what_they_are(method):
    vectors = unit(np.random.default_rng(3), 6)
    stored = vectors.astype(vectors.dtype.newbyteorder())
    of_them = Ragged(stored, np.array([0, 2, 6]))
    assert maxsim.scores(vectors[:2], of_them) == pytest.approx(
        maxsim.scores(vectors[:2], Ragged(vectors, np.array([0, 2, 6])))
    )


@pytest.mark.parametrize("ids", [[2**31], [2**70], [-(2**31) - 1], [1.5], [float("nan")], ["7"]])
def test_an_id_that_int32_cannot_hold_is_refused(ids):
    with pytest.raises(ValueError, match="ids=.*: they must be whole numbers from -2147483648 to"):
        MultiVector(np.ones((1, 2)), ids, (b"x",), np.zeros((1, 2), int), "x", "query")


# Bad input


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_document_scores_zero(method, kind):
    query, nothing = np.eye(3), np.zeros((0, 3))
    assert maxsim.score(query, nothing, kind=kind) == 0.0
    assert maxsim.contributions(query, nothing, kind=kind).tolist() == [0, 0, 0]
    mixed = maxsim.scores(query, [nothing, np.eye(3), nothing], kind=kind)
    assert (mixed != 0).tolist() == [False, True, False]
    positions, values = maxsim.best_matches(query, nothing)
    assert (positions.tolist(), values.tolist()) == ([-1, -1, -1], [0, 0, 0])


def test_similarities_below_zero_stay_below_zero(method):
    assert maxsim.score(np.eye(2)[:1], np.array([[-0.5, 0.0]])) == -0.5


def test_no_documents_have_no_scores(method):
    assert maxsim.scores(np.eye(3), []).shape == (0,)
    assert maxsim.contribution_table(np.eye(3), []).shape == (3, 0)


CALLS = {
    "similarity": lambda q, d: maxsim.similarity(q, d),
    "best_matches": lambda q, d: maxsim.best_matches(q, d),
    "contributions": lambda q, d: maxsim.contributions(q, d),
    "score": lambda q, d: maxsim.score(q, d),
    "scores": lambda q, d: maxsim.scores(q, [d]),
    "contribution_table": lambda q, d: maxsim.contribution_table(q, [d]),
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_refused_with_its_rule(method, name):
    call = CALLS[name]
    with pytest.raises(ValueError, match="vectors of 3 numbers, the query of 4; all must come"):
        call(np.eye(4), np.eye(3))
    with pytest.raises(ValueError, match="the query has no tokens"):
        call(np.zeros((0, 4)), np.eye(4))
    with pytest.raises(ValueError, match="the query has a NaN or an infinity at token 1"):
        call(np.array([[1.0], [np.nan]]), np.eye(1))
    with pytest.raises(ValueError, match="document 0 has a NaN or an infinity at token 0"):
        call(np.eye(1), np.array([[np.inf]]))
    with pytest.raises(ValueError, match=r"the shape \(2,\); it must be \(n_tokens, dim\)"):
        call(np.eye(2), np.zeros(2))
    with pytest.raises(TypeError, match="the query is str: give a MultiVector or its vectors"):
        call("text", np.eye(2))


def test_a_ragged_of_another_dimension_is_refused(method):
    with pytest.raises(ValueError, match="vectors of 3 numbers, the query of 4"):
        maxsim.scores(np.eye(4), Ragged.of([np.eye(3)]))


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_similarity_too_large_for_float32_is_refused(method):
    for call in CALLS.values():
        with pytest.raises(ValueError, match="larger than float32 can hold. Normalise the vectors"):
            call(np.full((1, 4), 1e30), np.full((1, 4), 1e30))


def test_bad_choices_are_refused():
    with pytest.raises(ValueError, match="kind='sum': it must be one of maxsim, normalized, symm"):
        maxsim.score(np.eye(2), np.eye(2), kind="sum")
    with pytest.raises(ValueError, match="n_threads=0: it must be from 1"):
        maxsim.scores(np.eye(2), [np.eye(2)], n_threads=0)
    with pytest.raises(TypeError, match="documents is MultiVector: give a list"):
        maxsim.scores(np.eye(2), multivector(np.eye(2)))
    with pytest.raises(ValueError, match="no documents; give at least one"):
        Ragged.of([])
    with pytest.raises(ValueError, match="document 1 has vectors of 3 numbers, document 0 of 2"):
        Ragged.of([np.eye(2), np.eye(3)])


def test_without_numba_numpy_does_it():
    program = (
        "import sys; sys.modules['numba'] = None\n"
        "import importlib.util as u; u.find_spec = lambda name, find=u.find_spec: "
        "None if name == 'numba' else find(name)\n"
        "import numpy as np\n"
        "from mullama_lab.engine.multivector import maxsim\n"
        "assert maxsim.compiled() is None\n"
        "print(maxsim.score(np.eye(2), np.eye(2)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "2.0", done.stderr

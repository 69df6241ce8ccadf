"""An index gives what it was given, finds what a slow loop finds, and survives its file."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import numpy as safetensors_numpy
from safetensors import safe_open

from mullama_lab import errors
from mullama_lab.engine import tiny
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.model import Model
from mullama_lab.engine.multivector import MultiVector, maxsim

DIM = 16
STORAGES = ("float32", "float16", "int8")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A real encoder of a tiny BERT, a token for each character."""
    path = tmp_path_factory.mktemp("bert") / "bert.gguf"
    tiny.write(path, architecture="bert", vocabulary="wpm", pieces=("hello",))
    with Model.load(path) as model, MultiVectorEncoder(model, preset="plain") as encoder:
        yield encoder


def by_hand(fingerprint="made by hand"):
    """What an index of MultiVectors made by hand asks of its encoder: no text is encoded."""
    return SimpleNamespace(dim=DIM, fingerprint=fingerprint, name="by hand")


def multivector(rng, n_tokens=5, text="a text", kind="document", dim=DIM):
    vectors = rng.standard_normal((n_tokens, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    spans = [(i, i + 1) if i < len(text) else (-1, -1) for i in range(n_tokens)]
    pieces = tuple(f"p{i}".encode() for i in range(n_tokens))
    ids = rng.integers(0, 1000, n_tokens)
    return MultiVector(vectors, ids, pieces, np.array(spans), text, kind)


def documents(n, rng, low=0, high=9):
    lengths = rng.integers(low, high, n).tolist()
    return [multivector(rng, length, f"text {i} ✓") for i, length in enumerate(lengths)]


def same(a, b, atol=0.0):
    np.testing.assert_allclose(a.vectors, b.vectors, atol=atol, rtol=0)
    assert a.ids.tolist() == b.ids.tolist()
    assert a.spans.tolist() == b.spans.tolist()
    assert (a.pieces, a.text, a.kind) == (b.pieces, b.text, b.kind)


# Adding and reading


@pytest.mark.parametrize("storage", STORAGES)
def test_a_document_comes_back_as_it_was(storage):
    rng = np.random.default_rng(0)
    index = MultiVectorIndex(by_hand(), storage=storage)
    given_ = documents(150, rng)
    names = index.add(given_, progress=False)
    assert names == list(range(150)) == list(index.ids)
    for name, document in zip(names, given_):
        same(index.get(name), document, {"float32": 0, "float16": 5e-4, "int8": 5e-3}[storage])
        assert (index.vectors(name) == index.get(name).vectors).all()
    assert len(index) == 150
    assert index.n_tokens == sum(map(len, given_))
    per_token = {"float32": 4 * DIM, "float16": 2 * DIM, "int8": DIM + 4}[storage]
    assert index.size_bytes == index.n_tokens * per_token
    assert repr(index).startswith(f"<MultiVectorIndex 150 documents, {index.n_tokens} tokens of 16")


def test_texts_are_encoded_by_the_encoder(encoder):
    index = MultiVectorIndex(encoder)
    texts = ["hello", "", "a b c", "hello hello"] * 20
    index.add(texts, [f"no {i}" for i in range(80)], progress=False)
    same(index.get("no 2"), encoder.encode_document("a b c"), atol=2e-3)
    assert len(index.get("no 1")) == len(encoder.encode_document(""))
    query = encoder.encode_query("hello")
    hits = index.search("hello", k=3)
    expected = maxsim.scores(query, [encoder.encode_document(text) for text in texts])
    np.testing.assert_allclose(hits.scores, np.sort(expected)[::-1][:3], atol=1e-2)


def test_a_text_that_is_too_long_is_refused_or_cut(encoder):
    index = MultiVectorIndex(encoder)
    text = "a" * (encoder.window + 9)
    with pytest.raises(errors.ContextFull):
        index.add([text], progress=False)
    with pytest.warns(UserWarning):
        index.add([text], progress=False, too_long="cut")
    assert encoder.window - 3 < index.n_tokens <= encoder.window


def test_what_was_stored_before_an_error_stays(encoder):
    index = MultiVectorIndex(encoder)
    texts = ["hello"] * 64 + ["a" * (encoder.window + 9)]
    with pytest.raises(errors.ContextFull):
        index.add(texts, progress=False)
    assert index.ids == tuple(range(64))


def test_ids_count_on_from_the_largest_number():
    rng = np.random.default_rng(1)
    index = MultiVectorIndex(by_hand())
    assert index.add(documents(2, rng)) == [0, 1]
    assert index.add(documents(2, rng), ["a", np.int64(7)]) == ["a", 7]
    assert index.add(documents(1, rng)) == [8]
    index.remove(8)
    assert index.add(documents(1, rng)) == [9]
    assert 8 not in index and 9 in index and np.int64(9) in index and "9" not in index
    assert True not in index and None not in index


def test_the_loss_is_what_storing_cost():
    rng = np.random.default_rng(2)
    given_ = documents(100, rng, 1)
    losses = {}
    for storage in STORAGES:
        index = MultiVectorIndex(by_hand(), storage=storage)
        index.add(given_[:70], progress=False)
        index.add(given_[70:], progress=False)
        exact = np.concatenate([d.vectors for d in given_]).astype(float)
        read = np.concatenate([index.vectors(name) for name in index.ids]).astype(float)
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(read, axis=1)
        cosines = np.minimum((exact * read).sum(axis=1) / lengths, 1)
        losses[storage] = index.loss
        assert index.loss.n_tokens == len(exact)
        assert index.loss.worst_cosine == pytest.approx(cosines.min(), abs=1e-9)
        assert index.loss.mean_cosine == pytest.approx(cosines.mean(), abs=1e-9)
        assert index.loss.largest_error == pytest.approx(np.abs(exact - read).max(), abs=1e-7)
    assert losses["float32"].worst_cosine == 1 and losses["float32"].largest_error == 0
    assert 1 > losses["float16"].worst_cosine > losses["int8"].worst_cosine > 0.999


def test_zero_vectors_can_be_stored():
    zero = multivector(np.random.default_rng(0), 3)
    zero = MultiVector(np.zeros((3, DIM)), zero.ids, zero.pieces, zero.spans, "z", "document")
    for storage in STORAGES:
        index = MultiVectorIndex(by_hand(), storage=storage)
        index.add([zero])
        assert not index.vectors(0).any()
        assert index.loss.worst_cosine == 1


# Changing


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("arux"), st.integers(0, 30)), max_size=60), st.data())
def test_any_series_of_changes_leaves_what_a_dict_would_hold(changes, data):
    rng = np.random.default_rng(3)
    index, model = MultiVectorIndex(by_hand()), {}
    for do, name in changes:
        made = multivector(rng, int(rng.integers(0, 7)), f"{do}{name}")
        if name not in model:
            index.add([made], [name])
            model[name] = made
        elif do == "r":
            index.remove(name)
            del model[name]
        elif do == "u":
            index.update(name, made)
            model[name] = made
        else:
            assert len(index.search(multivector(rng, 2, kind="query"), k=3)) == min(3, len(model))
    assert index.ids == tuple(model)
    assert index.n_tokens == sum(map(len, model.values()))
    for name, document in model.items():
        same(index.get(name), document)
    query = multivector(rng, 4, kind="query")
    hits = index.search(query, k=100)
    expected = maxsim.scores(query, list(model.values()))
    assert sorted(hits.ids) == sorted(model)
    assert hits.scores.tolist() == sorted(expected.tolist(), reverse=True)


def test_many_small_additions_make_few_parts():
    rng = np.random.default_rng(4)
    index = MultiVectorIndex(by_hand())
    for document in documents(500, rng, 1):
        index.add([document])
    assert len(index._parts.all) < 15
    index.remove(index.ids[:499])
    assert len(index) == 1
    for _ in range(600):
        index.update(499, multivector(rng))
    assert sum(part.n_tokens for part in index._parts.all) < 8000


def test_an_updated_document_keeps_its_place_and_a_removed_one_is_gone():
    rng = np.random.default_rng(5)
    index = MultiVectorIndex(by_hand())
    index.add(documents(4, rng, 2), ["a", "b", "c", "d"])
    index.update("b", multivector(rng, text="new"))
    index.remove(["a", "d"])
    assert index.ids == ("b", "c")
    assert index.get("b").text == "new"
    with pytest.raises(errors.UnknownDocument, match="^there is no document 'a' in the index; it"):
        index.get("a")
    assert index.add([multivector(rng)], ["a"]) == ["a"]


def test_unknown_documents_are_key_errors_and_change_nothing():
    index = MultiVectorIndex(by_hand())
    index.add(documents(3, np.random.default_rng(6)))
    for call in (
        lambda: index.remove([0, 5]),
        lambda: index.update(5, multivector(np.random.default_rng(0))),
        lambda: index.vectors(5),
        lambda: index.get(True),
        lambda: index.get([0]),
    ):
        with pytest.raises(KeyError, match="no document"):
            call()
    assert index.ids == (0, 1, 2)


def test_bad_additions_are_refused_and_add_nothing():
    rng = np.random.default_rng(7)
    index = MultiVectorIndex(by_hand())
    index.add(documents(2, rng), ["a", "b"])
    two = documents(2, rng)
    for ids, said in (
        (["c", "c"], "the id 'c' comes twice"),
        (["c", "a"], r"a document 'a' already. Use update\(\)"),
        (["c"], "1 ids for 2 documents"),
    ):
        with pytest.raises(ValueError, match=said):
            index.add(two, ids)
    for ids, said in (
        ("cd", "is one text; give a list of ids"),
        ([1.5, 2], "the id 1.5 is float: give a string or a number"),
        ([True, 2], "the id True is bool"),
    ):
        with pytest.raises(TypeError, match=said):
            index.add(two, ids)
    with pytest.raises(ValueError, match="document 1 has vectors of 3 numbers, the index of 16"):
        index.add([two[0], multivector(rng, dim=3)])
    with pytest.raises(TypeError, match="document 0 is int; give a text"):
        index.add([3])
    with pytest.raises(TypeError, match="documents is one str; give a list"):
        index.add("text")
    with pytest.raises(TypeError, match="documents is one MultiVector; give a list"):
        index.add(two[0])
    assert index.ids == ("a", "b")


def test_a_number_too_large_for_float16_is_refused():
    large = multivector(np.random.default_rng(0), 1)
    large = MultiVector(large.vectors * 1e6, large.ids, large.pieces, large.spans, "x", "document")
    index = MultiVectorIndex(by_hand(), storage="float16")
    with pytest.raises(ValueError, match="float16 holds at most 65504"):
        index.add([large])
    assert len(index) == 0
    with pytest.raises(ValueError, match="storage='int4': it must be one of float32, floa"):
        MultiVectorIndex(by_hand(), storage="int4")


# Searching


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", maxsim.KINDS)
def test_a_search_finds_what_scoring_everything_finds(storage, kind):
    rng = np.random.default_rng(8)
    index = MultiVectorIndex(by_hand(), storage=storage)
    index.add(documents(300, rng, 1), [f"d{i}" for i in range(300)], progress=False)
    index.remove([f"d{i}" for i in range(0, 300, 3)])
    query = multivector(rng, 7, kind="query")
    scores = {name: maxsim.scores(query, [index.get(name)], kind=kind)[0] for name in index.ids}
    best = sorted(scores, key=lambda name: -scores[name])[:10]
    hits = index.search(query, kind=kind)
    assert list(hits.ids) == best
    assert hits.scores.tolist() == [scores[name] for name in best]
    assert hits.contributions.shape == (7, 10)
    for name, parts, score in zip(hits.ids, hits.contributions.T, hits.scores):
        expected = maxsim.contributions(query, index.get(name), kind=kind)
        assert parts.tolist() == expected.tolist()
        assert np.float32(maxsim.total(parts)) == score
    assert list(hits) == list(zip(hits.ids, hits.scores.tolist()))
    table = hits.to_pandas()
    assert table["document"].tolist() == best and table["rank"].tolist() == list(range(1, 11))
    assert repr(hits).startswith(f"<Hits 10 of {kind}, best {best[0]!r}")


def test_blocks_of_documents_give_what_one_block_gives(monkeypatch):
    rng = np.random.default_rng(9)
    index = MultiVectorIndex(by_hand())
    index.add([*documents(50, rng, 1), *[multivector(rng, 3)] * 20], progress=False)
    query = multivector(rng, 3, kind="query")
    whole = index.search(query, k=30)
    index._parts.changed()
    monkeypatch.setattr("mullama_lab.engine.index.parts.SEARCHED", 7)
    blocks = index.search(query, k=30)
    assert whole.ids == blocks.ids and whole.scores.tolist() == blocks.scores.tolist()


def test_equal_scores_come_in_the_order_of_ids():
    rng = np.random.default_rng(10)
    index = MultiVectorIndex(by_hand())
    twin = multivector(rng)
    index.add([twin] * 9, list("ihgfedcba"))
    assert index.search(multivector(rng, 2, kind="query"), k=5).ids == tuple("ihgfe")
    index.update("i", multivector(rng))
    index.update("i", twin)
    assert index.search(multivector(rng, 2, kind="query"), k=2).ids == ("i", "h")


def test_bad_searches_are_refused(encoder):
    rng = np.random.default_rng(11)
    index = MultiVectorIndex(by_hand())
    assert len(index.search(multivector(rng))) == 0
    assert index.search(multivector(rng, 3)).contributions.shape == (3, 0)
    index.add(documents(3, rng))
    with pytest.raises(ValueError, match="the query has no tokens"):
        index.search(multivector(rng, 0, kind="query"))
    with pytest.raises(ValueError, match="the query has vectors of 3 numbers, the index of 16"):
        index.search(multivector(rng, dim=3))
    with pytest.raises(ValueError, match="k=0: it must be from 1"):
        index.search(multivector(rng), k=0)
    with pytest.raises(ValueError, match="kind='best': it must be one of"):
        index.search(multivector(rng), kind="best")
    with pytest.raises(ValueError, match="query"):
        MultiVectorIndex(encoder).search("  ")


# The file


def saved(tmp_path, storage="float32", n=40):
    rng = np.random.default_rng(12)
    index = MultiVectorIndex(by_hand(), storage=storage)
    index.add(documents(n, rng), [i if i % 2 else f"name {i} ✓" for i in range(n)], progress=False)
    path = tmp_path / "index.safetensors"
    index.save(path)
    return index, path


@pytest.mark.parametrize("storage", STORAGES)
def test_a_saved_index_opens_as_it_was(tmp_path, storage):
    index, path = saved(tmp_path, storage)
    index.remove(3)
    index.update("name 4 ✓", multivector(np.random.default_rng(0), text="\ud800 broken 😀"))
    index.save(path)
    again = MultiVectorIndex.open(path, by_hand())
    assert again.ids == index.ids
    assert (again.storage, again.loss, again.n_tokens) == (storage, index.loss, index.n_tokens)
    for name in index.ids:
        same(again.get(name), index.get(name))
    query = multivector(np.random.default_rng(1), 6, kind="query")
    assert list(again.search(query, 50)) == list(index.search(query, 50))
    assert os.listdir(tmp_path) == [path.name]


def test_an_opened_index_can_be_changed_and_saved_over_its_own_file(tmp_path):
    index, path = saved(tmp_path)
    again = MultiVectorIndex.open(path, by_hand())
    new = multivector(np.random.default_rng(5), text="new")
    assert again.add([new]) == index.add([new]) == [40]
    again.remove(1)
    again.save(path)
    third = MultiVectorIndex.open(path, by_hand())
    assert third.ids == again.ids
    for name in third.ids:
        same(third.get(name), again.get(name))
    assert third.add([new]) == [41]


def test_the_vectors_of_an_opened_index_stay_in_the_file(tmp_path):
    _, path = saved(tmp_path)
    again = MultiVectorIndex.open(path, by_hand())
    array = again._parts.all[0].vectors.vectors
    while isinstance(array.base, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    assert isinstance(array, np.memmap)


def test_an_empty_index_can_be_saved(tmp_path):
    index = MultiVectorIndex(by_hand(), storage="int8")
    index.save(tmp_path / "empty")
    again = MultiVectorIndex.open(tmp_path / "empty", by_hand())
    assert again.ids == () and len(again.search(multivector(np.random.default_rng(0)))) == 0
    assert again.add([multivector(np.random.default_rng(0))]) == [0]


@pytest.mark.parametrize("storage", STORAGES)
def test_the_safetensors_library_reads_the_file(tmp_path, storage):
    index, path = saved(tmp_path, storage)
    arrays = safetensors_numpy.load_file(path)
    read = arrays["vectors"].astype(np.float32)
    if storage == "int8":
        read *= arrays["scales"][:, None]
    assert (read == np.concatenate([index.vectors(name) for name in index.ids])).all()
    assert json.loads(arrays["names"].tobytes()) == list(index.ids)
    with safe_open(path, "np") as file:
        assert file.metadata()["fingerprint"] == "made by hand"


def test_another_encoder_is_refused(tmp_path, encoder):
    _, path = saved(tmp_path)
    with pytest.raises(errors.WrongEncoder, match="made by by hand with other weights or settings"):
        MultiVectorIndex.open(path, by_hand("another"))
    index = MultiVectorIndex(encoder)
    index.add(["hello"])
    index.save(path)
    assert MultiVectorIndex.open(path, encoder).search("hello").ids == (0,)
    with (
        MultiVectorEncoder(encoder.model, preset="plain", normalize=False) as other,
        pytest.raises(errors.WrongEncoder),
    ):
        MultiVectorIndex.open(path, other)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    _, path = saved(tmp_path, n=5)
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        for verify in (True, False):
            with pytest.raises(errors.IndexFileError, match="cut short"):
                MultiVectorIndex.open(path, by_hand(), verify=verify)
    path.write_bytes(whole + b"more")
    with pytest.raises(errors.IndexFileError, match="no index, or was cut short"):
        MultiVectorIndex.open(path, by_hand(), verify=False)


CUT_SHORT = """
import os
path = {path!r}
def attempt(name, call):
    try:
        call()
        print(name, "fine", flush=True)
    except errors.IndexFileError as error:
        assert "was cut short while it was open: it had" in str(error), error
        print(name, "refused", flush=True)
query = multivector(np.random.default_rng(0), 3, kind="query")
opened = MultiVectorIndex.open(path, by_hand(), verify=False)
name = opened.ids[-1]
whole = open(path, "rb").read()
with open(path, "r+b") as file:
    file.truncate({size})
attempt("search", lambda: opened.search(query))
attempt("get", lambda: opened.get(name))
attempt("vectors", lambda: opened.vectors(name))
attempt("save", lambda: opened.save(path + ".other", progress=False))
attempt("rest", lambda: (repr(opened), opened.ids, opened.n_tokens, name in opened))
with open(path, "r+b") as file:
    file.write(bytes([63]) * len(whole))  # as long again, and full of nonsense
attempt("search again", lambda: opened.search(query, 99))
"""


@pytest.mark.parametrize("size", [0, 4096, -1])
def test_a_file_cut_while_it_is_open_is_refused_and_the_process_lives(tmp_path, size):
    _, path = saved(tmp_path)
    size = size if size >= 0 else path.stat().st_size - 1
    process = in_a_process(1, CUT_SHORT.format(path=str(path), size=size))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.split("\n") == [
        *(f"{name} refused" for name in ("search", "get", "vectors", "save")),
        "rest fine",
        "search again fine",
        "",
    ]
    assert not path.with_name(path.name + ".other").exists()


def test_a_file_replaced_while_it_is_open_goes_on_as_it_was(tmp_path):
    index, path = saved(tmp_path)
    query = multivector(np.random.default_rng(0), 3, kind="query")
    opened = MultiVectorIndex.open(path, by_hand())
    before = opened.search(query)
    other = MultiVectorIndex(by_hand())
    other.add([multivector(np.random.default_rng(1), 3, "new")], progress=False)
    other.save(path, progress=False)
    assert opened.search(query).ids == before.ids == index.search(query).ids


def test_a_file_with_any_byte_altered_is_refused(tmp_path):
    _, path = saved(tmp_path, n=5)
    whole = path.read_bytes()
    for place in [*range(0, len(whole), 53), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        said = "is no index, or was cut short|no index of this version|was altered since|made by by"
        with pytest.raises((errors.IndexFileError, errors.WrongEncoder), match=said):
            MultiVectorIndex.open(path, by_hand())


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 5000), value=st.integers(0, 255))
def test_an_unverified_altered_file_never_kills_the_process(tmp_path_factory, place, value):
    index, path = saved(tmp_path_factory.mktemp("altered"), "int8", n=5)
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    query = multivector(np.random.default_rng(0), 3, kind="query")
    try:
        again = MultiVectorIndex.open(path, by_hand(), verify=False)
    except errors.RetrievalError:
        return
    assert len(again.search(query, 9)) == len(index)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "no index, or was cut short"),
        (b"\xff" * 100, "no index, or was cut short"),
        (safetensors_numpy.save({"a": np.zeros(3)}), "a safetensors file, but no index"),
    ],
)
def test_what_is_no_index_is_refused(tmp_path, content, said):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.IndexFileError, match=said):
        MultiVectorIndex.open(path, by_hand())


def test_a_folder_is_no_index(tmp_path):
    with pytest.raises(errors.IndexFileError, match="cannot be read: "):
        MultiVectorIndex.open(tmp_path, by_hand())
    with pytest.raises(errors.IndexNotSaved, match="was not saved as"):
        saved(tmp_path)[0].save(tmp_path)
    with pytest.raises(errors.IndexNotSaved, match="No such file or directory"):
        saved(tmp_path)[0].save(tmp_path / "missing" / "index")


IN_A_PROCESS = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from test_index import MultiVectorIndex, by_hand, documents, errors, multivector
index = MultiVectorIndex(by_hand())
index.add([multivector(np.random.default_rng(i), 2000, "new") for i in range({n})])
"""


def in_a_process(n, program):
    code = IN_A_PROCESS.format(tests=os.path.dirname(__file__), n=n) + program
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_process_killed_while_saving_leaves_the_old_index(tmp_path):
    index, path = saved(tmp_path)
    before = path.read_bytes()
    # The process stops itself in the middle of its writing, and is killed there.
    done = in_a_process(
        30,
        f"""
import os, signal
from mullama_lab.engine.index import file as index_file
def pause(n_bytes, written=[0]):
    written[0] += n_bytes
    if written[0] > 1_000_000:
        os.kill(os.getpid(), signal.SIGKILL)
real = index_file.write
index_file.write = lambda path, columns, about, on_bytes: real(path, columns, about, pause)
index.save({str(path)!r}, progress=False)
""",
    )
    assert done.wait(60) == -signal.SIGKILL
    assert path.read_bytes() == before
    left = [name for name in os.listdir(tmp_path) if name != path.name]
    assert len(left) == 1 and (tmp_path / left[0]).stat().st_size > 1_000_000
    assert MultiVectorIndex.open(path, by_hand()).ids == index.ids
    index.save(path)  # takes away what the other left
    assert os.listdir(tmp_path) == [path.name]


def test_a_process_killed_at_any_moment_leaves_an_index(tmp_path):
    index, path = saved(tmp_path)
    n_old, n_new = len(index), 10
    program = f"""
import shutil
shutil.copy({str(path)!r}, {str(tmp_path / "old")!r})
print('ready', flush=True)
while True:
    index.save({str(path)!r}, progress=False)
    shutil.copy({str(tmp_path / "old")!r}, {str(path)!r} + ".copy")
    os.replace({str(path)!r} + ".copy", {str(path)!r})
"""
    seen = set()
    for moment in range(6):
        process = in_a_process(n_new, f"import os{program}")
        assert process.stdout.readline() == "ready\n"
        until = time.monotonic() + 0.15 + 0.037 * moment
        while time.monotonic() < until:
            seen.add(len(MultiVectorIndex.open(path, by_hand())))
        assert process.poll() is None  # it still saves
        process.kill()
        process.wait()
        assert len(MultiVectorIndex.open(path, by_hand())) in (n_old, n_new)
        index.save(path)
    assert seen == {n_old, n_new}


def test_a_disk_that_takes_no_more_leaves_the_old_index(tmp_path):
    index, path = saved(tmp_path)
    before = path.read_bytes()
    size, limit = 100_000, resource.RLIMIT_FSIZE
    program = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit({int(limit)}, ({size}, {size}))
try:
    index.save({str(path)!r}, progress=False)
except errors.IndexNotSaved as error:
    print(error)
"""
    process = in_a_process(10, program)
    said, _ = process.communicate(timeout=60)
    assert "was not saved as" in said and "What was there before still is. Make room" in said
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
    assert MultiVectorIndex.open(path, by_hand()).ids == index.ids


# Large


def test_a_large_index_is_never_held_in_float32(tmp_path):
    """3000 passages of 120 tokens of 128: 184 MB as float32, 48 MB as int8."""
    program = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
import resource
import numpy as np
from types import SimpleNamespace
from test_index import multivector
from mullama_lab.engine.multivector import maxsim
from mullama_lab.engine.index import MultiVectorIndex
encoder = SimpleNamespace(dim=128, fingerprint="by hand", name="by hand")
rng = np.random.default_rng(0)
query = multivector(rng, 32, dim=128)
maxsim.score(query, query)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
index = MultiVectorIndex(encoder, storage="int8")
texts = [multivector(rng, 120, dim=128) for _ in range(100)]
for _ in range(30):
    index.add(texts, progress=False)
index.save({str(tmp_path / "large")!r}, progress=False)
best = index.search(query).ids
assert MultiVectorIndex.open({str(tmp_path / "large")!r}, encoder).search(query).ids == best
print((peak() - before) / index.size_bytes)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert float(done.stdout) < 3.5, done.stderr  # 184 MB more would be 4.8

"""An index file that is altered in place while it is open is noticed before it is read."""

from __future__ import annotations

import os

import numpy as np
import pytest

from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.index import file as index_file
from mullama_lab.errors import IndexFileError

SAYS = "was written to while it was open.*nothing more is searched or saved.*a whole copy"


@pytest.fixture(params=["float32", "int8"])
def opened(request, tmp_path, documents, by_hand):
    index = MultiVectorIndex(by_hand(), storage=request.param)
    index.add(documents(20, np.random.default_rng(0), low=1))
    path = tmp_path / "index.safetensors"
    index.save(path, progress=False)
    os.utime(path, ns=(0, 0))  # a disk's clock has steps, and a test is quick
    return MultiVectorIndex.open(path, by_hand()), path


def alter(path):
    """Other vectors, as many bytes."""
    with path.open("r+b") as file:
        file.seek(2000)
        file.write(bytes(range(64)))


def test_other_bytes_are_neither_searched_nor_given_nor_saved(opened, multivector, tmp_path):
    index, path = opened
    query = multivector(np.random.default_rng(1), 3, kind="query")
    before = index.search(query)
    alter(path)
    altered = path.read_bytes()
    for call in (
        lambda: index.search(query),
        lambda: index.get(0),
        lambda: index.vectors(0),
        lambda: index.save(tmp_path / "other", progress=False),
        lambda: index.save(path, progress=False),
    ):
        with pytest.raises(IndexFileError, match=SAYS):
            call()
    assert path.read_bytes() == altered and not (tmp_path / "other").exists()
    assert len(before) == 10 and len(index) == 20


def test_what_is_altered_while_it_is_saved_gets_no_right_checksum(opened, tmp_path, monkeypatch):
    index, path = opened
    write, written = index_file.write, []

    def altered(to, columns, about, on_bytes, must_be_whole):
        def on_more(n_bytes):
            written.append(n_bytes)
            alter(path)
            on_bytes(n_bytes)

        write(to, columns, about, on_more, must_be_whole)

    monkeypatch.setattr(index_file, "write", altered)
    with pytest.raises(IndexFileError, match=SAYS):
        index.save(tmp_path / "other", progress=False)
    assert written and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_is_altered_while_it_is_searched_gives_no_hits(opened, multivector, monkeypatch):
    index, path = opened
    from mullama_lab.engine.multivector import maxsim

    real = maxsim.totals
    monkeypatch.setattr(maxsim, "totals", lambda table: alter(path) or real(table))
    with pytest.raises(IndexFileError, match=SAYS):
        index.search(multivector(np.random.default_rng(1), 3, kind="query"))


def test_a_document_that_was_given_lives_on(opened, same):
    index, path = opened
    given, vectors = index.get(3), index.vectors(3)
    numbers = vectors.copy()
    path.write_bytes(b"")
    assert (vectors == numbers).all() and (given.vectors == numbers).all()
    same(given, given)


def test_an_index_that_saves_over_its_own_file_goes_on(opened, multivector, by_hand):
    index, path = opened
    query = multivector(np.random.default_rng(1), 3, kind="query")
    before = list(index.search(query))
    for _ in range(2):
        index.save(path, progress=False)
        assert list(index.search(query)) == before
    path.unlink()  # the file itself is still held
    assert list(index.search(query)) == before
    index.save(path, progress=False)
    assert list(MultiVectorIndex.open(path, by_hand()).search(query)) == before

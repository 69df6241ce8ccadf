"""A cached file is read once, and again when it was written to."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from mullama_lab.hub import checked
from mullama_lab.hub.checked import is_as_fetched
from mullama_lab.hub.entries import CatalogueEntry

WHOLE = b"GGUF and so on"


def entry(from_onnx=False):
    return CatalogueEntry(
        name="tiny",
        what="a few bytes",
        file_name="tiny.gguf",
        size_bytes=len(WHOLE),
        sha256=hashlib.sha256(WHOLE).hexdigest(),
        licence="Apache-2.0",
        source="https://example.org/tiny",
        parts=(),
        from_onnx=from_onnx,
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(WHOLE)
    os.utime(path, ns=(1, 1))  # a disk's clock has steps, and a test is quick
    return path


@pytest.fixture
def n_read(monkeypatch):
    """How many times a file was read."""
    real, paths = checked.sha256_of, []
    monkeypatch.setattr(checked, "sha256_of", lambda path: paths.append(path) or real(path))
    return lambda: len(paths)


def test_a_file_is_read_once_for_each_stamp(path, n_read):
    assert [is_as_fetched(entry(), path) for _ in range(3)] == [True] * 3
    assert n_read() == 1
    os.utime(path, ns=(0, 0))
    assert is_as_fetched(entry(), path) and is_as_fetched(entry(), path)
    assert n_read() == 2
    copy = path.with_name("copy")
    copy.write_bytes(WHOLE)
    os.utime(copy, ns=(0, 0))
    os.replace(copy, path)  # another inode
    assert is_as_fetched(entry(), path) and n_read() == 3


@pytest.mark.parametrize("from_onnx", [False, True])
def test_a_file_altered_at_the_same_size_is_not_what_was_fetched(path, from_onnx):
    assert is_as_fetched(entry(from_onnx), path)
    path.write_bytes(WHOLE.swapcase())
    assert not is_as_fetched(entry(from_onnx), path)
    assert not is_as_fetched(entry(from_onnx), path)
    path.write_bytes(WHOLE)
    assert is_as_fetched(entry(from_onnx), path)


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[1]", b'{"sha256": 3}', b"[" * 99_999, b"\xff\x00", b'{"inode": null}']
)
def test_a_damaged_note_costs_a_read_and_no_more(path, note, n_read):
    assert is_as_fetched(entry(), path)
    path.with_name(".tiny.gguf.checked").write_bytes(note)
    assert is_as_fetched(entry(), path) and is_as_fetched(entry(), path)
    assert n_read() == 2
    path.write_bytes(WHOLE.swapcase())
    path.with_name(".tiny.gguf.checked").write_bytes(note)
    assert not is_as_fetched(entry(), path)


def test_the_note_of_another_sum_is_not_the_catalogues(path):
    path.write_bytes(WHOLE.swapcase())
    checked.remember(path, hashlib.sha256(WHOLE.swapcase()).hexdigest())
    note = json.loads(path.with_name(".tiny.gguf.checked").read_bytes())
    assert note["size_bytes"] == len(WHOLE) and note["inode"] == path.stat().st_ino
    assert not is_as_fetched(entry(), path)


def test_where_no_note_can_be_written_the_file_is_read_each_time(path, n_read):
    path.with_name(".tiny.gguf.checked").mkdir()
    assert is_as_fetched(entry(), path) and is_as_fetched(entry(), path)
    assert n_read() == 2

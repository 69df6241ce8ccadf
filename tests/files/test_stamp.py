"""What a stamp tells of a file."""

from __future__ import annotations

import os

import pytest

from mullama_lab.files.stamp import FileStamp, WatchedFile


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    return path


def test_a_file_that_was_read_moved_or_linked_is_what_it_was(path):
    watched = WatchedFile(path)
    path.read_bytes()
    path.chmod(0o600)
    os.link(path, path.with_name("second"))
    assert watched.change() == watched.change_at_path() == ""
    os.rename(path, path.with_name("third"))
    assert (watched.change(), watched.change_at_path()) == ("", "was moved or deleted")
    path.write_bytes(b"12345")
    assert (watched.change(), watched.change_at_path()) == ("", "was replaced by another file")


def test_what_was_cut_or_written_to_says_so(path):
    watched = WatchedFile(path)
    os.utime(path, ns=(0, 1))  # a second write within one step of the disk's clock has one time
    assert watched.change() == watched.change_at_path() == "was written to"
    with path.open("ab") as file:
        file.write(b"6")
    assert watched.change() == "was written to"
    os.truncate(path, 3)
    assert watched.change() == "was cut short from 5 bytes to 3"


def test_an_open_file_may_be_given(path):
    with path.open("rb") as file:
        watched = WatchedFile(path, file)
    assert watched.stamp == FileStamp.of(path)
    watched.close()
    watched.close()
    with pytest.raises(OSError):
        watched.change()

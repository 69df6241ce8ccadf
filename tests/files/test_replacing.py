"""A file that takes the place of another: whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mullama_lab.files.replacing import replacing


def test_the_old_file_stays_until_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("newer")
        raise KeyboardInterrupt
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_two_at_once_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as one:
        one.write_text("one")
        with replacing(path) as other:  # takes nothing away of a process that goes on
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"  # that block ended last
    assert os.listdir(tmp_path) == ["file"]


def test_who_may_read_it_stays(tmp_path):
    path = tmp_path / "file"
    for mode in (None, 0o600, 0o640):
        if mode is not None:
            path.chmod(mode)
        with replacing(path) as part:
            part.write_text("x")
        usual = 0o666 & ~_umask()
        assert path.stat().st_mode & 0o777 == (usual if mode is None else mode)


def test_a_name_as_long_as_names_may_be_is_fine(tmp_path):
    path = tmp_path / ("🦙" * 63 + "abc")  # 255 bytes
    with replacing(path) as part:
        part.write_text("x")
    assert path.read_text() == "x"


def test_what_an_ended_process_left_is_taken_away_and_nothing_else(tmp_path):
    code = """
import os, sys
from pathlib import Path
from mullama_lab.files.replacing import replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_text("left")
    part.with_name("what a library writes on the way").write_text("left")
    os._exit(0)
"""
    path, other = tmp_path / "file", tmp_path / "another"
    for left in (path, other):
        subprocess.run([sys.executable, "-c", code, str(left)], check=True, timeout=60)
    with replacing(path) as mine:
        mine.write_text("x")
        assert len(os.listdir(tmp_path)) == 2  # of another file, and mine
    assert sorted(p.name.split(".")[1] for p in tmp_path.iterdir() if p != path) == ["another"]


def test_what_is_read_only_stays(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda place, mode: place != path)  # root may write to all
    with pytest.raises(PermissionError, match="read-only"), replacing(path):
        pass
    assert path.read_text() == "old"


def test_what_is_no_place_for_a_file_is_named(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place, said in [
        (tmp_path, "it is a folder; add a file name"),
        (tmp_path / "none" / "file", "there is no folder"),
        (pipe, "a device or a pipe, not a file"),
    ]:
        with pytest.raises(OSError, match=said), replacing(place):
            pass
    assert pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "file", tmp_path / "link"
    (tmp_path / "between").symlink_to(target)
    link.symlink_to("between")
    for text in ("made", "replaced"):  # a link to nothing names what is made
        with replacing(link) as part:
            assert part.parent.parent == target.parent  # so it is moved within one disk
            part.write_text(text)
        assert link.is_symlink() and not target.is_symlink()
        assert target.read_text() == link.read_text() == text
    assert os.listdir(tmp_path / "far") == ["file"]


def test_a_loop_of_links_is_named(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    with pytest.raises(OSError, match="a link that leads back to itself"), replacing(one):
        pass
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]
    (tmp_path / "nowhere").symlink_to(tmp_path / "none" / "file")
    nowhere = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError, match="there is no folder"), replacing(nowhere):
        pass

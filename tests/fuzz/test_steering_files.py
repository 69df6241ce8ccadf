"""No adapter and no control vector, however damaged or made to harm, ends the process."""

from __future__ import annotations

import numpy as np
import pytest
from file_opener import Opener
from gguf_mutations import edits, mutated, parsed
from hypothesis import strategies as st

import mullama_lab as ml
from mullama_lab.engine import tiny

cases = st.lists(edits, max_size=4)


@pytest.fixture
def opener():
    opener = Opener("steering_worker.py")
    yield opener
    opener.close()


def adapter(path):
    rng = np.random.default_rng(0)
    sizes = {"blk.0.attn_q": (32, 64), "blk.1.ffn_down": (48, 32)}
    pairs = {name: ((2, n_in), (n_out, 2)) for name, (n_in, n_out) in sizes.items()}
    pairs["token_embd"] = (259, 2), (32, 2)  # a table, where both lie the other way round
    numbers = {
        f"{name}.weight": tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)
        for name, shapes in pairs.items()
    }
    return tiny.write_adapter(path, numbers)


def vector(path):
    ml.ControlVector({1: np.ones(32)}, architecture="llama").save(path)
    return path


@pytest.mark.parametrize("write", [adapter, vector])
def test_no_file_ends_the_process_that_puts_it_in_force(attack, opener, tmp_path, write):
    source = parsed(write(tmp_path / "source.gguf"))
    said: list[str] = []

    def attempt(case):
        path = tmp_path / f"{write.__name__}.gguf"
        path.write_bytes(mutated(source, case))
        said.append(opener.open(path))
        assert not said[-1].startswith(("ended", "hung", "raw")), said[-1]

    attack(cases, attempt, few=150, written=lambda case: mutated(source, case))
    assert {one.split()[0].strip(",") for one in said} == {"loaded", "refused"}

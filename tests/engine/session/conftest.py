"""What tests of saved sessions share."""

from __future__ import annotations

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Mask, Temperature, TopK


@pytest.fixture
def saved(tiny_model, tmp_path):
    """A file with two sequences and a trace."""
    chain = Mask(ban=[tiny.EOS]) | TopK(40) | Temperature(0.9)
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        session.generate(
            "Once upon a time there was \N{GRINNING FACE}", chain, max_tokens=8, seed=7
        )
        session.fork(n_tokens=10)
        session.save(tmp_path / "saved.safetensors")
    return tmp_path / "saved.safetensors"

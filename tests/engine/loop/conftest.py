"""What tests of generations share."""

from __future__ import annotations

import threading

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Mask, TopK


class Gate:
    """A stage that lets a generation go on only when it is told to."""

    def __init__(self):
        self.at_work, self.open = threading.Event(), threading.Event()

    def __call__(self, logits, history):
        self.at_work.set()
        assert self.open.wait(20)
        return logits


@pytest.fixture
def gate():
    """A stage `Custom(gate)` waits, `gate.at_work` once it does, until `gate.open.set()`."""
    return Gate()


@pytest.fixture
def session(tiny_model):
    """A fresh session with room for eight sequences."""
    with tiny_model.session(n_ctx=1024, n_threads=1, n_seq_max=8) as session:
        yield session


@pytest.fixture
def trace(session):
    """Twenty steps after a prompt of 41 tokens."""
    chain = Mask(ban=[tiny.EOS]) | TopK(40)
    return session.generate([1, *range(10, 50)], chain, max_tokens=20, seed=3)

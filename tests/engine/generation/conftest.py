"""What tests of generations share."""

from __future__ import annotations

import threading

import pytest


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

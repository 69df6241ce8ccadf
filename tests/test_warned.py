"""Warnings: at the caller's line, or heard by a worker that has none."""

from __future__ import annotations

import threading
import warnings

import pytest

from mullama_lab.warned import heard, warn


def test_a_worker_hears_its_own_warnings_and_nobody_else_s():
    inside, done = threading.Event(), threading.Event()
    got = []

    def work():
        with heard() as messages:
            warn("mine")
            inside.set()
            done.wait(10)
        got.extend(messages)

    thread = threading.Thread(target=work)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thread.start()
        inside.wait(10)
        with pytest.raises(UserWarning, match="not mine"):
            warn("not mine")
    done.set()
    thread.join()
    assert got == ["mine"]

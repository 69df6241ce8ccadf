"""The benchmark: what it starts it ends, and what it compares takes turns."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from mullama_lab.bench import browser


def test_a_notebook_that_does_not_open_leaves_no_jupyterlab_behind(monkeypatch):
    at_work = []

    @contextmanager
    def jupyterlab(folder, environment):
        at_work.append(folder)
        try:
            yield "a server"
        finally:
            at_work.remove(folder)

    def open_notebook(*_, **__):
        assert len(at_work) == 1 and at_work[0].is_dir()
        raise TimeoutError("the kernel did not start")

    monkeypatch.setattr(browser, "jupyterlab", jupyterlab)
    monkeypatch.setattr(browser, "open_notebook", open_notebook)
    opening = browser._open("a browser", "a model", nagle=False)
    with pytest.raises(TimeoutError), opening:
        pass
    assert at_work == []

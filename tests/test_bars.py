"""A bar in a terminal and below a notebook's cell, where nothing of it stays."""

from __future__ import annotations

import os
import sys
import threading
from types import SimpleNamespace

import pytest

from mullama_lab.bars import TextBar
from mullama_lab.hub.arriving import bar_class


class Cell:
    """The outputs of a cell, as a front end keeps them by what a kernel publishes."""

    def __init__(self) -> None:
        self.outputs: dict[str, dict[str, str]] = {}
        self.seen: list[str] = []

    def publish(self, data, transient, update) -> None:
        place = transient["display_id"]
        assert update == (place in self.outputs)
        self.outputs[place] = data
        self.seen.append(data["text/plain"])


@pytest.fixture
def cell(monkeypatch):
    cell = Cell()
    shell = SimpleNamespace(kernel=object(), display_pub=cell)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    return cell


def test_in_a_terminal_a_bar_is_on_stderr(capsys):
    with TextBar(total=2, desc="reading", mininterval=0) as bar:
        bar.update()
        assert "reading:  50%" in capsys.readouterr().err


def test_in_a_notebook_a_bar_is_text_and_nothing_of_it_stays(cell, capfd):
    with TextBar(total=2, desc="reading", mininterval=0) as bar:
        bar.update()
        assert "reading:  50%|" in cell.seen[-1]
        with TextBar(total=4, desc="inside", mininterval=0) as inner:
            inner.update()
        bar.update()
    assert [list(data.values()) for data in cell.outputs.values()] == [[""], [""]]
    assert any(seen.startswith("inside:  25%") for seen in cell.seen)
    assert "\x1b" not in "".join(cell.seen)
    assert capfd.readouterr() == ("", "")


def test_a_bar_that_was_not_yet_shown_leaves_no_output(cell):
    with TextBar(total=2, delay=60) as bar:
        bar.update()
    assert not cell.outputs


def test_without_progress_a_download_shows_no_bar(cell, capfd):
    with bar_class(False)(total=2, desc="a file", mininterval=0) as bar:
        bar.update()
    assert not cell.outputs and capfd.readouterr() == ("", "")


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")


@needs_fork
def test_a_fork_that_ends_as_it_draws_holds_up_no_bar():
    if (child := os.fork()) == 0:
        TextBar.get_lock().acquire()
        os._exit(0)
    os.waitpid(child, 0)
    assert TextBar.get_lock().acquire(timeout=5)
    TextBar.get_lock().release()


@needs_fork
def test_a_fork_has_bars_though_a_thread_drew_one():
    held, done = threading.Event(), threading.Event()

    def draw():
        with TextBar.get_lock():
            held.set()
            done.wait(20)

    thread = threading.Thread(target=draw)
    thread.start()
    assert held.wait(20)
    if (child := os.fork()) == 0:
        os._exit(not TextBar.get_lock().acquire(timeout=5))
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert status == 0

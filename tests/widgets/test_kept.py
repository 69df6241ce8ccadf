"""How long a widget lives: with its last reference, or while a cell shows it."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import ipywidgets
import pytest
from ipywidgets.widgets import widget as registry

from mullama_lab import widgets
from mullama_lab.widgets import _cells, _kept
from mullama_lab.widgets._cells import CellRun, NewestRuns
from mullama_lab.widgets._kept import CLOSED, Shelf, weakly

VIEWS = [getattr(widgets, name) for name in widgets.__all__ if name != "Hit"]


def registered():
    """How many widgets ipywidgets knows, and how many channels to a browser are open."""
    return len(registry._instances), len(registry.comm.get_comm_manager().comms)


@pytest.fixture(autouse=True)
def no_collector():
    """What a test says of last references must not depend on when Python's collector runs."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_and_its_layout_end_with_the_last_reference(kind):
    before = registered()
    view = kind()
    assert registered() == (before[0] + 2, before[1] + 2)
    ref = weakref.ref(view)
    del view
    assert ref() is None and registered() == before


@pytest.mark.parametrize("kind", VIEWS)
def test_a_closed_view_has_nothing_registered_and_ends_with_the_last_reference(kind, cell):
    before = registered()
    for shown in (False, True):
        cell("a cell")
        view = kind()
        if shown:
            view._repr_mimebundle_()
        view.close()
        view.close()
        assert registered() == before
        ref = weakref.ref(view)
        del view
        assert ref() is None


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_that_a_cell_shows_lives_until_the_cell_runs_again(kind, cell):
    cell("this cell")
    view = kind()
    view._repr_mimebundle_()
    ref = weakref.ref(view)
    del view
    cell("another cell")
    kind()._repr_mimebundle_()
    assert ref() is not None
    cell("this cell")
    other = kind()
    other._repr_mimebundle_()
    assert ref() is None


def test_what_two_cells_show_lives_until_both_run_again(cell):
    view = widgets.NextToken()
    for name in ("a", "b"):
        cell(name)
        view._repr_mimebundle_()
    ref = weakref.ref(view)
    del view
    cell("a")
    widgets.NextToken()._repr_mimebundle_()
    assert ref() is not None
    cell("b")
    widgets.NextToken()._repr_mimebundle_()
    assert ref() is None


def test_a_view_that_a_person_holds_stays_open_when_its_cell_runs_again(cell):
    cell("a cell")
    view = widgets.ChainEditor()
    view._repr_mimebundle_()
    cell("a cell")
    widgets.ChainEditor()._repr_mimebundle_()
    assert view.comm is not None and not view.closed


@pytest.mark.parametrize("shown", [True, False])
def test_a_closed_view_says_why_and_shows_its_still_form_only(shown, cell):
    cell("a cell")
    view = widgets.NextToken()
    if shown:
        view._repr_mimebundle_()
    view.close()
    assert view.closed == (CLOSED if shown else "")
    data, _ = view._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html"}


def test_a_closed_view_is_not_taken_from_the_page_where_it_was_shown(cell):
    for shown in (False, True):
        cell("a cell")
        view = widgets.NextToken()
        if shown:
            view._repr_mimebundle_()
        sent = sent_by(view.comm, view.layout.comm)
        view.close()
        del view
        assert sent == (["comm_msg"] if shown else ["comm_close", "comm_close"])


def test_a_page_that_is_loaded_again_finds_every_view_that_lives():
    view = widgets.NextToken(scale="log")
    known = registry._instances[view.model_id]
    assert known.get_state()["scale"] == "log" and known.model_id == view.model_id


def test_closing_all_widgets_passes_over_those_that_went_with_another(cell):
    cell("a cell")
    shelf = Shelf([])
    shelf.children = [widgets.NextToken()]  # registered behind the shelf, which alone holds it
    shelf._repr_mimebundle_()
    known = registry._instances[shelf.children[0].model_id]
    assert isinstance(known, widgets.NextToken)
    del shelf
    ipywidgets.Widget.close_all()
    assert not registry._instances
    with pytest.raises(ReferenceError, match="gone"):
        known.scale  # noqa: B018


def page_speaks(view):
    ping = {"method": "custom", "content": {"kind": "request", "id": "1", "op": "ping"}}
    view._handle_msg({"content": {"data": ping}, "buffers": []})


def sent_by(*channels):
    """The kinds of the messages that go to a page from now on."""
    sent = []
    for channel in channels:
        channel.publish_msg = lambda kind, **_: sent.append(kind)
    return sent


def test_a_view_in_a_box_of_a_persons_own_lives_as_its_page_speaks(cell):
    cell("a cell")
    view = widgets.NextToken()
    box = ipywidgets.HBox([view])
    page_speaks(view)
    ref = weakref.ref(view)
    del view
    box.close()
    del box
    assert ref() is not None
    ref().close()


def test_a_closed_shelf_in_a_box_of_a_persons_own_stays_on_the_page(cell):
    cell("a cell")
    views = [widgets.NextToken(), widgets.WhatIf()]
    shelf = Shelf(views)
    box = ipywidgets.HBox([shelf])
    page_speaks(views[0])
    sent = sent_by(shelf.comm, shelf.layout.comm, *[view.comm for view in views])
    shelf.close("because")
    assert sent == ["comm_msg"] * 2 and {view.closed for view in views} == {"because"}
    box.close()


def test_what_is_put_in_a_shelf_that_a_page_shows_stays_there_when_it_is_closed(cell):
    cell("a cell")
    shelf = Shelf([])
    shelf._repr_mimebundle_()
    view = widgets.NextToken()
    shelf.children = [Shelf([view])]
    sent = sent_by(view.comm, view.layout.comm)
    view.close()
    assert sent == ["comm_msg"]
    shelf.close()


def test_a_shelf_shows_and_closes_what_lies_in_it(cell):
    before = registered()
    cell("a cell")
    views = [widgets.NextToken(), widgets.WhatIf()]
    shelf = Shelf([Shelf(views, "mll-a")], "mll-b")
    shelf._repr_mimebundle_()
    shelf.close("because")
    assert [view.closed for view in views] == ["because"] * 2
    assert registered() == before and shelf._repr_mimebundle_() is None


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"content": {}},
        {"content": {"data": None}},
        {"content": {"data": []}},
        {"content": {"data": {}}},
        {"content": {"data": {"method": 7}}},
        {"content": {"data": {"method": []}}},
        {"content": {"data": {"method": "update"}}},
        {"content": {"data": {"method": "update", "state": [1]}}},
        {"content": {"data": {"method": "custom"}}},
        {"content": {"data": {"method": "custom", "content": [{}]}}, "buffers": [b"x"]},
        {
            "content": {"data": {"method": "update", "state": {}, "buffer_paths": [["a", "b"]]}},
            "buffers": [b"x"],
        },
    ],
)
def test_a_message_of_no_known_shape_is_left_alone(message):
    view = widgets.ChainEditor()
    before = view.get_state()
    view._handle_msg(message)
    assert view.get_state() == before


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ("half \ud83d", "half \ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ude00 é", "\U0001f600 é"),
        ({"\ud800": ["a", 1, None, {"b": "\ud800"}]}, {"\ufffd": ["a", 1, None, {"b": "\ufffd"}]}),
    ],
)
def test_half_a_character_of_a_page_is_taken_as_one_that_is_missing(sent, taken):
    assert _kept.whole_characters(sent) == taken


def test_a_message_that_is_nested_without_end_is_left_alone():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    message = {"method": "custom", "content": deep}
    widgets.NextToken()._handle_msg({"content": {"data": message}, "buffers": []})


def test_a_weak_method_does_nothing_once_its_object_is_gone():
    class Counter:
        n = 0

        def add(self, by):
            self.n += by
            return self.n

    counter = Counter()
    add = weakly(counter.add)
    assert add(2) == 2
    del counter
    assert add(2) is None


def test_things_are_known_by_their_cells_newest_run():
    runs = NewestRuns()
    assert runs.add(CellRun("a", "1"), "x") == runs.add(CellRun("a", "1"), "y") == []
    assert runs.add(CellRun("b", "2"), "z") == []
    assert runs.add(CellRun("a", "3"), "x") == ["x", "y"]
    assert sorted(runs) == ["x", "z"]
    runs.discard(lambda thing: thing == "z")
    assert list(runs) == ["x"]


@pytest.mark.parametrize(
    ("request_", "here"),
    [
        ({}, _cells.OUTSIDE),
        ({"header": {"msg_type": "comm_msg"}, "content": {}}, _cells.OUTSIDE),
        (
            {"header": {"msg_type": "execute_request", "msg_id": "m"}, "content": {"code": "1"}},
            CellRun("1", "m"),
        ),
        (
            {
                "header": {"msg_type": "execute_request", "msg_id": "m"},
                "content": {"code": "1"},
                "metadata": {"cellId": "c"},
            },
            CellRun("c", "m"),
        ),
    ],
)
def test_a_run_of_a_cell_is_known_by_the_request_for_it(request_, here, monkeypatch):
    kernel = SimpleNamespace(get_parent=lambda: request_)
    monkeypatch.setattr(_cells, "_shell", lambda: SimpleNamespace(kernel=kernel))
    assert _cells.current_run() == here


def test_without_a_kernel_nothing_is_shown():
    assert _cells.current_run() is None

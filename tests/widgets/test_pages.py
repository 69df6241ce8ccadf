"""Static forms go to the pages that ask for them, when the work has come to rest."""

from __future__ import annotations

import gc
import threading
import time
import uuid
import weakref

import pytest
import traitlets

import mullama_lab as ml
from mullama_lab.widgets import _pages
from mullama_lab.widgets._view import View


class Count(View):
    """A view that counts how often its forms are made."""

    _esm = "export default { render() {} }"
    _work_states = ("running",)
    value = traitlets.Int(0).tag(sync=True)
    state = traitlets.Unicode("idle").tag(sync=True)
    n_made = 0

    def _still_forms(self):
        self.n_made += 1
        return super()._still_forms()

    def _plain_text(self):
        return f"at {self.value}"


class Page:
    """A page with an output of a view: what its channel to the kernel brings."""

    def __init__(self, model_id):
        self.comm_id, self.got, self.is_closed = uuid.uuid4().hex, [], False
        _pages._opened(self, {"content": {"data": {"model_id": model_id}}})

    def on_msg(self, act):
        self.ask = lambda: act({})

    def on_close(self, act):
        self.leave = lambda: act({})

    def send(self, forms):
        self.got.append(forms["text/plain"])

    def close(self):
        self.is_closed = True


@pytest.fixture(autouse=True)
def short_rest(monkeypatch):
    monkeypatch.setattr(_pages, "REST", 0.05)


@pytest.fixture
def view():
    view = Count()
    view._repr_mimebundle_()
    view.n_made = 0
    return view


def settled(view):
    """Wait until no form is to come."""
    pages = view._shown_on
    while pages is not None and pages._waits:
        time.sleep(0.005)
    if pages is not None:
        pages._looks.settle()


def test_a_page_gets_the_forms_at_rest_and_the_next_ones_when_it_asks_again(view):
    page = Page(view.model_id)
    settled(view)
    assert page.got == ["at 0"]
    for value in range(1, 5):
        view.value = value
    settled(view)
    assert page.got == ["at 0"]
    page.ask()
    settled(view)
    assert page.got == ["at 0", "at 4"]
    page.ask()
    settled(view)
    view.value = 5
    settled(view)
    assert page.got == ["at 0", "at 4", "at 5"]


def test_forms_that_are_as_before_are_not_sent(view):
    page = Page(view.model_id)
    settled(view)
    page.ask()
    view.value = 3
    view.value = 0
    settled(view)
    assert page.got == ["at 0"]


def test_nothing_is_made_where_no_page_asks(view):
    view.value = 1
    page = Page(view.model_id)
    settled(view)
    assert view.n_made == 1
    view.value = 2
    settled(view)
    page.ask()
    page.leave()
    settled(view)
    view.value = 3
    settled(view)
    assert view.n_made == 1 and page.got == ["at 1"]


def test_nothing_is_made_while_anything_goes_on_and_its_end_is_sent(view):
    view.state = "running"
    page = Page(view.model_id)
    settled(view)
    for value in range(4):
        view.value = value
        settled(view)
    assert (page.got, view.n_made) == ([], 0)
    view.state = "finished"
    settled(view)
    assert page.got == ["at 3"]


def test_changes_without_a_rest_bring_nothing_until_they_end(view):
    for _ in range(50):
        page = Page(view.model_id)
        n_made, longest = view.n_made, 0.0
        end = (changed := time.monotonic()) + 0.25
        while changed < end:
            view.value += 1
            time.sleep(0.001)
            longest = max(longest, time.monotonic() - changed)
            changed = time.monotonic()
        settled(view)
        if longest < _pages.REST / 2:  # the machine was not busy elsewhere for as long as a rest is
            assert (page.got, view.n_made) == ([f"at {view.value}"], n_made + 1)
            return
    pytest.fail("the machine was busy elsewhere all the time")


def test_a_page_that_asks_again_and_again_puts_nothing_off(view, until):
    page = Page(view.model_id)
    settled(view)
    page.ask()
    view.value = 1
    until(lambda: page.got[-1] == "at 1" or page.ask())


def test_each_page_that_shows_it_gets_its_forms(view):
    one, other = Page(view.model_id), Page(view.model_id)
    settled(view)
    one.ask()
    view.value = 1
    settled(view)
    assert (one.got, other.got) == (["at 0", "at 1"], ["at 0"])
    other.ask()
    settled(view)
    assert other.got == ["at 0", "at 1"]


@pytest.mark.parametrize("data", [None, 7, [], {}, {"model_id": 7}, {"model_id": "none such"}])
def test_a_page_that_names_no_view_is_turned_away(data, view):
    page = Page("")
    page.is_closed = False
    _pages._opened(page, {"content": {"data": data}})
    assert page.is_closed and page.got == []


def test_pages_keep_no_view_alive():
    view = Count()
    view._repr_mimebundle_()
    pages = [Page(view.model_id) for _ in range(2)]
    settled(view)
    pages[0].ask()
    named, ref = view.model_id, weakref.ref(view)
    settled(view)
    del view
    gc.collect()
    assert ref() is None
    pages[1].ask()
    pages[0].leave()
    assert Page(named).is_closed


@pytest.mark.parametrize("closed", [True, False])
def test_a_page_of_a_view_is_told_what_it_shows_when_it_is_closed(closed, view):
    page = Page(view.model_id)
    settled(view)
    page.ask()
    view.value = 1
    if closed:
        view.close()
    settled(view)
    assert page.got == ["at 0", "at 1"]


@pytest.fixture
def lab(tiny_model):
    plain = ml.Mask(ban=[2]) | ml.TopK(20)
    lab = ml.Workbench(tiny_model, "Hello", chain=plain, seed=7, max_tokens=8)
    lab.wait()
    yield lab
    lab.close()


def test_a_lab_on_a_page_sends_its_forms_when_one_of_its_views_has_changed(lab, until):
    lab._repr_mimebundle_()
    page = Page(lab.model_id)
    settled(lab)
    assert page.got == [lab._still_forms()["text/plain"]]
    for change in (
        lambda: lab.set("TopK", k=3),
        lambda: lab.set(prompt="World"),
        lambda: lab.set(panels=["tree"]),
        lab.run,
    ):
        before = page.got[-1]
        page.ask()
        change()
        lab.wait()
        now = lab._still_forms()["text/plain"]
        until(lambda now=now: page.got[-1] == now or page.ask())  # it may rest in between
        assert now != before


def test_a_lab_sends_nothing_while_a_run_streams_however_slowly(lab, until):
    go_on = threading.Event()

    def held(row, history):
        if len(history) > 8:
            assert go_on.wait(20)
        return row

    lab.set(chain=ml.Custom(held) | lab.chain)
    lab._repr_mimebundle_()
    run = lab.start()
    until(lambda: lab.panel.state == "running")
    page = Page(lab.model_id)
    settled(lab)
    time.sleep(0.2)
    lab.set(seed=8)
    settled(lab)
    try:
        assert page.got == []
    finally:
        go_on.set()
    run.wait(20)
    lab.wait()
    settled(lab)
    assert page.got == [lab._still_forms()["text/plain"]]
    assert "8 tokens" in page.got[0]


def test_a_kernel_sends_forms_to_the_page_that_opened_a_channel(kernel):
    code = (
        "from mullama_lab import widgets\n"
        "bar = widgets.ExploreBar()\ndisplay(bar)\nprint(bar.model_id)"
    )
    model_id = kernel.run(code).strip()

    def sent(kind, content):
        """Which channels are sent forms in the next moment, and what these are."""
        wait = {"code": "import time; time.sleep(1.5)", "silent": True, "store_history": False}
        wait |= {"user_expressions": {}, "allow_stdin": False}
        published = kernel.ask(kind, content) + kernel.ask("execute_request", wait)
        messages = [m["content"] for m in published if m["msg_type"] == "comm_msg"]
        return [(m["comm_id"], set(m["data"])) for m in messages if m["comm_id"] != model_id]

    forms = {"text/plain", "text/html"}
    page = {"comm_id": "a", "target_name": _pages.TARGET, "data": {"model_id": model_id}}
    assert sent("comm_open", page) == [("a", forms)]
    kernel.run("bar.note = 'now'")
    assert sent("comm_msg", {"comm_id": "none", "data": {}}) == []
    assert sent("comm_msg", {"comm_id": "a", "data": {}}) == [("a", forms)]
    for k, data in enumerate([None, 3, {"model_id": "\ud800"}, {"model_id": [model_id]}]):
        kernel.ask("comm_open", {"comm_id": f"b{k}", "target_name": _pages.TARGET, "data": data})
    kernel.ask("comm_close", {"comm_id": "a", "data": {}})
    kernel.ask("comm_msg", {"comm_id": "a", "data": {}})
    assert "Traceback" not in kernel.console.read_text()

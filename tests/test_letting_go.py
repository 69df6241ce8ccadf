"""A lab lets go of what it opened: when it is closed, and when nobody holds it any more."""

from __future__ import annotations

import gc
import threading
import weakref

import ipywidgets
import numpy as np
import pytest
from ipywidgets.widgets import widget as registry
from tqdm import TMonitor

import mullama_lab as ml
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.errors import ClosedError
from mullama_lab.labs import _lab, _what_if_panel
from mullama_lab.labs._reading import Reading
from mullama_lab.studies.explore import Exploration
from mullama_lab.widgets import _kept
from mullama_lab.widgets._rows_aside import RowsAside
from mullama_lab.widgets._view import View

TEXTS = ["Remove any common leading whitespace.", "Fill a paragraph.", "Delete a directory tree."]


@pytest.fixture(scope="module")
def encoder(tiny_model):
    with MultiVectorEncoder(tiny_model, n_threads=1) as encoder:
        yield encoder


@pytest.fixture
def used(tiny_model, encoder):
    """Functions that make each lab, use it, and give it with weak references to what it holds."""

    def sampler(model=tiny_model):
        lab = ml.labs.SamplerLab(model, "Hello", seed=7, max_tokens=8)
        trace = lab.run()
        lab.set("TopK", k=3)
        lab.look_at(2)
        lab.wait()
        return lab, [trace]

    def branch(model=tiny_model):
        lab = ml.labs.BranchLab(model, "Hello", seed=7, max_tokens=8)
        trace = lab.run()
        lab.explore(4, 2)
        lab.wait()
        return lab, [trace, lab.tree, lab.exploration]

    def picked(model=tiny_model):
        lab = ml.Workbench(prompt="Hello", seed=7, max_tokens=8)
        lab.load(model)
        trace = lab.run()
        lab.load(model)
        lab.wait()
        return lab, [trace, lab.run()]

    def grammar(model=tiny_model):
        lab = ml.labs.GrammarLab(model, "Hello", seed=7, max_tokens=8)
        lab.grammar_bench.grammar = "root ::= [a-c]+"
        lab.grammar_bench.sample = "ab"
        lab.constrain()
        trace = lab.run()
        lab.wait()
        return lab, [trace, lab.grammar_bench.walk]

    def adapters(model=tiny_model):
        lab = ml.labs.AdapterLab(model, "Hello", seed=7, max_tokens=8)
        lab.control = ml.ControlVector({1: [1.0] * 32})
        trace = lab.run()
        lab.wait()
        return lab, [trace]

    def perf(model=tiny_model):
        lab = ml.labs.PerfLab(model, "Hello", seed=7, max_tokens=8)
        trace = lab.run()
        lab.wait()
        return lab, [trace, lab.monitor]

    def retrieval():
        lab = ml.labs.RetrievalLab(encoder, TEXTS)
        lab.search("whitespace")
        return lab, [lab.index]

    def make(name, *given):
        makers = {"SamplerLab": sampler, "BranchLab": branch, "Workbench": picked}
        makers |= {"GrammarLab": grammar, "AdapterLab": adapters, "RetrievalLab": retrieval}
        makers["PerfLab"] = perf
        made = makers[name]
        lab, things = made(*given)
        session = getattr(lab, "session", None)
        if session is not None and not given:
            things.append(session)
        return lab, [weakref.ref(thing) for thing in (*lab._all_parts(), *things)]

    return make


def standing():
    """Widgets, channels to a browser and threads that there are."""
    gc.collect()
    threads = {thread for thread in threading.enumerate() if not isinstance(thread, TMonitor)}
    return len(registry._instances), len(registry.comm.get_comm_manager().comms), threads


@pytest.mark.parametrize("name", ml.labs.__all__)
@pytest.mark.parametrize("closed", [True, False])
def test_nothing_of_a_lab_is_left(name, closed, used, until):
    before = standing()
    lab, refs = used(name)
    if closed:
        lab.close()
        lab.close()
    del lab
    until(lambda: standing() == before and not any(ref() for ref in refs))


@pytest.mark.parametrize("name", ["SamplerLab", "BranchLab"])
def test_a_session_that_lives_on_does_not_hold_the_labs_on_it(name, used, tiny_model, until):
    with tiny_model.session() as session:
        before = standing()
        lab, refs = used(name, session)
        run = lab.start()
        run.wait()
        lab.wait()
        tree = getattr(lab, "tree", None)
        del lab
        until(lambda: standing() == before)
        held = {id(thing) for thing in (tree, session.last_trace)}
        left = [ref() for ref in refs if ref() is not None and id(ref()) not in held]
        assert not any(isinstance(thing, (ml.labs.SamplerLab, _kept.Kept)) for thing in left)
        assert session._watchers == [] and not session.closed
        assert run.done


def test_what_a_lab_found_does_not_keep_it_alive(tiny_model, until):
    lab = ml.labs.BranchLab(tiny_model, "Hello", seed=7, max_tokens=8)
    found, refs = lab.explore(4, 2), [weakref.ref(thing) for thing in (lab, lab.bar)]
    del lab
    until(lambda: gc.collect() is not None and not any(ref() for ref in refs))
    assert len(found)


class HeldUp:
    """Work of a lab that stands still on its way, until `go_on`."""

    def __init__(self) -> None:
        self.is_there, self.may_go_on = threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []

    def wait(self, *_):
        self.threads.append(threading.current_thread())
        self.is_there.set()
        assert self.may_go_on.wait(60)

    def before(self, function, *, calls=0):
        """The same function, which waits before it is called, but for its first calls."""
        free = iter(range(calls))

        def waiting(*args, **kwargs):
            if next(free, None) is None:
                self.wait()
            return function(*args, **kwargs)

        return waiting

    def go_on(self) -> None:
        self.may_go_on.set()
        for thread in self.threads:
            thread.join(5)


@pytest.fixture
def held_up():
    held = HeldUp()
    yield held
    held.go_on()


@pytest.fixture
def at_work(tiny_model, encoder, held_up, monkeypatch):
    """Functions that make each lab, with work for it held up, by what that is."""

    def answering():
        monkeypatch.setattr(_what_if_panel, "replay", held_up.before(_what_if_panel.replay))
        lab = ml.Workbench(tiny_model, "Hello", max_tokens=4, panels=["what-if"])
        lab.run()
        return lab

    def exploring():
        monkeypatch.setattr(Exploration, "run", held_up.before(Exploration.run))
        lab = ml.labs.BranchLab(tiny_model, "Hello")
        lab.start_explore(4, 2)
        return lab

    def reading():
        monkeypatch.setattr(Reading, "read_some", held_up.before(Reading.read_some, calls=1))
        return ml.labs.RetrievalLab(encoder, ["abc" * 1000] * 3)

    def decoding():  # waits for what the session is at
        session = tiny_model.session(n_ctx=256)
        session.start("x", ml.Custom(lambda row, _: held_up.wait() or row), max_tokens=1)
        return ml.labs.SamplerLab(session, "Hello")

    def blending():
        monkeypatch.setattr(RowsAside, "row", held_up.before(RowsAside.row, calls=4))
        lab = ml.labs.AdapterLab(tiny_model, "Hello")
        for layer in (0, 1):
            lab.adapter_cards.add(ml.ControlVector({1: np.eye(32)[layer]}))
        lab.adapter_cards.side = "pad"
        return lab

    works = (answering, exploring, reading, decoding, blending)
    return {one.__name__: one for one in works}


@pytest.mark.parametrize("work", ["answering", "exploring", "reading", "decoding", "blending"])
def test_a_lab_ends_while_something_is_worked_out_for_it(work, at_work, held_up, until):
    lab = at_work[work]()
    until(held_up.is_there.is_set)
    ref = weakref.ref(lab)
    del lab
    until(lambda: gc.collect() is not None and ref() is None)


def test_a_lab_that_has_ended_is_told_no_more_answers(at_work, held_up, until, monkeypatch):
    asked = []
    monkeypatch.setattr(_what_if_panel, "flip_map", lambda *_, **__: asked.append("bars"))
    monkeypatch.setattr(_what_if_panel, "stage_effects", lambda *_, **__: asked.append("stages"))
    lab = at_work["answering"]()
    until(held_up.is_there.is_set)
    ref = weakref.ref(lab)
    del lab
    until(lambda: gc.collect() is not None and ref() is None)
    held_up.go_on()
    assert asked == [] and not held_up.threads[0].is_alive()


def test_a_view_of_a_lab_that_somebody_holds_keeps_the_lab_open(tiny_model):
    strip = ml.labs.SamplerLab(tiny_model, "Hello", max_tokens=4).strip
    panel = ml.labs.SamplerLab(tiny_model, "Hello", max_tokens=4).panel
    gc.collect()
    panel.run()
    panel.settle()
    assert panel.state in ("queued", "prompt", "running", "finished") and strip.comm is not None


@pytest.mark.parametrize("part", ["lab", "strip"])
def test_a_lab_lives_in_a_box_of_other_widgets_as_long_as_that(part, tiny_model, until):
    lab = ml.labs.SamplerLab(tiny_model, "Hello", max_tokens=4)
    box = ipywidgets.VBox([lab if part == "lab" else lab.strip, ipywidgets.HTML("below")])
    ref, session = weakref.ref(lab), weakref.ref(lab.session)
    del lab
    gc.collect()
    assert ref() is not None and len(ref().run()) > 0 and box.children[0].comm is not None
    for widget in (*box.children[1:], box):
        widget.close()
    del box, widget
    until(lambda: gc.collect() is not None and ref() is session() is None)


@pytest.mark.parametrize("name", ml.labs.__all__)
def test_a_closed_lab_begins_nothing_and_keeps_what_it_made(name, used):
    lab, _ = used(name)
    lab.close()
    with pytest.raises(ClosedError, match="lab was closed"):
        lab.set()
    with pytest.raises(ClosedError, match="lab (was|is) closed"):
        lab.search("a") if name == "RetrievalLab" else lab.run()
    assert set(lab._repr_mimebundle_()[0]) == {"text/plain", "text/html"}
    if name != "RetrievalLab":
        assert len(lab.trace) > 0


@pytest.mark.parametrize("name", ml.labs.__all__)
def test_a_new_lab_takes_the_place_of_its_cells_earlier_one(name, used, cell):
    cell("a cell")
    old, _ = used(name)
    old._repr_mimebundle_()
    twin, _ = used(name)
    assert not old._closed  # two in one run are two
    cell("another cell")
    other, _ = used(name)
    cell("a cell")
    new, _ = used(name)
    assert old._closed == twin._closed == _lab.REPLACED
    assert {part.closed for part in old._all_parts() if isinstance(part, View)} == {_lab.REPLACED}
    assert not other._closed and not new._closed
    for lab in (other, new):
        lab.close()


def test_a_lab_on_a_given_session_is_replaced_and_the_session_stays(tiny_model, cell):
    with tiny_model.session() as session:
        cell("a cell")
        old = ml.labs.SamplerLab(session)
        cell("a cell")
        new = ml.labs.SamplerLab(session)
        assert old._closed and not session.closed
        assert len(new.session.generate("a", max_tokens=3, seed=1)) <= 3
        new.close()


def test_what_a_replaced_lab_refuses_says_what_took_its_place(tiny_model, cell):
    cell("a cell")
    old = ml.labs.SamplerLab(tiny_model)
    cell("a cell")
    new = ml.labs.SamplerLab(tiny_model)
    with pytest.raises(ClosedError, match="newer run of its cell took this lab's place"):
        old.run()
    new.close()

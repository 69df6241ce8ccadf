"""The picker: what it offers, how it loads, stops and fails."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref

import pytest
from page import reply_data, reply_to

from mullama_lab import hub
from mullama_lab.engine.model import Model
from mullama_lab.errors import ClosedError, LoadCancelled, ModelFileError, ModelNotFound
from mullama_lab.glyphs import one_line, visible
from mullama_lab.hub.entries import CATALOGUE
from mullama_lab.widgets import ModelPicker
from mullama_lab.widgets._offers import offers


@pytest.fixture
def picker():
    picker = ModelPicker()
    yield picker
    picker.close()
    if picker.opened is not None:
        picker.opened.close()


@pytest.fixture
def fetching(monkeypatch):
    """Catalogue models take as long to arrive as the test wants: `go_on.set()` lets them."""
    go_on, asked = threading.Event(), threading.Event()

    def resolve(source, *, progress=True):
        if callable(progress) and source in CATALOGUE:
            n = 0
            while not go_on.wait(0.005):
                asked.set()
                n += 1
                if progress(n, 1000) is False:
                    raise LoadCancelled("stopped")
        return real(source, progress=progress)

    real = hub.resolve
    monkeypatch.setattr(hub, "resolve", resolve)
    go_on.asked = asked
    yield go_on
    go_on.set()


def rows_of(picker, kind):
    return [row for row in picker.rows if row["kind"] == kind]


def test_it_offers_what_generates_of_the_catalogue_with_size_licence_and_place(picker):
    rows = {row["key"]: row for row in rows_of(picker, "catalogue")}
    assert set(rows) == {"smollm2-135m", "gemma3-270m"}  # colbert-small encodes
    assert rows["smollm2-135m"]["licence"] == "Apache-2.0"
    assert rows["smollm2-135m"]["size"] == 98_362_432
    assert rows["smollm2-135m"]["cached"] == hub.is_cached("smollm2-135m")


def test_it_offers_the_models_and_sessions_that_are_open_and_holds_none(picker, tiny_path):
    with Model.load(tiny_path) as model, model.session(n_ctx=64) as session:
        session.generate("Hello", max_tokens=3)
        picker.refresh()
        mine = [key for key, offer in offers().items() if offer.source in (model, session)]
        assert len(mine) == 2
        row = next(r for r in rows_of(picker, "session") if r["key"] in mine)
        assert (row["n_ctx"], row["tokens"]) == (64, session.n_cells) and session.n_cells > 3
        vocabulary = Model.load(tiny_path, vocab_only=True)
        assert all(offer.source is not vocabulary for offer in offers().values())
        vocabulary.close()
    picker.refresh()
    assert not set(mine) & {row["key"] for row in picker.rows}


def test_rows_of_one_name_are_told_apart(picker, tiny_path):
    with Model.load(tiny_path) as one, Model.load(tiny_path) as other:
        first, second = one.session(n_ctx=64), one.session(n_ctx=64)
        third = other.session(n_ctx=64)
        said = first.generate("Hello\n", max_tokens=3).text
        picker.refresh()
        mine = {
            key for key, o in offers().items() if o.source in (one, other, first, second, third)
        }
        rows = [row for row in picker.rows if row["key"] in mine]
        assert [row.get("number", 0) for row in rows] == [0, 1, 2, 0, 1]  # below its model
        names = [row["name"] for row in rows]
        assert len(set(names[:3])) == len(set(names[3:])) == 1 and names[0] != names[3]
        texts = [row["text"] for row in rows if row["kind"] == "session"]
        assert texts[0].endswith(one_line(visible(f"Hello\n{said}".rstrip())))
        assert texts[1:] == ["", ""]
        table = picker._table()
        assert len(table) == len({tuple(row) for row in table})


def test_a_path_is_loaded_on_another_thread_and_its_session_handed_over(picker, tiny_path):
    told = []
    picker.on_load(lambda opened: told.append((opened, threading.current_thread())))
    session = picker.load(tiny_path, n_ctx=96)
    ((opened, thread),) = told
    assert opened.session is session is picker.session and session.n_ctx == 96
    assert thread is not threading.current_thread()
    assert picker.model.source == str(tiny_path)
    assert (picker.state, picker.chosen, picker.source) == ("open", "", str(tiny_path))
    scope: dict[str, object] = {}
    exec(picker.to_code(), scope)
    assert scope["session"].n_ctx == 96
    scope["model"].close()
    opened.close()
    assert session.closed and opened.session.model.closed


def test_its_code_is_of_what_was_wanted_whatever_became_of_it(picker, tiny_model, tiny_path):
    assert "ml.Model.load('smollm2-135m')\nsession = model.session()" in picker.to_code()
    picker.load(tiny_path, n_ctx=32)
    opened = picker.opened

    def refuse(_):
        raise ValueError("not this one")

    undo = picker.on_load(refuse)
    with pytest.raises(ValueError, match="not this one"):
        picker.load(tiny_model, n_ctx=48)
    load = f"model = ml.Model.load({str(tiny_path)!r})"
    assert f"{load}\nsession = model.session(n_ctx=48)" in picker.to_code()
    with tiny_model.session(n_ctx=48, reproducible=True) as session:
        with pytest.raises(ValueError, match="not this one"):
            picker.load(session)
        assert "model.session(n_ctx=48, reproducible=True)" in picker.to_code()
    with pytest.raises(ModelNotFound):
        picker.load("/nowhere/x.gguf", n_gpu_layers=3)
    assert "load('/nowhere/x.gguf', n_gpu_layers=3)\nsession = model.session()" in picker.to_code()
    undo()
    opened.close()


def test_the_session_at_work_is_marked_and_not_held(picker, tiny_model):
    session = tiny_model.session(n_ctx=32)
    picker.at_work = session
    picker.refresh()
    assert [row["kind"] for row in picker.rows if row.get("at_work")] == ["session"]
    held = weakref.ref(session)
    session.close()
    del session
    gc.collect()
    assert held() is None and picker.at_work is None
    picker.refresh()
    assert not any(row.get("at_work") for row in picker.rows)


def test_a_session_is_shared_and_a_model_gets_another_one(picker, tiny_model):
    with tiny_model.session(n_ctx=48) as session:
        assert picker.load(session) is session
        picker.opened.close()
        assert not session.closed
        new = picker.load(tiny_model, n_ctx=32)
        assert new.model is tiny_model and new.n_ctx == 32
        picker.opened.close()
        assert new.closed and not tiny_model.closed


def test_a_model_that_others_use_stays_open_when_its_picker_s_session_is_closed(picker, tiny_path):
    picker.load(tiny_path, n_ctx=32)
    model = picker.model
    with model.session(n_ctx=32):
        picker.opened.close()
        assert not model.closed
    model.close()


def test_an_error_says_what_is_wrong_and_the_picker_goes_on(picker, tiny_path, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(tiny_path.read_bytes()[:2000])
    for source, error, says in (
        ("/nowhere/x.gguf", ModelNotFound, "anything else is a path"),
        (damaged, ModelFileError, "damaged.gguf"),
    ):
        with pytest.raises(error):
            picker.load(source)
        assert picker.state == "failed" and says in picker.message
    assert picker.load(tiny_path, n_ctx=32).n_ctx == 32
    assert (picker.state, picker.message) == ("open", "")


def test_what_on_load_refuses_is_said_and_closed(picker, tiny_path):
    refused = []

    def refuse(opened):
        refused.append(opened.session)
        raise ValueError("not this one")

    undo = picker.on_load(refuse)
    with pytest.raises(ValueError, match="not this one"):
        picker.load(tiny_path, n_ctx=32)
    assert picker.message == "not this one" and picker.session is None
    assert refused[0].closed and refused[0].model.closed
    undo()


def test_bytes_are_shown_as_they_arrive_and_stop_ends_them(picker, fetching, until):
    loading = picker.start("smollm2-135m")
    until(lambda: picker.progress[0] > 0)
    assert (picker.state, picker.progress[1], picker.what) == ("fetching", 1000, "smollm2-135m")
    assert reply_to(picker, "stop")["ok"] and picker.state == "stopping"
    with pytest.raises(LoadCancelled):
        loading.opened_or_stop()
    assert (picker.state, picker.message, picker.session) == ("stopped", "", None)


def test_the_newest_choice_wins(picker, fetching, tiny_path):
    told = []
    picker.on_load(told.append)
    first = picker.start("smollm2-135m")
    fetching.asked.wait(5)
    session = picker.load(tiny_path, n_ctx=32)
    with pytest.raises(LoadCancelled):
        first.opened_or_stop()
    assert [opened.session for opened in told] == [session] and picker.state == "open"


def test_closing_it_ends_what_is_on_its_way(fetching, tiny_path):
    picker = ModelPicker()
    loading = picker.start("smollm2-135m")
    fetching.asked.wait(5)
    picker.close()
    with pytest.raises(LoadCancelled):
        loading.opened_or_stop()
    with pytest.raises(ClosedError):
        picker.start(tiny_path)


def test_what_a_load_warns_of_is_said_in_the_picker_and_not_printed(picker, tiny_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picker.load(tiny_path, n_ctx=1 << 14)
    assert "n_ctx=16384" in picker.message and picker.state == "open"


def test_the_browser_names_a_row_or_a_path_and_nothing_else(picker, tiny_path, until):
    def ask(**args):
        return reply_data(
            picker, "load", {"key": "", "source": "", "n_ctx": 0, "n_gpu_layers": 0, **args}
        )

    for wrong, says in (
        ({"key": "session 7f"}, "not open any more"),
        ({"key": 7}, "key is 7"),
        ({"source": "  "}, "write a path"),
        ({"source": ["x"]}, "write a path"),
        ({"source": "x", "n_ctx": "many"}, "n_ctx is 'many'"),
        ({"source": "x", "n_ctx": -1}, "n_ctx is -1"),
        ({"source": "x", "n_gpu_layers": -2}, "n_gpu_layers is -2"),
    ):
        reply = ask(**wrong)[0]
        assert not reply["ok"] and says in reply["error"]
    assert picker.state == "idle"
    assert ask(source=f" {tiny_path} ", n_ctx=40)[0]["ok"]
    until(lambda: picker.state == "open")
    assert picker.session.n_ctx == 40
    with pytest.raises(ValueError):
        picker.state = "gone"


def test_wrong_arguments_are_refused_before_anything_loads(picker):
    for given, error in (((7,), TypeError), ((None,), TypeError)):
        with pytest.raises(error, match="no model"):
            picker.start(*given)
    with pytest.raises(ValueError, match="n_ctx"):
        picker.start("smollm2-135m", n_ctx=0)
    with pytest.raises(ValueError, match="-1 means all"):
        picker.start("smollm2-135m", n_gpu_layers=-2)
    assert picker.state == "idle"


def test_its_still_forms_name_the_catalogue(picker):
    forms = picker._repr_mimebundle_()[0]
    assert forms["text/plain"].startswith("ModelPicker(idle)\nsmollm2-135m")
    assert "gemma3-270m" in forms["text/html"] and "<script" not in forms["text/html"]

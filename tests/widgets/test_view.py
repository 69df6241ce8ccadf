"""What every view promises: answers, three forms, a module that stands alone."""

from __future__ import annotations

import inspect
import json
import logging
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import traitlets
from page import reply_data, send

from mullama_lab import widgets
from mullama_lab.errors import ContextFull
from mullama_lab.glyphs import visible, visible_piece, visible_pieces
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._pages import keep_subshell
from mullama_lab.widgets._view import LIVE_OR_STILL, View, whole_number

ROOT = Path(__file__).parents[2]
VIEWS = [getattr(widgets, name) for name in widgets.__all__ if name != "Hit"]
STEMS = sorted(view.__module__.rpartition(".")[2] for view in VIEWS)


class Echo(View):
    _esm = "export default { render() {} }"
    from_browser = ("value", "other")
    value = traitlets.Int(3).tag(sync=True)
    other = traitlets.Int(0).tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)

    @traitlets.validate("value")
    def _small(self, proposal: Any) -> int:
        if proposal["value"] > 9:
            raise traitlets.TraitError("value is at most 9")
        return proposal["value"]

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        if op == "echo":
            return {"args": args}, [b"data"]
        if op == "full":
            raise ContextFull("the prompt has 9 tokens but 4 of 4 are free")
        if op == "break":
            raise ZeroDivisionError("division by zero")
        return super()._on_request(op, args)

    def _plain_text(self) -> str:
        return f"Echo of {self.value}"

    def _static_html(self):
        return _static.element("p", "echo <of> ", _static.element("b", str(self.value)))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"value": 10}, "at most 9"), ({"value": "x"}, "expected an int"), ({"other": 0.5}, "an int")],
    ids=["refused by the view", "of another type", "of a trait that nothing else checks"],
)
def test_a_wrong_value_of_a_trait_is_a_value_error_to_who_gives_it(wrong, why):
    with pytest.raises(ValueError, match=why):
        Echo(**wrong)
    view = Echo()
    with pytest.raises(ValueError, match=why):
        setattr(view, *next(iter(wrong.items())))
    assert (view.value, view.other) == (3, 0)


@pytest.fixture
def echo():
    return Echo()


def ask(view: Any, **content: Any) -> Any:
    (heard,) = send(view, {"kind": "request", "id": "a1", **content})
    return heard


@pytest.mark.parametrize("set_it", [lambda n: setattr(widgets.Meters(), "seconds", n),
                                    lambda n: setattr(widgets.Dial(), "strength", n)])  # fmt: skip
def test_a_number_that_no_float_can_be_is_a_value_error_in_our_words(set_it):
    with pytest.raises(ValueError, match="=about 2.*: the number is too large"):
        set_it(10**400)


@pytest.mark.parametrize("view", [widgets.Meters, widgets.TimeStrip, widgets.PlanBoard])
def test_what_failed_is_an_error_or_a_text(view):
    for wrong in (10**5000, None, ["a"]):
        with pytest.raises(TypeError, match="is no error and no text"):
            view().fail(wrong)


def test_a_request_is_answered_with_its_id_and_buffers(echo):
    content, buffers = ask(echo, op="echo", step=4)
    assert content == {"kind": "reply", "id": "a1", "ok": True, "args": {"step": 4}}
    assert buffers == [b"data"]


def test_a_ping_is_answered(echo):
    assert ask(echo, op="ping")[0]["ok"] is True


def test_errors_become_answers_and_log_records(echo, caplog):
    with caplog.at_level(logging.INFO, "mullama_lab"):
        assert ask(echo, op="full")[0]["error"] == "the prompt has 9 tokens but 4 of 4 are free"
        assert ask(echo, op="break")[0]["error"] == "ZeroDivisionError: division by zero"
        assert "no request 'nothing'" in ask(echo, op="nothing")[0]["error"]
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR", "INFO"]


@pytest.mark.parametrize("view", VIEWS)
def test_a_request_that_a_view_has_not_is_refused_in_the_same_words(view):
    answer, _ = reply_data(view(), "explode")
    assert answer == {"ok": False, "error": f"{view.__name__} has no request 'explode'"}


@pytest.mark.parametrize(
    "content", [None, 7, "text", [], {}, {"kind": "request"}, {"kind": "request", "id": "x" * 99}]
)
def test_what_is_no_request_is_left_alone(echo, content):
    assert send(echo, content) == []


def test_the_browser_sets_what_is_its_own(echo):
    echo.set_state({"value": 5})
    assert echo.value == 5


@pytest.mark.parametrize(
    ("sent", "back"),
    [
        ({"shown": {"x": 1}}, {"shown": {}}),
        ({"_esm": "alert(1)"}, {"_esm": Echo._esm}),
        ({"value": 10}, {"value": 3}),
        ({"value": "7"}, {"value": 3}),
        ({"other": 4, "value": 10}, {"other": 0, "value": 3}),
    ],
)
def test_what_the_browser_may_not_set_is_put_right_over_there(echo, sent, back, monkeypatch):
    told: dict[str, Any] = {}
    monkeypatch.setattr(Echo, "_send", lambda view, msg, buffers=None: told.update(msg["state"]))
    echo.set_state(sent)
    assert {name: getattr(echo, name) for name in back} == back
    assert told == back


def test_what_nobody_knows_is_left_alone(echo):
    echo.set_state({"nothing": 1, "comm": None})
    assert not hasattr(echo, "nothing") and echo.comm is not None


@pytest.mark.parametrize("view", VIEWS)
def test_the_browser_may_set_just_what_its_half_sets(view):
    stem = view.__module__.rpartition(".")[2]
    own = [name for name in (stem, *_front_end._imported(stem)) if name.startswith(stem)]
    source = "".join(_front_end._read(name) for name in own)
    sets = re.findall(r'(?:\bput|\bflip|model\.set)\("(\w+)"', source)
    sets += re.findall(r'\bchoice\("[^"]+", "(\w+)"', source)
    assert set(sets) == set(view.from_browser) <= set(view.class_traits(sync=True))


EVENTS = [
    (view, name)
    for view in VIEWS
    for name in vars(view)
    if name.startswith("on_") and callable(getattr(view, name))
]


@pytest.mark.parametrize(("view", "name"), EVENTS)
def test_whoever_listens_is_a_function_and_may_leave_twice(view, name):
    register = getattr(view(), name)
    with pytest.raises(TypeError, match=f"{name} takes a function"):
        register(None)
    callback = lambda *about: None  # noqa: E731
    leave, other = register(callback), register(callback)
    leave()
    leave()
    assert len(register.__self__._listeners[name.removeprefix("on_")]) == 1
    other()
    assert not register.__self__._listeners[name.removeprefix("on_")]


@pytest.mark.parametrize("view", [widgets.NextToken, widgets.TokenStrip])
def test_who_explains_is_a_function(view):
    with pytest.raises(TypeError, match="explain_with takes a function"):
        view().explain_with("because")


@pytest.mark.parametrize("view", [view for view in VIEWS if "__init__" in vars(view)])
def test_a_view_takes_only_what_it_names(view):
    parameters = inspect.signature(view.__init__).parameters.values()
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters)


@pytest.mark.parametrize("value", [True, 1.5, "3", None, -1, 11, float("nan"), [1]])
def test_a_whole_number_outside_its_range_is_refused(value):
    with pytest.raises(ValueError, match="from 0 to 10"):
        whole_number({"step": value}, "step", low=0, high=10)


def test_a_display_has_three_forms_at_once(echo):
    data, _ = echo._repr_mimebundle_()
    assert data["text/plain"] == "Echo of 3"
    assert data["text/html"] == "<p>echo &lt;of&gt; <b>3</b></p>"
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == echo.model_id
    assert data[LIVE_OR_STILL] == {}  # what the JupyterLab extension looks for


def test_a_snapshot_shows_the_static_forms_only(echo, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append((data, raw)))
    echo.snapshot()
    assert shown == [
        ({"text/plain": "Echo of 3", "text/html": echo._still_forms()["text/html"]}, True)
    ]


def test_a_repr_has_no_address(echo):
    assert repr(echo) == "Echo()"


def test_the_browser_keeps_its_choice_of_subshell():
    class Comm:
        def _reply_subshell_for(self, data, default):
            return "the shell that published last"

    comm = Comm()
    keep_subshell(comm)
    assert comm._reply_subshell_for({}, "the browser's") == "the browser's"


def test_a_comm_without_subshells_stays_as_it_is():
    comm = object()
    keep_subshell(comm)
    assert not hasattr(comm, "_reply_subshell_for")


def test_ipykernel_still_asks_the_function_that_is_replaced():
    ipykernel_comm = pytest.importorskip("ipykernel.comm.comm")
    if not hasattr(ipykernel_comm.BaseComm, "_reply_subshell_for"):
        pytest.skip("this ipykernel sends no comm messages to other shells")
    kernel = Path(ipykernel_comm.__file__).parents[1].joinpath("kernelbase.py").read_text()
    assert 'getattr(comm, "_reply_subshell_for"' in kernel


def test_elements_escape_text_and_show_what_is_hidden():
    node = _static.element("p", "a<b>\u202e", title='"quoted"\x00')
    assert _static.to_html(node) == '<p title="&quot;quoted&quot;[NUL]">a&lt;b&gt;[RLO]</p>'


def test_hidden_characters_are_written_as_the_browser_half_writes_them():
    for case in json.loads((ROOT / "widgets" / "dev" / "glyphs.json").read_text("utf-8")):
        assert visible(case["text"]) == case["shown"]


def test_bytes_that_are_no_text_are_shown_as_numbers():
    assert visible_piece(b"a\xff\xfeb") == "a[FF][FE]b"
    assert visible_piece("😀".encode()[:2]) == "[F0 9F]"


def test_a_character_of_several_pieces_is_put_together():
    smile = "😀".encode()
    assert visible_pieces([smile[:1], smile[1:3], smile[3:] + b"!"]) == ["", "", "😀!"]
    assert visible_pieces([b"x", smile[:2]]) == ["x", "[F0 9F]"]


@pytest.mark.parametrize("stem", STEMS)
def test_a_module_stands_alone_and_stays_small(stem, node, tmp_path):
    text = _front_end.module(stem)
    assert not re.search(r"^\s*import\b|^export \*", text, re.MULTILINE)
    assert len(text.encode()) + len(_front_end.style(stem).encode()) < 84_000
    path = tmp_path / f"{stem}.mjs"
    path.write_text(text, encoding="utf-8")
    script = f"import('{path}').then((m) => console.log(typeof m.default.render))"
    run = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "function"


@pytest.mark.parametrize("stem", STEMS)
def test_a_view_that_has_keys_lists_them_behind_a_question_mark(stem):
    source = "".join(path.read_text("utf-8") for path in _front_end.folder().glob(f"{stem}*.js"))
    if re.search(r"\bkeys\(\w", source):
        assert len(re.findall(r"\bHELP = \[", source)) == 1
        assert re.search(r'"\?": .*toggle|\.\.\.(parts\.)?help\.keys', source)


@pytest.mark.parametrize("stem", STEMS)
def test_a_browser_half_loads_nothing_and_writes_no_markup(stem):
    text = _front_end.module(stem) + _front_end.style(stem)
    addresses = set(re.findall(r"https?://[^\"'\s)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|insertAdjacentHTML|@import|url\(|\beval\(|\bfetch\(", text)


@pytest.mark.parametrize(
    "files, why",
    [
        ({"a": 'import { b } from "./shared/b.js";\n', "shared/b": ""}, "b.js exports no such"),
        ({"a": 'import { a } from "./a.js";\nexport const a = 1;\n'}, "a.js imports itself"),
    ],
)
def test_an_import_that_cannot_be_met_is_refused(files, why, tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir()
    for name, text in files.items():
        (tmp_path / f"{name}.js").write_text(text, encoding="utf-8")
    monkeypatch.setattr(_front_end, "folder", lambda: tmp_path)
    _front_end._read.cache_clear()
    with pytest.raises(ValueError, match=why):
        _front_end.module("a")
    _front_end._read.cache_clear()


def test_what_one_thread_holds_back_is_not_sent_by_another(monkeypatch):
    echo = Echo()
    sent = []
    monkeypatch.setattr(echo, "send_state", lambda names: sent.append(set(names)))
    inside, go_on = threading.Event(), threading.Event()

    def hold():
        with echo.hold_sync():
            echo.value = 5
            inside.set()
            assert go_on.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(20)
    with echo.hold_sync():
        echo.other = 7
    assert sent == [{"other"}]
    go_on.set()
    thread.join()
    assert sent == [{"other"}, {"value"}]

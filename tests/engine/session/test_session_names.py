"""What labs and studies ask of a session and of a run, by public names."""

from __future__ import annotations

import ast
import logging
import threading
from pathlib import Path

import pytest

import mullama_lab
from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain, Custom, Mask
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import ClosedError, ContextFull, StageFailed

NO_END = Chain([Mask(ban=[tiny.EOS])])


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


@pytest.mark.parametrize("layer", ["labs", "studies"])
def test_the_layers_above_use_no_private_name_of_the_engine(layer):
    package = Path(mullama_lab.__file__).parent
    names = {
        node.name if isinstance(node, ast.FunctionDef) else node.attr
        for file in ("loop/run.py", "handle.py", "worker.py", "trace/trace.py", *SESSION)
        for node in ast.walk(ast.parse((package / "engine" / file).read_text()))
        if isinstance(node, (ast.FunctionDef, ast.Attribute))
    }
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    used = [
        f"{path.name}:{node.lineno} {ast.unparse(node)}"
        for path in sorted((package / layer).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in private
        # its own names and those of its own kind are its own business
        if ast.unparse(node.value) not in ("self", "cls")
    ]
    assert used == []


SESSION = [f"session/{name}.py" for name in ("session", "runs", "scoring", "cells", "file")]


def test_a_prompt_becomes_the_tokens_that_generate_processes(session):
    for prompt in ("hello", [1, 70, 71], ""):
        tokens = session.prompt_tokens(prompt)
        trace = session.generate(prompt, max_tokens=0)
        assert trace.prompt_tokens.tolist() == tokens
    with pytest.raises(ContextFull):
        session.prompt_tokens("x" * 300)
    with pytest.raises(TypeError, match="a text or a list of token ids"):
        session.prompt_tokens(b"x")


def test_an_empty_trace_has_a_prompt_and_no_step(session):
    trace = session.empty_trace("hello", top=5)
    assert (len(trace), trace.top, trace.seed) == (0, 5, None)
    assert trace.prompt_tokens.tolist() == session.prompt_tokens("hello")


def test_what_was_closed_refuses_with_the_way_out(tiny_path):
    model = Model.load(tiny_path)
    session = model.session(n_ctx=256)
    session.must_be_open()
    session.close()
    with pytest.raises(ClosedError, match=r"session is closed.*model\.session\(\)"):
        session.must_be_open()
    model.must_be_open()
    model.close()
    with pytest.raises(ClosedError):
        model.must_be_open()


def test_a_run_tells_when_it_has_ended_and_whether_its_turn_came(session):
    gate, told = threading.Event(), []
    first = session.start("x", Custom(lambda row, _: (gate.wait(20), row)[1]), max_tokens=1)
    second = session.start("abc", NO_END, max_tokens=2)
    second.when_done(lambda: told.append(second.state))
    assert not second.started and told == []
    second.stop()
    assert not second.started and told == ["stopped"]
    gate.set()
    assert len(first.wait_or_stop()) == 1 and first.started
    first.when_done(lambda: told.append(first.state))  # which it has
    assert told == ["stopped", "finished"]
    with pytest.raises(StageFailed):
        session.start("x", Custom(lambda row, _: row[:1])).wait_or_stop()


def test_a_trace_of_another_model_is_refused_by_its_tokens(session, tiny_model):
    trace = session.generate("hello", NO_END, max_tokens=9, seed=1)
    trace.must_be_of(tiny_model)
    for where, key in ((8, "pieces"), (0, "prompt_tokens")):
        data = trace.to_dict()
        data[key][where] = {"pieces": b"other".hex(), "prompt_tokens": 10**6}[key]
        with pytest.raises(ValueError, match=r"another vocabulary than that.*tiny\.gguf"):
            Trace.from_dict(data).must_be_of(tiny_model)


# Who watches.


def test_a_watcher_that_raises_is_logged_and_stops_no_generation(session, caplog):
    seen = []

    def broken(run):
        raise RuntimeError("no view today")

    undo = [session.on_start(broken), session.on_start(seen.append)]
    try:
        with caplog.at_level(logging.ERROR, "mullama_lab"):
            trace = session.generate("abc", NO_END, max_tokens=3)
    finally:
        for forget in undo:
            forget()
    assert len(trace) == 3
    assert [run.trace for run in seen] == [trace]
    assert "no view today" in caplog.text


def test_the_runs_of_a_session_are_those_that_have_not_ended(session):
    goes_on = threading.Event()
    undo = session.on_start(lambda run: run.on_step(lambda step: goes_on.wait(60)))
    first, second = (session.start("abc", NO_END, max_tokens=3) for _ in range(2))
    undo()
    assert session.runs == [first, second]
    goes_on.set()
    assert (len(first.wait()), len(second.wait()), session.runs) == (3, 3, [])


def test_many_at_once_and_a_score_are_not_told_but_single_ones_are(session):
    seen = []
    undo = session.on_start(lambda run: seen.append(run.trace))
    try:
        trace = session.generate("abc", NO_END, max_tokens=3, seed=1)
        branch = session.branch(trace, 1, 70, NO_END, max_tokens=1)
        answer = session.chat([{"role": "user", "content": "a"}], NO_END, max_tokens=1)
        session.generate_many(["a", "b"], NO_END, max_tokens=1)
        session.branch_many([(trace, 0, 71)], NO_END, max_tokens=1)
        session.score("abc")
        session.logits("abc")
    finally:
        undo()
    assert seen == [trace, branch, answer]


def test_a_watcher_is_a_function_and_its_undo_may_be_called_twice(tiny_model):
    with tiny_model.session(n_ctx=64) as session:
        with pytest.raises(TypeError, match="it must be a function of a Run"):
            session.on_start(5)
        seen = []
        undo = session.on_start(seen.append)
        undo()
        undo()
        session.generate("a", max_tokens=1)
        assert seen == []

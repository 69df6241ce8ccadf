"""llama.cpp's own grammar sampler runs beside the kernel: what ends it does not end the kernel.

That it allows the same tokens as llguidance is in `test_matcher.py`.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import psutil
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.grammar.llama_sampler import matcher as module
from mullama_lab.engine.grammar.llama_sampler.matcher import llama_matcher
from mullama_lab.engine.worker import end_if_stopped
from mullama_lab.errors import GrammarError

WORDS = ml.Grammar.gbnf('root ::= "(" [a-c]{3} ("," [a-c]{3})* ")"')
GROWING = ml.Grammar.gbnf('root ::= "a" root "b" | "a" root "c" | "d"')
A = ord("a") + 3


@contextmanager
def one_that_is_stuck(model, programs):
    """Another thread's request is under way, and does not end by itself."""
    work, seconds = llama_matcher(model, GROWING), []

    def grow():
        while work.accept(A):
            seconds.append(monotonic())

    thread = threading.Thread(target=grow)
    thread.start()
    while len(seconds) < 14 or monotonic() - seconds[-1] < 1:  # the next takes more than that
        assert thread.is_alive()
        thread.join(0.01)
    (stuck,) = programs()
    try:
        yield stuck
        assert thread.is_alive()
    finally:
        stuck.kill()
        thread.join()


def pieces(model, allowed):
    return {model.piece(int(token)) for token in np.flatnonzero(allowed)}


def test_it_goes_from_token_to_token(tiny_model):
    work = llama_matcher(tiny_model, ml.Grammar.choice(["ab", "abc"]))
    assert pieces(tiny_model, work.allowed()) == {b"a"} and not work.is_complete
    assert work.accept(A) and work.accept(A + 1)
    assert work.is_complete and pieces(tiny_model, work.allowed()) == {b"c", b"</s>"}
    assert work.accept(tiny.EOS)
    assert not work.allowed().any() and not work.accept(A) and work.error == ""


def test_what_it_does_not_allow_is_refused_and_nothing_comes_after(tiny_model):
    for asked in (False, True):
        work = llama_matcher(tiny_model, WORDS)
        assert work.accept(ord("(") + 3)
        if asked:
            work.allowed()
        assert not work.accept(ord(")") + 3)
        assert not work.accept(A) and not work.allowed().any() and work.error == ""


def test_texts_beside_each_other_and_more_than_it_keeps_do_not_disturb_it(tiny_model):
    works = [llama_matcher(tiny_model, WORDS) for _ in range(40)]
    texts = [bytes([40, *b"abcabc"[n % 3 : n % 3 + 3], 44, 97, 98]) for n in range(40)]
    for place in range(7):
        for work, text in zip(works, texts):
            assert work.accept(text[place] + 3)
    for work in works:
        assert pieces(tiny_model, work.allowed()) == {b"a", b"b", b"c"}


def test_a_process_that_was_ended_is_started_again_where_the_text_is(tmp_path, programs):
    with ml.Model.load(tiny.write(tmp_path / "m.gguf"), probe=False) as model:
        work = llama_matcher(model, WORDS)
        assert work.accept(ord("(") + 3) and work.accept(A)
        (process,) = programs()
        process.kill()
        psutil.wait_procs([process])
        assert pieces(model, work.allowed()) == {b"a", b"b", b"c"}
        assert programs() != [process]


def test_a_grammar_that_grows_without_bounds_is_ended_in_time(tiny_model, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.3)
    work = llama_matcher(tiny_model, GROWING)
    n = 0
    while n < 100 and work.accept(A):
        n += 1
    assert 5 < n < 100, "each takes four times as long as the one before"
    assert work.error == "it was not done after 0.3 seconds"
    assert not work.allowed().any()
    assert llama_matcher(tiny_model, WORDS).accept(ord("(") + 3)


def test_a_grammar_that_is_stuck_keeps_no_other_waiting(tmp_path, monkeypatch, programs):
    monkeypatch.setattr(module, "SECONDS", 1000.0)
    monkeypatch.setattr(module, "BYTES", 1 << 40)
    path = tiny.write(tmp_path / "m.gguf")
    with ml.Model.load(path, probe=False) as model, one_that_is_stuck(model, programs) as stuck:
        llama_matcher(model, GROWING)
        work = llama_matcher(model, WORDS)
        assert work.accept(ord("(") + 3) and pieces(model, work.allowed()) == {b"a", b"b", b"c"}
        others = [one for one in programs() if one != stuck]
        for one in others:
            one.kill()
        psutil.wait_procs(others)
        tiny.write(path, pieces=["abc"])
        assert work.accept(A) and not work.allowed().any()
        assert work.error == "the model's file is another one now"


def test_a_stop_ends_the_request_that_is_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 1000.0)
    monkeypatch.setattr(module, "BYTES", 1 << 40)
    chain = ml.Constrain(GROWING, engine="llama.cpp") | ml.Mask(allow=(A,))
    looks, run = Counter(), None

    def look():
        looks[run and len(run.trace)] += 1
        end_if_stopped()

    monkeypatch.setattr(module, "end_if_stopped", look)
    with (
        ml.Model.load(tiny.write(tmp_path / "m.gguf"), probe=False) as model,
        model.session(n_ctx=512, n_threads=1) as session,
    ):
        run = session.start("a", chain, max_tokens=100)
        while max(looks.values(), default=0) < 200:  # each 10 ms, so the next takes seconds
            assert not run.done
            sleep(0.01)
        n = len(run.trace)
        run.stop()
        trace = run.wait()
        assert trace.finish_reason == "stopped" and n <= len(trace) <= n + 1
        words = ml.Constrain(WORDS, engine="llama.cpp")
        assert session.generate("a", words, max_tokens=1).text == "("


def test_a_path_among_the_places_of_modules_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/nowhere")])
    with ml.Model.load(tiny.write(tmp_path / "m.gguf"), probe=False) as model:
        assert llama_matcher(model, WORDS).accept(ord("(") + 3)


def test_its_memory_is_bounded(tiny_model, monkeypatch):
    work = llama_matcher(tiny_model, GROWING)
    monkeypatch.setattr(module, "BYTES", 1 << 20)
    monkeypatch.setattr(module, "SECONDS", 30.0)
    while work.accept(A):
        pass
    assert work.error == "it needed more than 1 MB of memory"


def test_its_process_ends_with_the_model(tmp_path, programs):
    model = ml.Model.load(tiny.write(tmp_path / "m.gguf"), probe=False)
    work = llama_matcher(model, WORDS)
    (process,) = programs()
    assert process.is_running()
    model.close()
    del model, work
    gc.collect()
    assert not process.is_running()


def test_a_file_that_is_another_one_now_is_an_error(tmp_path):
    path = tiny.write(tmp_path / "m.gguf")
    with ml.Model.load(path, probe=False) as model:
        tiny.write(path, pieces=["abc"])
        with pytest.raises(GrammarError, match="the model's file is another one now"):
            llama_matcher(model, WORDS)
        path.unlink()
        with pytest.raises(GrammarError, match="could not load .*m.gguf"):
            llama_matcher(model, WORDS)


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        (ml.Grammar.json_schema({"type": "integer"}), "'root' is json schema, .* llguidance alone"),
        (ml.Grammar.regex("a") + "b", "is regex, which is not written as GBNF"),
        (ml.Grammar.gbnf('root ::= "a" <think>'), "'root' names a token, '<think>'"),
        (ml.Grammar.gbnf("root ::= x\nx ::= !<[7]>"), "'x' names a token, '7'"),
    ],
)
def test_what_it_does_not_read_is_refused(tiny_model, grammar, said):
    with pytest.raises(GrammarError, match=said):
        llama_matcher(tiny_model, grammar)


def test_nothing_that_is_a_grammar_ends_the_kernel(attempts, tmp_path):
    """Lines of rules that it follows by calling itself, rules that double, and what grows."""
    chain = "\n".join(f"r{n} ::= r{n + 1}" for n in range(19_000))
    double = "\n".join(f"r{n} ::= r{n + 1} r{n + 1}" for n in range(40))
    grammars = {
        "chain": f'root ::= r0\n{chain}\nr19000 ::= "a"',
        "double": f'root ::= r0\n{double}\nr40 ::= "a"?',
        "growing": 'root ::= "a" root "b" | "a" root "c" | "d"',
        "copies of copies": "root ::= " + "(" * 25 + '"a"' + "?{2})" * 25,
    }
    (tmp_path / "grammars.json").write_text(json.dumps(grammars))
    tiny.write(tmp_path / "m.gguf", pieces=["a" * 64 + "!", "a" * 200])
    script = """
import json, sys
import mullama_lab as ml
from mullama_lab.engine.grammar.llama_sampler import matcher

matcher.SECONDS = 0.5
model = ml.Model.load(sys.argv[2], probe=False)
for name, text in json.load(open(sys.argv[1])).items():
    def call():
        work = matcher.llama_matcher(model, ml.Grammar.gbnf(text))
        for _ in range(12):
            if work.accept(ord("a") + 3):
                work.allowed()
    attempt(name, call)
"""
    outcomes = attempts(script, tmp_path / "grammars.json", tmp_path / "m.gguf")
    assert set(outcomes) == set(grammars)
    assert set(outcomes.values()) <= {"fine", "GrammarError"}

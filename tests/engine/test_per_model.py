"""What is worked out for a model is worked out once, and is gone when the model is."""

from __future__ import annotations

import gc
import threading
import weakref

import llguidance

from mullama_lab.engine import per_model
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Constrain, TopK


class Result:
    """Something that a weak reference can follow."""


def test_a_result_is_worked_out_once_for_each_model_and_value(tiny_path):
    done = []

    @per_model.once_per_model
    def work(model, value, *, times=1):
        done.append((model.n_vocab, value, times))
        return value * times

    with Model.load(tiny_path) as one, Model.load(tiny_path) as other:
        assert [work(m, v) for m in (one, other) for v in (2, 3, 2)] == [2, 3, 2] * 2
        assert work(one, 2, times=5) == work(one, 2, times=5) == 10
    assert len(done) == 5


def test_the_result_that_was_asked_for_longest_ago_gives_way(tiny_model):
    done = []
    work = per_model.once_per_model(lambda model, value: done.append(value))
    for value in (*range(per_model.MOST), 0, per_model.MOST, 0, 1):
        work(tiny_model, value)
    assert done == [*range(per_model.MOST + 1), 1]


def test_what_is_known_is_given_while_something_else_is_worked_out(tiny_model):
    at_work, go_on, done = threading.Event(), threading.Event(), []

    @per_model.once_per_model
    def work(model, value):
        if value == "slow":
            at_work.set()
            assert go_on.wait(20)
        done.append(value)
        return value

    work(tiny_model, "known")
    slow = [threading.Thread(target=work, args=(tiny_model, "slow")) for _ in range(2)]
    for thread in slow:
        thread.start()
    assert at_work.wait(20)
    assert work(tiny_model, "known") == "known"
    go_on.set()
    for thread in slow:
        thread.join()
    assert done == ["known", "slow"], "also where two asked for it"


def test_a_dozen_texts_have_their_grammars_compiled_once(tiny_model, monkeypatch):
    compiled, make = [], llguidance.LLMatcher

    def compiling(tokenizer, text, **how):
        compiled.append(text)
        return make(tokenizer, text, **how)

    monkeypatch.setattr(llguidance, "LLMatcher", compiling)
    chains = [Constrain(Grammar.choice([f"{n} and on"])) | TopK(5) for n in range(12)]
    with tiny_model.session(n_ctx=512, n_seq_max=12) as session:
        traces = session.generate_many("x", chains, max_tokens=3)
    assert [trace.text for trace in traces] == [f"{n} and on"[:3] for n in range(12)]
    assert len(compiled) == len(set(compiled)) == 12


def test_a_result_goes_with_its_model(tiny_path):
    work = per_model.once_per_model(lambda model: Result())
    with Model.load(tiny_path) as model:
        result = weakref.ref(work(model))
        assert result() is work(model)
    del model
    gc.collect()
    assert result() is None

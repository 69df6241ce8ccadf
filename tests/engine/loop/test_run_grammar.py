"""The grammar of a run, set to another, on and off while it writes."""

from __future__ import annotations

import re
import threading
from contextlib import suppress

import pandas as pd
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import ClosedError, GrammarBroken, GrammarError, MullamaError
from mullama_lab.studies.replay import replay

PROMPT = "Is it?"
HOT = ml.Mask(ban=[tiny.EOS]) | ml.Temperature(5)


def letters(which):
    return ml.Grammar.gbnf(f"root ::= [{which}]*")


def drawn_again(session, trace):
    """The tokens of the same generation, asked for as a whole."""
    n = len(trace)
    return session.generate(PROMPT, trace.schedule, max_tokens=n, seed=trace.seed).tokens.tolist()


def test_it_is_another_from_the_next_token_on_and_none_and_back(session, until):
    run = session.start(PROMPT, HOT, grammar=letters("a-c"), max_tokens=600, seed=3)
    assert run.grammar == letters("a-c")
    for grammar in (letters("a-f"), None):
        n = len(run.trace)
        until(lambda n=n: len(run.trace) > n + 5)
        run.grammar = grammar
        assert run.grammar == grammar
    trace = run.wait()
    assert trace.finish_reason == "length" and len(trace.chains) == 3
    assert [len(chain) for _, chain in trace.chains] == [3, 3, 2]
    (first, _), (second, _), (third, _) = trace.chains
    assert 0 == first < second < third
    said = trace.step_bytes
    assert set(b"".join(said[:second])) <= set(b"abc")
    assert set(b"".join(said[second:third])) <= set(b"abcdef")
    assert drawn_again(session, trace) == trace.tokens.tolist()
    assert replay(trace, on=session).n_changed == 0


def test_one_that_the_text_cannot_meet_is_an_exception_and_the_run_goes_on_as_it_was(
    session, until
):
    run = session.start(PROMPT, HOT, grammar=letters("a-c"), max_tokens=400, seed=3)
    until(lambda: len(run.trace) > 5)
    chain = run.chain
    for setting in ("grammar", "chain"):
        for grammar in (letters("x"), ml.Grammar.choice(["yes", "no"])):
            with pytest.raises(GrammarBroken, match="Generated token 0"):
                setattr(
                    run, setting, grammar if setting == "grammar" else ml.Constrain(grammar) | HOT
                )
    with pytest.raises(GrammarError, match="no token"):
        run.grammar = ml.Grammar.gbnf("root ::= <foo>")
    with pytest.raises(TypeError, match="takes a Grammar"):
        run.grammar = "yes"
    assert run.chain is chain
    trace = run.wait()
    whole = session.generate(PROMPT, HOT, grammar=letters("a-c"), max_tokens=400, seed=3)
    assert trace.tokens.tolist() == whole.tokens.tolist() and len(trace.chains) == 1


def test_a_swap_never_breaks_a_run_however_it_meets_a_token(session):
    """The grammar that is swapped to fits as long as no "c" has come, which may come meanwhile."""
    outcomes = set()
    for seed in range(12):
        run = session.start(PROMPT, HOT, grammar=letters("a-z"), max_tokens=60, seed=seed)
        while not run.done:
            try:
                run.grammar = letters("a-bd-z")
            except GrammarBroken:
                outcomes.add("refused")
                break
            outcomes.add("taken")
            run.grammar = letters("a-z")
        trace = run.wait()
        assert trace.finish_reason == "length"
        assert replay(trace, on=session).n_changed == 0
    assert outcomes == {"refused", "taken"}


def test_what_a_stage_says_besides_stays_unless_another_stage_is_given(session, gate, until):
    stage = ml.Constrain(letters("a-z"), stop="only", after="!")
    run = session.start(PROMPT, ml.TopK(50) | stage | ml.Custom(gate), max_tokens=5)
    assert gate.at_work.wait(20)
    gate.open.set()
    run.grammar = letters("a-c")
    assert run.chain[1] == ml.Constrain(letters("a-c"), stop="only", after="!")
    run.grammar = other = ml.Constrain(letters("x"), after="!")
    assert run.chain[1] is other and len(run.chain) == 3
    run.grammar = None
    assert run.grammar is None and len(run.chain) == 2
    run.grammar = other
    assert run.chain[0] is other
    run.wait()


def test_one_about_what_follows_a_marker(session, until):
    few = ml.Mask(allow=[3 + byte for byte in b"abcQ-"]) | ml.Temperature(5)
    run = session.start(PROMPT, few, grammar=letters("a-z"), max_tokens=200, seed=3)
    until(lambda: len(run.trace) > 5)
    with pytest.raises(GrammarBroken):
        run.grammar = ml.Grammar.gbnf('root ::= "-"*')
    run.grammar = ml.Constrain(ml.Grammar.gbnf('root ::= "-"*'), after="Q")
    before, marker, after = run.wait().text.partition("Q")
    assert re.match("[a-z]{5}", before) and marker and after and set(after) == {"-"}


def test_it_is_set_while_the_run_waits_for_its_turn(session, gate):
    first = session.start("x", HOT | ml.Custom(gate), max_tokens=1)
    assert gate.at_work.wait(20)
    waiting = session.start(PROMPT, HOT, max_tokens=5, seed=1)
    several = session.start_many(PROMPT, HOT, max_tokens=5, seeds=range(12))
    waiting.grammar = letters("a-c")
    several.grammar = [letters(c) for c in "abcdefghijkl"]
    assert several[2].grammar == letters("c") and waiting.state == "queued"
    gate.open.set()
    assert set(waiting.wait().text) <= set("abc")
    assert [trace.text for trace in several.wait()] == [5 * c for c in "abcdefghijkl"]
    assert len(waiting.trace.chains) == 1
    first.wait()


def test_of_several_all_are_swapped_or_none(session, until):
    runs = session.start_many(PROMPT, HOT, max_tokens=100, grammar=letters("a-z"), seeds=range(4))
    until(lambda: all(len(run.trace) > 3 for run in runs))
    before = runs.chain
    with pytest.raises(GrammarBroken):
        runs.grammar = [letters("a-z"), letters("a-y-"), letters("0-9"), None]
    with pytest.raises(ValueError, match="2 grammars for 4 runs"):
        runs.grammar = [None, None]
    assert runs.chain == before
    runs.grammar = [letters("a-zA-Z"), None, letters("a-z0-9"), letters("a-z")]
    assert [g is None for g in runs.grammar] == [False, True, False, False]
    for trace in runs.wait():
        assert trace.finish_reason == "length"
    runs.grammar = None  # all have ended: nothing comes of it


def test_eight_texts_of_eight_grammars(session):
    grammars = [ml.Grammar.choice([f"{n} of {m}" for m in range(3)]) for n in range(8)]
    chain = ml.Temperature(3)
    together = session.generate_many(PROMPT, chain, grammar=grammars, max_tokens=12, seeds=7)
    for n, (grammar, trace) in enumerate(zip(grammars, together, strict=True)):
        alone = session.generate(PROMPT, chain, grammar=grammar, max_tokens=12, seed=7)
        assert re.fullmatch(f"{n} of [0-2]", trace.text) and trace.finish_reason == "eog"
        assert trace.text == alone.text and trace.chain == alone.chain
    mixed = session.generate_many(
        PROMPT, chain, grammar=[None, ml.Constrain(letters("a"), stop="complete")], seeds=1
    )
    assert len(mixed[0].chain) == 1 and mixed[1].finish_reason == "complete"
    with pytest.raises(ValueError, match="3 prompts, 1 chains, 8 grammars, 1 seeds"):
        session.generate_many(["a", "b", "c"], grammar=grammars)
    with pytest.raises(ValueError, match="no grammar is given"):
        session.generate_many("a", grammar=[])
    with pytest.raises(TypeError, match="takes a Grammar"):
        session.generate_many("a", grammar="yes")


def test_it_is_swapped_from_what_watches_the_run(session):
    """A callback is called by the thread that the next draw waits for."""
    refused = []

    def swap(step):
        run = session.run
        if step.index == 5:
            run.grammar = letters("a-f")
        if step.index == 10:
            try:
                run.grammar = letters("x")
            except GrammarBroken as error:
                refused.append(error)

    undo = session.on_start(lambda run: run.on_step(swap))
    trace = session.generate(PROMPT, HOT, grammar=letters("a-c"), max_tokens=40, seed=1)
    undo()
    assert trace.finish_reason == "length" and len(refused) == 1
    assert [(first, len(chain)) for first, chain in trace.chains] == [(0, 3), (6, 3)]
    assert session.run.grammar == letters("a-f")


def test_a_stage_of_the_run_itself_may_swap_it(session):
    def now(logits, history):
        runs[0].grammar = letters("a-e")
        return logits

    runs = []
    ready = threading.Event()
    wait = ml.Custom(lambda logits, history: ready.wait(20) and logits)
    run = session.start(PROMPT, HOT | wait | ml.Custom(now), max_tokens=4, seed=1)
    runs.append(run)
    ready.set()
    with pytest.raises(MullamaError):  # the first token was drawn before it
        run.wait()
    assert session.generate(PROMPT, HOT, max_tokens=2).text is not None


def test_the_session_is_closed_in_the_midst_of_it(tiny_model, until):
    session = tiny_model.session(n_ctx=4096, n_threads=1, n_seq_max=4)
    run = session.start(PROMPT, HOT, grammar=letters("a-z"), max_tokens=4000, seed=1)
    waiting = session.start(PROMPT, HOT, grammar=letters("a-z"), sequence=0)
    until(lambda: len(run.trace) > 3)
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for grammar in (letters("a-z0-9"), letters("a-zA-Z"), None):
                with suppress(GrammarBroken):
                    run.grammar = grammar

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        until(lambda: len(run.trace) > 20)
        session.close()
        assert run.wait().finish_reason == "stopped"
        with pytest.raises(ClosedError):
            waiting.wait(20)
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def test_a_real_model_writes_on_in_another_form(smollm2, until):
    with smollm2.session(n_ctx=512) as session:
        words = ml.Grammar.gbnf('root ::= (" "? [a-zA-Z,.\']+)*')
        chain = ml.Temperature(0.8)
        run = session.start("Once upon a time", chain, grammar=words, max_tokens=400, seed=4)
        until(lambda: len(run.trace) > 4)
        shouted = ml.Grammar.gbnf('root ::= (" "? [a-zA-Z,.\']+)* "!" " "? "THE END"')
        run.grammar = ml.Constrain(shouted, stop="only")
        with pytest.raises(GrammarBroken):
            run.grammar = ml.Grammar.json_schema({"type": "object"})
        trace = run.wait()
        again = session.generate(
            "Once upon a time", trace.schedule, max_tokens=400, seed=trace.seed
        )
        assert again.tokens.tolist() == trace.tokens.tolist()
        assert again.finish_reason == trace.finish_reason
        assert replay(trace, on=session).n_changed == 0


def test_a_rule_follows_a_column_that_changes_meanwhile(session, until):
    table = pd.DataFrame({"name": ["ab", "cd"]})
    names = ml.Grammar.gbnf('root ::= (name ",")*\nname ::= "x"')
    run = session.start(
        PROMPT, HOT, grammar=names.override(name=table["name"]), max_tokens=300, seed=1
    )
    until(lambda: len(run.trace) > 10)
    table.loc[2, "name"] = "ef"
    run.grammar = names.override(name=table["name"])
    trace = run.wait()
    first = trace.chains[1][0]
    said = trace.text.split(",")
    assert set(said[:-1]) == {"ab", "cd", "ef"}
    assert "e" not in trace.text[:first]


def test_a_branch_that_waits_is_about_the_token_that_was_given_too(session, gate):
    parent = session.generate(PROMPT, HOT, grammar=letters("a-c"), max_tokens=6, seed=1)
    first = session.start("x", HOT | ml.Custom(gate), max_tokens=1)
    assert gate.at_work.wait(20)
    branch = session.start_branch(parent, 3, ord("z") + 3, HOT, max_tokens=3)
    with pytest.raises(GrammarBroken, match="Generated token 3, 'z'"):
        branch.grammar = letters("a-c")
    branch.grammar = letters("a-cz")
    gate.open.set()
    trace = branch.wait()
    assert trace.text[3] == "z" and len(trace) == 7 and set(trace.text) <= set("abcz")
    first.wait()

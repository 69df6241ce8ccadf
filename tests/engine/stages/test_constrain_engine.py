"""Constrain(engine="llama.cpp"): the same texts by llama.cpp's own sampler, or an error."""

from __future__ import annotations

import json
import pickle

import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.grammar.llama_sampler import matcher
from mullama_lab.errors import GrammarBroken, GrammarError
from mullama_lab.studies.fate import fate
from mullama_lab.studies.grammar_tax import grammar_tax
from mullama_lab.studies.replay import replay
from mullama_lab.widgets import ChainEditor

PROMPT = "Is it?"
WORDS = ml.Grammar.gbnf('root ::= "(" [a-c]{3} ("," [a-c]{3})* ")"')
AFTER = ml.TopK(20) | ml.Temperature(1.5)
LLAMA = ml.Constrain(WORDS, engine="llama.cpp")
TEXTS = {
    "words": WORDS,
    "answer": ml.Grammar.choice(["yes", "no", "maybe", "nobody"]),
    "letters": ml.Grammar.gbnf("root ::= [a-z\\n]* | [0-9]{3}"),
    "nested": ml.Grammar.gbnf('root ::= "[" (root ("," root)*)? "]" | [0-9]+'),
}


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def trace(session):
    return session.generate(PROMPT, LLAMA | AFTER, max_tokens=16, seed=3)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("stop", [None, "complete", "only"])
def test_both_engines_write_the_same_under_one_seed(session, name, stop):
    for seed in range(4):
        one, other = (
            session.generate(
                PROMPT,
                ml.Constrain(TEXTS[name], stop=stop, engine=engine) | AFTER,
                max_tokens=16,
                seed=seed,
            )
            for engine in ("llguidance", "llama.cpp")
        )
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.finish_reason == other.finish_reason
        assert one.n_kept.tolist() == other.n_kept.tolist()


def test_both_write_the_same_with_a_real_model(smollm2):
    with smollm2.session(n_ctx=128) as session:
        texts = {
            session.generate("My list: ", ml.Constrain(WORDS, engine=e), max_tokens=8, seed=1).text
            for e in ("llguidance", "llama.cpp")
        }
    assert len(texts) == 1


def test_it_goes_wherever_a_stage_goes(trace, session, tmp_path):
    chain = LLAMA | AFTER
    assert replay(trace, on=session).n_changed == 0
    told = fate(trace, 1, "x", on=session)
    assert told.remark() == "Forbidden by the grammar: expected `a`, `b` or `c`."
    assert grammar_tax(trace, on=session).nats[0] > 1
    many = session.generate_many(PROMPT, chain, max_tokens=16, seeds=[3, 4, 3])
    assert many[0].text == many[2].text == trace.text
    token = next(ord(c) + 3 for c in "abc" if ord(c) + 3 != trace.tokens[2])
    assert session.branch(trace, 2, token, max_tokens=8).tokens[2] == token
    with pytest.raises(GrammarBroken, match="is no beginning .* Generated token 2, 'x'"):
        session.branch(trace, 2, ord("x") + 3, max_tokens=8)
    view = chain.preview(
        trace.kept(1)[1], model=session.model, history=trace.history(1), seed=3, step=1
    )
    assert view.choice == trace.tokens[1] and view.stages[0].n_kept == 3
    run = session.start(PROMPT, chain, max_tokens=16, seed=3)
    assert run.wait().text == trace.text
    again = ml.Trace.from_dict(json.loads(json.dumps(trace.to_dict())))
    assert again.chain_at(0) == chain
    with session.model.session(n_ctx=512, n_threads=1) as other:
        other.generate(PROMPT, chain, max_tokens=6, seed=3)
        other.save(tmp_path / "saved")
        with ml.Session.load(tmp_path / "saved", session.model) as back:
            assert back.last_trace is not None and back.last_trace.chain_at(0) == chain


def test_it_is_a_setting_like_another():
    assert eval(LLAMA.to_code(), {"ml": ml}) == LLAMA == pickle.loads(pickle.dumps(LLAMA))
    assert eval(ChainEditor(LLAMA | AFTER).code, {"ml": ml}) == LLAMA | AFTER
    assert repr(LLAMA).endswith(", engine='llama.cpp')") and ml.Constrain(WORDS) != LLAMA
    assert ml.Chain.from_dict(json.loads(json.dumps((LLAMA | AFTER).to_dict()))) == LLAMA | AFTER


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"engine": "xgrammar"}, ValueError, "must be one of llguidance, llama.cpp"),
        ({"after": "</think>"}, ValueError, "llama.cpp's sampler knows no after"),
        ({"after": 0}, ValueError, "llama.cpp's sampler knows no after"),
        ({"fast_forward": True}, ValueError, "llama.cpp's sampler knows no fast_forward"),
        ({"grammar": ml.Grammar.regex("a")}, GrammarError, "llguidance alone reads it"),
    ],
)
def test_what_it_cannot_do_is_refused(settings, error, said):
    with pytest.raises(error, match=said):
        ml.Constrain(**{"grammar": WORDS, "engine": "llama.cpp", **settings})


def test_a_text_that_is_too_much_for_it_is_an_error_and_the_session_lives(session, monkeypatch):
    monkeypatch.setattr(matcher, "SECONDS", 0.3)
    growing = ml.Grammar.gbnf('root ::= "a" root "b" | "a" root "c" | "d"')
    chain = ml.Constrain(growing, engine="llama.cpp") | ml.Mask(allow=(ord("a") + 3,))
    with pytest.raises(GrammarBroken, match="llama.cpp cannot go on: it was not done after 0.3 s"):
        session.generate(PROMPT, chain, max_tokens=100)
    assert session.generate(PROMPT, LLAMA | AFTER, max_tokens=16, seed=3).text.startswith("(")


def test_a_model_without_an_end_is_refused(tmp_path):
    no_end = {"tokenizer.ggml.eos_token_id": None}
    path = tiny.write(tmp_path / "m.gguf", vocabulary="wpm", metadata=no_end)
    said = "no token of .* ends a generation.*Leave out engine"
    with ml.Model.load(path, probe=False) as model, pytest.raises(ValueError, match=said):
        LLAMA.check(model)

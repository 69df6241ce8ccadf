"""What a grammar would have forbidden in a text that was written without it."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.studies.forbidden import forbidden

JSON = Grammar.gbnf('root ::= "{" ("\\"" [a-z]+ "\\":" [0-9]+)? "}"')
NOISE = 2e-3


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


def test_a_token_that_is_forbidden_is_passed_over(session):
    trace = session.score([byte + 3 for byte in b'OK: {"a":1,"b":2}'], given=[5, 6])
    found = forbidden(trace, JSON, on=session.model)
    passed = b"".join(p for p, f in zip(trace.pieces, found.forbidden, strict=True) if not f)
    assert passed == b'{"a":12}' and found.is_complete and found.first == 0
    assert found.expected[0] == "`{`" and found.expected[4] == ""
    assert [found.expected[i] for i in (10, 11, 12)] == ["[0-9] or `}`"] * 3
    assert "9 of 17 tokens would have been forbidden, `O` at step 0 first: expected `{`" in (
        repr(found)
    )


def test_what_it_would_have_let_in_is_what_the_whole_row_says(session):
    trace = session.generate("Hello", ml.Temperature(1.5), max_tokens=12, seed=3)
    grammar = Grammar.gbnf("root ::= [a-z0-9]*")
    found = forbidden(trace, grammar, on=session.model)
    assert found.forbidden.any() and found.is_complete
    work = matcher(session.model, grammar)
    for step, token in enumerate(trace.tokens.tolist()):
        row = session.logits(trace.history(step)).astype(np.float64)
        logprobs = row - row.max() - math.log(np.exp(row - row.max()).sum())
        allowed = work.allowed()
        assert found.nats[step] == pytest.approx(
            -math.log(np.exp(logprobs[allowed]).sum()), abs=NOISE
        )
        assert found.forbidden[step] == (not allowed[token])
        if allowed[token]:
            assert work.accept(token) and found.instead[step] == -1
        else:
            best = int(np.where(allowed, logprobs, -np.inf).argmax())
            assert found.instead[step] == best
            assert found.instead_logprob[step] == pytest.approx(logprobs[best], abs=NOISE)
    assert len(found.to_pandas()) == len(found) == 12


def test_a_constrained_text_has_nothing_forbidden(session):
    grammar = Grammar.gbnf("root ::= [a-f]{3}")
    trace = session.generate("Hello", ml.Temperature(1.5), grammar=grammar, max_tokens=9, seed=1)
    found = forbidden(trace, grammar, on=session.model)
    assert trace.finish_reason == "eog" and found.first is None and found.is_complete
    assert repr(found).startswith("<Forbidden: none of 4 tokens is forbidden; the text is complete")
    longer = Grammar.gbnf("root ::= [a-f]{4}")
    found = forbidden(trace, longer, on=session.model)
    assert found.first == 3 and found.expected[3] == "[a-f]" and not found.is_complete


def test_a_session_finds_what_was_not_kept(tmp_path):
    path = tiny.write(tmp_path / "large.gguf", n_vocab=9000)
    with ml.Model.load(path) as model, model.session(n_ctx=64, n_threads=1) as session:
        trace = session.generate("Hello", ml.Temperature(1.0), max_tokens=6, seed=1)
        gone = [np.setdiff1d(np.arange(9000), trace.kept(i)[0]) for i in range(len(trace))]
        unlikely = next(t for t in gone[0] if t > 259 and all(t in ids for ids in gone))
        grammar = Grammar.choice([model.piece(int(unlikely)).decode()]).many(1)
        half, whole = (forbidden(trace, grammar, on=on) for on in (model, session))
        assert half.nats_high[0] > whole.nats_high[0]
        for step in np.flatnonzero(whole.forbidden):
            assert whole.instead[step] >= 0 and whole.nats_high[step] - whole.nats[step] < 1e-3
            row = session.logits(trace.history(step)).astype(np.float64)
            allowed = matcher(model, grammar).allowed()
            assert whole.instead[step] == int(np.where(allowed, row, -np.inf).argmax())


def test_a_grammar_may_be_given_as_what_it_is_made_of(session):
    trace = session.score([byte + 3 for byte in b"yea12"], given=[5])
    for given, grammar in (
        ('root ::= "yea" [0-9]', Grammar.gbnf('root ::= "yea" [0-9]')),
        ('"yes" | "yea1"', Grammar.choice(["yes", "yea1"])),
        ('{"type": "integer"}', Grammar.json_schema({"type": "integer"})),
        ("/[a-y]+/", Grammar.regex("[a-y]+")),
        (["yes", "yea1"], Grammar.choice(["yes", "yea1"])),
        (ml.Constrain(Grammar.choice(["yea1"]), stop="only"), Grammar.choice(["yea1"])),
    ):
        found, same = (forbidden(trace, one, on=session.model) for one in (given, grammar))
        assert repr(found) == repr(same) and found.forbidden.any()
        assert found.forbidden.tolist() == same.forbidden.tolist()


@pytest.mark.parametrize("marker", ["</t>", ord(">") + 3])
def test_a_grammar_that_begins_after_a_marker_forbids_nothing_before_it(session, marker):
    text = b"hm. </t>{x}"
    trace = session.score([byte + 3 for byte in text], given=[5])
    stage = ml.Constrain(JSON, after=marker)
    found = forbidden(trace, stage, on=session.model)
    assert found.forbidden.tolist() == [byte == ord("x") for byte in text] and found.is_complete
    assert found.expected[text.index(b"x")] == '`"` or `}`'
    before = session.score([byte + 3 for byte in text[:6]], given=[5])
    assert not forbidden(before, stage, on=session.model).is_complete


def test_no_grammar_is_refused(session):
    trace = session.generate("Hello", max_tokens=2, seed=1)
    for given in (5, None, b"root", {"type": "integer"}):
        with pytest.raises(TypeError, match="must be a Grammar, a Constrain, the text"):
            forbidden(trace, given, on=session)
    with pytest.raises(ValueError, match="line 1, column 10"):
        forbidden(trace, "root ::= [", on=session)

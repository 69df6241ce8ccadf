"""A GrammarWalk says how far a text comes in a grammar, why no further, and what may come."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.engine.grammar.walk import reading
from mullama_lab.engine.grammar.walk.walk import GrammarWalk
from mullama_lab.errors import GrammarError

JSON = Grammar.file(Path(__file__).parent / "data" / "json.gbnf")
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def smollm2():
    with ml.Model.load("smollm2-135m", vocab_only=True) as model:
        yield model


def test_it_is_public():
    assert ml.GrammarWalk is GrammarWalk


def test_it_says_how_far_a_text_comes_and_why_no_further(smollm2):
    walk = GrammarWalk(JSON, smollm2)
    assert not walk.feed('{"náme": [1,\n nul]}')
    refusal = walk.refusal
    assert (refusal.place.line, refusal.place.column) == (2, 5)
    assert (refusal.place.char, refusal.place.byte) == (17, 18)
    assert refusal.place == walk.place and walk.text == '{"náme": [1,\n nul'
    assert refusal.found == "`]`" and refusal.rest == "]}" and refusal.token == -1
    assert [one.text for one in refusal.expected] == ["`l`"]
    rules = [frame.rule for frame in refusal.stacks[0]]
    assert rules == ["root", "object", "value", "array", "value"]
    assert str(refusal) == (
        "line 2, column 5: found `]`, expected `l`, in root > object > value > array > value."
    )
    assert walk.feed("l]}") and walk.refusal is None
    assert walk.is_complete and not walk.can_only_end  # a space may come


def test_of_a_refused_character_no_byte_is_taken(pieces_model):
    walk = GrammarWalk(Grammar.gbnf("root ::= [è-ê]+"), pieces_model)
    assert not walk.feed("éà")
    assert walk.text == "é" and walk.refusal.found == "`à`" and walk.refusal.place.char == 1


def test_a_token_that_breaks_off_within(pieces_model):
    walk = GrammarWalk(Grammar.choice(["aab", "abx"]), pieces_model)
    assert not walk.step("abc")
    assert walk.tokens == [] and walk.text == ""
    assert walk.refusal.place.char == 2 and walk.refusal.found == "`c`"
    assert [one.text for one in walk.refusal.expected] == ["`x`"]
    assert walk.step("aab") and walk.can_only_end and walk.n_allowed == 0
    assert not walk.step("a") and walk.refusal.expected[0].kind == "end"


def test_the_end_is_a_step(pieces_model):
    walk = GrammarWalk(Grammar.choice(["a", "aab"]), pieces_model)
    assert not walk.step(pieces_model.eos) and walk.refusal.found == "the end"
    assert walk.feed("a") and walk.step(pieces_model.eos)
    assert walk.is_ended and walk.can_only_end and walk.mask.sum() == 0 and walk.expected == ()
    assert not walk.feed("ab") and not walk.step(pieces_model.eos)
    walk.back()
    assert not walk.is_ended and walk.feed("ab") and walk.can_only_end
    assert walk.step(pieces_model.eos)
    walk.back(2)
    assert walk.tokens == GrammarWalk.tokens.fget(walk) and walk.text == "a"


@pytest.mark.parametrize("seed", range(12))
def test_steps_forth_and_back_are_those_of_a_fresh_walk(pieces_model, grammar_maker, seed):
    grammar, chance = Grammar.gbnf(grammar_maker(seed).text()), random.Random(seed)
    walk = GrammarWalk(grammar, pieces_model)
    for _ in range(40):
        if walk.tokens and chance.random() < 0.4:
            walk.back(chance.randint(1, len(walk.tokens)))
        ids = np.flatnonzero(walk.mask)
        if not len(ids):
            continue
        assert walk.step(int(chance.choice(ids)))
        fresh = GrammarWalk(grammar, pieces_model)
        assert fresh.feed(walk.tokens)
        assert walk.to_dict() == fresh.to_dict()
        work = matcher(pieces_model, grammar)
        if not walk.is_ended:
            assert all(work.accept(token) for token in walk.tokens)
            assert (walk.mask == work.allowed()).all()


@pytest.mark.parametrize("seed", range(40))
def test_a_text_comes_as_far_as_its_bytes_do(pieces_model, grammar_maker, seed):
    chance = random.Random(seed)
    grammar = Grammar.gbnf(grammar_maker(seed).text())
    walk = GrammarWalk(grammar, pieces_model)
    for _ in range(10):
        text = "".join(chance.choices("aabbc-é \n日x", k=8))
        taken = walk.go_to(text)
        work, n = matcher(pieces_model, grammar), 0
        for byte in text.encode():
            if not work.accept(byte + 3):
                break
            n += 1
        assert walk.text == text.encode()[:n].decode("utf-8", "ignore")
        assert taken == (n == len(text.encode())) == (walk.refusal is None)


def test_going_back_further_than_the_beginning_is_refused(pieces_model):
    walk = GrammarWalk(Grammar.choice(["ab"]), pieces_model)
    assert walk.feed("ab")
    with pytest.raises(ValueError, match="from 0 to 1"):
        walk.back(2)
    walk.reset()
    assert walk.tokens == [] and walk.expected[0].text == "`ab`"


def test_allowed_tokens_and_where_they_span_two_rules(pieces_model):
    grammar = Grammar.gbnf('root ::= first rest\nfirst ::= "a"+\nrest ::= "b" "c"?')
    walk = GrammarWalk(grammar, pieces_model)
    found = {one.text: one.portions for one in walk.likeliest(n=50)}
    assert found == {
        "a": (("a", "first"),),
        "aa": (("aa", "first"),),
        "ab": (("a", "first"), ("b", "rest")),
        "aab": (("aa", "first"), ("b", "rest")),
        "abc": (("a", "first"), ("bc", "rest")),
    }
    row = np.zeros(pieces_model.n_vocab, np.float32)
    row[pieces_model.tokenize("aab", add_special=False)[-1]] = 5
    best = walk.likeliest(row, 1)[0]
    assert best.text == "aab"
    assert best.logprob == pytest.approx(5 - np.log(np.exp(5) + pieces_model.n_vocab - 1))
    table = walk.allowed(row)
    assert table["rules"][0] == "first → rest" and len(table) == walk.n_allowed == 5
    assert walk.feed("aab")
    assert [one.rules for one in walk.steps] == [("first", "rest")]
    assert list(walk.to_pandas()["rules"]) == ["first → rest"]
    assert walk.likeliest(n=9)[0].text == visible_end(pieces_model)
    with pytest.raises(ValueError, match="has the shape"):
        walk.allowed(row[:5])


def visible_end(model):
    return model.piece(model.eos).decode()


def test_what_is_forced(smollm2):
    person = Grammar.json_schema(PERSON).rename({"root": "person"})
    walk = GrammarWalk("Answer: " + person + "\n", smollm2)
    assert walk.forced.text == "Answer: {"
    assert smollm2.detokenize(walk.forced.tokens) == "Answer: {"
    assert walk.feed(walk.forced.text) and walk.forced.text == ""
    assert walk.feed('"na') and walk.forced.text == 'me"'
    assert walk.step(smollm2.tokenize("me", add_special=False)[0]) and walk.forced.text == '"'
    walk.go_to('Answer: {"name": "a", "age": 3}')
    assert walk.forced.text == "\n"
    assert walk.feed("\n") and walk.forced.text == "" and walk.can_only_end


def test_a_part_has_the_name_of_its_rule_and_says_how_it_goes_on(smollm2):
    walk = GrammarWalk("<" + Grammar.json_schema(PERSON).rename({"root": "person"}), smollm2)
    assert not walk.feed('<{"nome"')
    assert [frame.rule for frame in walk.refusal.stacks[0]] == ["root", "person"]
    (one,) = walk.refusal.expected
    assert (one.text, one.kind, one.rule) == ("`a`", "part", "person")
    assert walk.text == '<{"n'
    assert {rule for step in walk.steps for rule in step.rules} == {"root", "person"}


def test_after_a_greedy_part_nothing_is_expected_that_llguidance_forbids(pieces_model):
    walk = GrammarWalk(Grammar.regex("[ab]*") + Grammar.gbnf('root ::= "b" | "-"'), pieces_model)
    assert walk.feed("ab")
    assert [(one.text, one.kind) for one in walk.expected] == [
        ("`a` or `b`", "part"),
        ("`b`", "text"),  # to the part it would go
        ("`-`", "text"),
    ]
    assert walk.feed("b") and not walk.is_complete
    assert walk.feed("-") and walk.is_complete


def test_a_token_that_the_grammar_names(smollm2):
    walk = GrammarWalk(Grammar.gbnf('root ::= "a" <|im_start|> !<|im_start|> "b"'), smollm2)
    start = smollm2.tokenize("<|im_start|>", add_special=False, parse_special=True)[0]
    assert walk.feed("a") and walk.forced.tokens == (start,)
    assert walk.expected[0].text == "the token <|im_start|>"
    assert not walk.feed("x")
    assert walk.refusal.found == "`x`" and walk.refusal.place.char == 1
    assert walk.feed("<|im_start|> tall") and walk.tokens[1] == start
    assert walk.expected[0].text == "`b`" and walk.feed("b") and walk.can_only_end
    assert [one.rules for one in walk.steps] == [("root",)] * 4
    either = GrammarWalk(Grammar.gbnf('root ::= "ab" | <|im_start|>'), smollm2)
    assert either.forced.text == "" and either.feed("a") and either.forced.text == "b"
    with pytest.raises(GrammarError, match="no token"):
        GrammarWalk(Grammar.gbnf("root ::= <foo>"), smollm2)


def test_all_it_tells_survives_json_and_hides_no_character(smollm2):
    walk = GrammarWalk(JSON, smollm2)
    walk.feed('{"\u202e": \x07')
    told = walk.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["refusal"]["found"] == "`[BEL]`" and "\u202e" not in repr(walk)
    assert told["steps"][0]["rules"] == ["object", "string"]


def test_where_a_text_is_too_much_to_read_it_goes_on_without_rules(pieces_model, monkeypatch):
    walk = GrammarWalk(Grammar.gbnf('root ::= [a-b] root | "."'), pieces_model)
    assert walk.feed("ab") and walk.stacks
    monkeypatch.setattr(reading, "MOST_WORK", 80)
    assert walk.feed("abababababab") and walk.stacks == () and walk.portions == ()
    assert [(one.text, one.kind) for one in walk.expected] == [("`.`, `a` or `b`", "text")]
    assert not walk.feed("x") and "expected `.`, `a` or `b`" in str(walk.refusal)
    assert walk.likeliest(n=1)[0].portions == ()
    walk.go_to("ab")
    assert len(walk.stacks[0]) == 3


def test_wrong_arguments_are_refused(pieces_model):
    with pytest.raises(TypeError, match="through a Grammar"):
        GrammarWalk("root ::= [a]", pieces_model)
    walk = GrammarWalk(Grammar.choice(["a"]), pieces_model)
    with pytest.raises(ValueError, match="surrogate"):
        walk.feed("\ud800")
    for wrong in (b"a", 5, None):
        with pytest.raises(TypeError, match="it must be a list of tokens"):
            walk.feed(wrong)
    with pytest.raises(TypeError, match="'a' is no bytes; `feed` takes texts"):
        walk.feed_bytes("a")
    with pytest.raises(ValueError, match="is not one token"):
        walk.step("no token at all")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_a_row_without_probabilities_gives_none(pieces_model, value):
    walk = GrammarWalk(Grammar.gbnf("root ::= [a-c]"), pieces_model)
    row = np.zeros(pieces_model.n_vocab)
    row[: len(row) if value == -np.inf else 1] = value
    found = walk.likeliest(row)
    assert [one.token for one in found] == [one.token for one in walk.likeliest()]
    assert len(found) >= 3 and all(np.isnan(one.logprob) for one in found)
    row = np.full(len(row), -np.inf)
    row[found[1].token] = 0
    assert [one.logprob for one in walk.likeliest(row, 2)] == [0, -np.inf]


def test_what_is_too_much_for_llguidance_is_told_apart_and_messages_stay_short(pieces_model):
    walk = GrammarWalk(Grammar.gbnf('root ::= [a] b | "."\nb ::= root'), pieces_model)
    assert walk.feed("a" * 3000) and len(walk.stacks[0]) == 6001
    assert not walk.feed(".")
    assert "found `.`, which is too much for llguidance" in str(walk.refusal)
    assert len(str(walk.refusal)) < 300 and "in root > b > … > b > root" in str(walk.refusal)
    long = GrammarWalk(Grammar.choice(["a" * 100_000]), pieces_model)
    assert len(repr(long)) < 200 and len(long.forced.text) == 4000


def test_a_grammar_of_many_rules_in_a_line_has_all_of_them_in_its_stack(pieces_model):
    chain = [f"r{n} ::= r{n + 1}" for n in range(3000)]
    grammar = Grammar.gbnf("\n".join(["root ::= r0", *chain, 'r3000 ::= "a"']))
    walk = GrammarWalk(grammar, pieces_model)
    assert len(walk.stacks[0]) == 3002 and grammar.warnings == []
    assert grammar.examples(2) == ["a"] and not grammar.coverage(["a"]).unused

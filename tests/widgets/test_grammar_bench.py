"""GrammarBench: what is typed is read, and what is shown of a text is what the walk says."""

from __future__ import annotations

import numpy as np
import pytest
from page import reply_to, text_of

import mullama_lab as ml
from mullama_lab.engine.grammar.walk.walk import GrammarWalk
from mullama_lab.errors import GrammarError
from mullama_lab.widgets import GrammarBench
from mullama_lab.widgets.grammar_bench import MOST_TOKENS

OBJECT = 'root ::= "{" pair ("," pair)* "}"\npair ::= [a-c]+ ":" [0-9]'


@pytest.fixture
def bench(tiny_model):
    return GrammarBench(tiny_model, OBJECT)


def chip_text(chip):
    return bytes.fromhex(chip["bytes"]).decode()


def ask(bench, op, **args):
    return reply_to(bench, op, args)


def test_a_text_goes_as_far_as_a_walk_goes(bench, tiny_model):
    walk = GrammarWalk(ml.Grammar.gbnf(OBJECT), tiny_model)
    for text in ("", "{", "{a", "{a:1", "{a:1}", "{a:1,", "{x", "}", "{a:1}}", "{é", "\n"):
        bench.sample = text
        walk.go_to(text)
        shown = bench.shown
        assert "".join(one["text"] for one in shown["tokens"]) == walk.text
        assert shown["refusal"] == ("" if walk.refusal is None else str(walk.refusal))
        assert (shown["n_allowed"], shown["is_complete"]) == (walk.n_allowed, walk.is_complete)
        assert [one["token"] for one in shown["allowed"]] == [
            one.token for one in walk.likeliest(n=12)
        ]
        assert bench.sample == text, "what was typed stays, also what was not taken"


def test_what_was_refused_is_forgotten_once_it_is_taken_back(bench):
    ask(bench, "write", text='root ::= "{" [a-c]+ "}"')
    ask(bench, "try", text="{ax")
    assert bench.shown["rest"] == "x"
    ask(bench, "try", text="{a")
    assert bench.shown["refusal"] == bench.shown["rest"] == "" and bench.shown["n_tokens"]


def test_what_is_no_grammar_leaves_the_one_before_in_force(bench):
    before = bench.grammar
    bench.sample = "{a:1}"
    assert ask(bench, "write", text=OBJECT + '\nextra = "a"')["ok"]
    assert (bench.problem["line"], bench.problem["column"]) == (3, 7)
    assert bench.grammar == before and bench.shown["is_complete"]
    assert ask(bench, "write", text='"{" [a-c] "}"')["ok"]
    assert bench.problem == {} and bench.shown["refusal"], "the text is put to the new one"
    with pytest.raises(GrammarError):
        bench.grammar = "root ::= ["
    assert bench.grammar == ml.Grammar.gbnf('root ::= "{" [a-c] "}"')


def test_it_is_typed_as_three_kinds_and_made_in_python_as_others(bench):
    bench.text = '{"type": "integer"}'
    assert bench.grammar == ml.Grammar.json_schema({"type": "integer"})
    bench.text = "/[0-9]+/"
    assert bench.grammar == ml.Grammar.regex("[0-9]+")
    bench.grammar = ml.Grammar.lark("start: /a+/")
    assert not bench.is_typed and bench.text == str(bench.grammar)
    assert "made in Python" in ask(bench, "write", text='"a"')["error"]
    bench.grammar = ml.Grammar.choice(["yes", "no"])
    assert bench.is_typed and bench.text == '"yes" | "no"'


def test_steps_forth_and_back(bench):
    assert ask(bench, "forward")["ok"]
    assert bench.sample == "{", "what must come"
    token = bench.shown["allowed"][0]
    ask(bench, "step", token=token["token"])
    assert bench.sample == "{" + chip_text(token)
    ask(bench, "back")
    assert bench.sample == "{"
    bench.sample = "{a:1}}"
    ask(bench, "back")
    assert bench.sample == "{a:1}", "first what was not taken goes"
    ask(bench, "forward")
    assert bench.walk.is_ended and bench.sample == "{a:1}", "nothing but the end may come"
    assert "nothing may follow" in ask(bench, "forward")["error"]


def test_examples_are_texts_of_the_grammar(bench):
    seen = set()
    for _ in range(5):
        assert ask(bench, "example")["ok"]
        assert bench.shown["is_complete"] and not bench.shown["refusal"]
        seen.add(bench.sample)
    assert len(seen) > 1


def test_warnings_have_their_places(bench):
    bench.text = OBJECT + '\nlost ::= "x"'
    (warning,) = bench.warnings
    assert (warning["line"], warning["column"]) == (3, 1) and "lost" in warning["message"]


def test_a_row_tells_the_likeliest_and_what_is_taken_away(bench, tiny_model):
    row = np.random.default_rng(3).normal(size=tiny_model.n_vocab)
    bench.show_row(row)
    p = np.exp(row - row.max())
    p /= p.sum()
    mask = bench.walk.mask
    chips = bench.shown["allowed"]
    assert chips[0]["token"] == int(np.argmax(np.where(mask, p, -1)))
    assert chips[0]["p"] == pytest.approx(p[chips[0]["token"]])
    assert f"{p[~mask].sum():.1%}" in bench.shown["tax"]
    bench.sample = "{"
    assert bench.shown["tax"] == "", "the row was of another place"


def test_a_grammar_too_long_to_be_edited_is_shown_in_part_and_in_force(bench):
    bench.grammar = ml.Grammar.choice([f"value {n}" for n in range(5000)])
    assert not bench.is_typed and len(bench.text) == 20_001 and bench.text.endswith("…")
    bench.sample = "value 4999"
    assert bench.shown["is_complete"] and bench.problem == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_a_row_without_probabilities_is_told_as_that(bench, tiny_model, value):
    bench.show_row(np.full(tiny_model.n_vocab, value))
    assert bench.shown["tax"] == "The model gave no probabilities here."


def test_without_a_model_only_the_grammar_is_read():
    bench = GrammarBench()
    bench.text = '"a'
    assert bench.problem["line"] == 1 and bench.shown == {} and bench.walk is None
    assert "no model" in ask(bench, "step", token=1)["error"]


@pytest.mark.parametrize(
    "op, args",
    [
        ("write", {"text": 3}),
        ("write", {"text": "x" * 20_001}),
        ("try", {"text": None}),
        ("step", {"token": -1}),
        ("step", {"token": 2**40}),
        ("step", {"token": 2**30}),
        ("use", {"on": True}),
        ("run_both", {}),
        ("nonsense", {}),
    ],
)
def test_bad_requests_are_answered_and_change_nothing(bench, op, args):
    bench.sample = "{a"
    before = (bench.text, bench.sample, bench.shown)
    assert ask(bench, op, **args)["error"]
    assert (bench.text, bench.sample, bench.shown) == before


def test_half_a_character_is_none_and_comes_from_a_page_as_a_sign_for_it(bench):
    with pytest.raises(ValueError, match="lone surrogate"):
        bench.sample = "\ud800"
    assert ask(bench, "try", text="{\ud800")["ok"] and bench.sample == "{\N{REPLACEMENT CHARACTER}"


def test_its_static_form_says_what_is_shown(bench):
    bench.sample = "{x"
    html = bench._repr_mimebundle_()[0]["text/html"]
    assert "pair ::=" in html and "expected" in html and "<script" not in html
    assert "expected" in text_of(bench)


def test_of_a_long_text_its_end_is_sent_with_how_long_it_is(tiny_model):
    bench = GrammarBench(tiny_model, "root ::= [a-c]*", "abc" * 200)
    assert len(bench.shown["tokens"]) == MOST_TOKENS < bench.shown["n_tokens"] == 600
    said = "The last 500 of 600 tokens:"
    assert said in bench._repr_mimebundle_()[0]["text/html"]
    bench.sample = "abc"
    assert "The last" not in bench._repr_mimebundle_()[0]["text/html"]


def test_it_says_which_alternatives_the_texts_tried_use(tiny_model):
    bench = GrammarBench(
        tiny_model, 'root ::= word | "(" root ")" | lost\nword ::= [a-c]+\nlost ::= "!"'
    )
    bench.settle()
    assert bench.tried == {}, "nothing was tried"
    for typed in ("(", "(a", "(a)", ""):
        bench.sample = typed
    bench.settle()
    assert (bench.tried["n_tried"], bench.tried["n_texts"]) == (1, 1), "one text that was typed"
    assert (bench.tried["n_used"], bench.tried["n_alternatives"]) == (3, 5)
    assert bench.tried["unused"] == [
        {"text": "root ::= lost", "line": 1, "column": 1},
        {"text": "lost", "line": 3, "column": 1},
    ]
    bench.add_text("(a")  # a run that was cut off
    bench.settle()
    assert (bench.tried["n_tried"], bench.tried["n_texts"]) == (2, 1)
    bench.text = 'root ::= "(a" | "(a)"'
    bench.settle()
    assert (bench.tried["n_texts"], bench.tried["n_used"]) == (2, 2), "they stay for another one"
    bench.text = "root ::= <[7]> | [a-z]"
    bench.settle()
    assert "tokens by their ids" in bench.tried["problem"]
    bench.grammar = ml.Grammar.json_schema({"type": "integer"})
    bench.settle()
    assert bench.tried == {}, "a part has no alternatives that could be told"


def test_examples_count_among_the_texts_tried(bench):
    for _ in range(3):
        bench.show_example()
    bench.settle()
    assert bench.tried["n_tried"] == bench.tried["n_texts"] >= 2


@pytest.fixture(scope="module")
def words():
    """A vocabulary with tokens of many characters; its weights are not loaded."""
    with ml.Model.load("smollm2-135m", vocab_only=True) as model:
        yield model


def test_without_weights_a_token_that_spans_two_rules_is_told_with_both(words):
    bench = GrammarBench(words, 'root ::= a b\na ::= "th"\nb ::= "e" [xyz]')
    spans = {chip_text(one): one["spans"] for one in bench.shown["allowed"]}
    assert spans == {"t": "", "th": "", "the": "a › b", "they": "a › b"}
    assert all(one["p"] is None for one in bench.shown["allowed"]), "there are no probabilities"
    assert (bench.shown["stack"], bench.shown["forced"]) == (["root", "a"], "the")
    the = next(one["token"] for one in bench.shown["allowed"] if chip_text(one) == "the")
    assert ask(bench, "step", token=the)["ok"]
    assert [tuple(one["rules"]) for one in bench.shown["tokens"]] == [("a", "b")]
    assert (bench.shown["stack"], bench.shown["forced"]) == (["root", "b"], "")
    assert ask(bench, "back")["ok"] and ask(bench, "forward")["ok"]
    assert bench.sample == "the", "what is forced"


def test_what_is_shown_of_rules_and_of_forced_text_is_what_the_walk_says(words):
    grammar = (
        'root ::= "{" pair (", " pair)* "}"\n'
        'pair ::= key ": " value\nkey ::= "\\"name\\"" | "\\"age\\""\n'
        'value ::= [0-9]+ | "\\"" [a-z]+ "\\""'
    )
    bench, walk = GrammarBench(words, grammar), GrammarWalk(ml.Grammar.gbnf(grammar), words)
    row = np.random.default_rng(5).normal(size=words.n_vocab)
    seen = set()
    for text in ("", "{", '{"', '{"na', '{"name"', '{"name": ', '{"age": 3', '{"age": 3, "n', "{}"):
        bench.sample = text
        walk.go_to(text)
        bench.show_row(row)
        shown = bench.shown
        assert shown["stack"] == [frame.rule for frame in walk.stacks[0]]
        assert shown["forced"] == walk.forced.text
        assert [one["rules"] for one in shown["tokens"]] == [s.rules for s in walk.steps]
        for chip, token in zip(shown["allowed"], walk.likeliest(row, 12), strict=True):
            rules = [rule for _, rule in token.portions]
            assert (chip["token"], chip["p"]) == (token.token, pytest.approx(np.exp(token.logprob)))
            assert bytes.fromhex(chip["bytes"]) == words.piece(token.token)
            assert chip["spans"] == (" › ".join(rules) if len(rules) > 1 else "")
            seen |= {"spans"} if chip["spans"] else set()
        seen |= {"forced"} if shown["forced"] else set()
        seen |= {"deep"} if len(shown["stack"]) > 2 else set()
    assert seen == {"spans", "forced", "deep"}

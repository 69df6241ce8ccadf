"""A Grammar is a value, made of others by arithmetic; its parts are checked when it is made."""

from __future__ import annotations

import itertools
import pickle
import random
import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mullama_lab as ml
from mullama_lab.engine import options
from mullama_lab.engine.grammar import Grammar
from mullama_lab.errors import GrammarError

LETTER = Grammar.choice(["a", "b"])
JSON = Grammar.json_schema({"type": "object", "properties": {"a": {"type": "integer"}}})


@pytest.fixture(scope="module")
def json_grammar():
    from pathlib import Path

    return Grammar.file(Path(__file__).parent / "data" / "json.gbnf")


@pytest.mark.parametrize(
    "grammar",
    [
        LETTER,
        JSON,
        Grammar.gbnf('root ::= x "é"\nx ::= [^a]'),
        Grammar.regex(r"[a-z]+\d"),
        Grammar.lark('start: "a" | "b"'),
        LETTER + JSON.many(1, 3, separator="\n") | Grammar.regex("x"),
    ],
    ids=["choice", "json", "gbnf", "regex", "lark", "sum"],
)
def test_it_prints_as_code_and_goes_through_pickle_dicts_and_sets(grammar):
    assert eval(repr(grammar), {"Grammar": Grammar}) == grammar
    assert Grammar.from_dict(grammar.to_dict()) == grammar
    assert pickle.loads(pickle.dumps(grammar)) == grammar
    assert {grammar, pickle.loads(pickle.dumps(grammar))} == {grammar}
    with pytest.raises(AttributeError, match="is a value"):
        grammar.name = "x"


def test_it_is_public():
    assert ml.Grammar is Grammar


def test_one_is_not_made_by_its_class():
    with pytest.raises(TypeError, match=r"Grammar\.gbnf\(text\)"):
        Grammar()


def test_sums_are_flat_and_texts_stand_for_themselves():
    word = Grammar.gbnf("root ::= [a-z]+ [0-9]")
    assert (LETTER + ", " + word + "!").to_gbnf() == (
        'root ::= part ", " [a-z]+ [0-9] "!"\npart ::= "a" | "b"\n'
    )
    assert ("x" | LETTER | "y").to_gbnf() == 'root ::= "x" | "a" | "b" | "y"\n'
    assert ("<" + LETTER).to_gbnf() == 'root ::= "<" part\npart ::= "a" | "b"\n'
    assert Grammar.gbnf('root ::= part\npart ::= "a" | "b"') == LETTER + ""


def test_rules_of_the_same_name_are_kept_apart():
    first = Grammar.gbnf('root ::= x x\nx ::= "1"')
    second = Grammar.gbnf('root ::= "(" x ")" root | x\nx ::= "2"')
    both = first + second
    assert both.rules == {
        "root": "x x part",
        "x": '"1"',
        "part": '"(" x-2 ")" part | x-2',
        "x-2": '"2"',
    }


def test_repetition():
    assert LETTER.optional().rules["root"] == "part?"
    assert LETTER.many().rules["root"] == "part*"
    assert LETTER.many(2, 4).rules["root"] == "part{2,4}"
    assert LETTER.many(separator=", ").rules["root"] == '(part (", " part)*)?'
    assert LETTER.many(1, 1, separator=", ").rules["root"] == "part"
    assert LETTER.many(2, 4, separator=", ").rules["root"] == 'part (", " part){1,3}'
    assert LETTER.many(0, 3, separator=LETTER).rules["root"] == "(part (part-2 part){0,2})?"
    assert LETTER.many(0, 0).rules["root"] == '""'
    assert Grammar.choice(["a", ""]).many().to_gbnf() == 'root ::= (part)*\npart ::= "a" | ""\n'
    assert LETTER.many(2, 2, separator=",").rules["root"] == 'part "," part'
    commas = Grammar.choice([""]).many(separator=",")
    assert commas.coverage(["", ",", ",,,", "a"]).refused == (3,)
    with pytest.raises(ValueError, match="from 3 to 2000"):
        LETTER.many(3, 2)


def put_together(rng, depth):
    """A grammar made of others by chance, and the regular expression of the same texts."""
    if depth == 0:
        text = rng.choice(["a", "b", "ab", ""])
        return Grammar.choice([text]), text
    a, same = put_together(rng, depth - 1)
    kind = rng.choice(["add", "or", "optional", "many"])
    if kind == "optional":
        return a.optional(), f"(?:{same})?"
    if kind == "many":
        low, more, comma = rng.randint(0, 2), rng.choice([0, 1, None]), rng.choice(["", ","])
        high = None if more is None else low + more
        if high == 0:
            return a.many(0, 0, separator=comma), ""
        others = f"{{{max(low - 1, 0)},{'' if high is None else high - 1}}}"
        wanted = f"(?:{same})(?:{comma}(?:{same})){others}"
        return a.many(low, high, separator=comma), wanted if low else f"(?:{wanted})?"
    b, other = put_together(rng, depth - 1)
    if kind == "add":
        return a + b, f"(?:{same})(?:{other})"
    return a | b, f"(?:{same}|{other})"


def test_llama_cpp_reads_what_is_put_together(llama_reads):
    assert llama_reads((LETTER + "-" | "none").many(1, 3, separator=", ").to_gbnf())
    assert not llama_reads('root ::= "a')
    for seed in range(60):
        rng = random.Random(seed)
        try:
            made = put_together(rng, rng.randint(0, 4))[0]
        except GrammarError:
            continue  # left recursion
        assert llama_reads(made.to_gbnf()), made
        assert llama_reads((made + "!").override(root=made.many(2, 5)).to_gbnf()), made


@given(st.text(st.sampled_from('ab/é日|*+?(){}[]^$.,-:=!<>\\12dwpPLix&"\n\t '), max_size=40))
@settings(max_examples=200)
@pytest.mark.parametrize("make", [Grammar.regex, Grammar.lark])
def test_whatever_is_typed_is_a_grammar_or_an_error(make, text):
    for typed in (text, f"start: {text}", f"start: /{text}/"):
        try:
            grammar = make(typed)
        except GrammarError as error:
            assert error.line is None or 1 <= error.line <= typed.count("\n") + 2
        else:
            assert Grammar.from_dict(grammar.to_dict()) == grammar


def test_what_is_put_together_has_the_texts_of_a_regular_expression_and_is_read_back_the_same():
    texts = ["".join(letters) for n in range(4) for letters in itertools.product("ab,", repeat=n)]
    n_made = 0
    for seed in range(60):
        rng = random.Random(seed)
        try:
            made, expression = put_together(rng, rng.randint(0, 4))
        except GrammarError as error:
            assert "left recursion" in str(error)
            continue
        n_made += 1
        wanted = [place for place, t in enumerate(texts) if not re.fullmatch(expression, t)]
        assert list(made.coverage(texts).refused) == wanted, (made, expression)
        assert Grammar.from_dict(made.to_dict()) == made
    assert n_made > 30


def test_names_are_given_and_changed():
    letter = LETTER.rename({"root": "letter"})
    assert (letter + letter).rules == {"root": "letter letter-2", "letter": '"a" | "b"'} | {
        "letter-2": '"a" | "b"'
    }
    assert letter.rename({"letter": "sign"}).rules == {"root": "sign", "sign": '"a" | "b"'}
    for names in ({"x": "y"}, {"letter": "root"}, {"letter": "a_b"}, {"letter": 5}):
        with pytest.raises(GrammarError):
            letter.rename(names)
    with pytest.raises(GrammarError, match="same name"):
        Grammar.gbnf("root ::= x y\nx ::= y\ny ::= [a]").rename({"x": "y"})
    with pytest.raises(GrammarError, match="'letter' cannot be named 'root': all of a text is"):
        letter.rename({"letter": "root"})


def test_rules_are_overridden_and_extended(json_grammar):
    other = json_grammar.override(value='"1" | "2"', ws='""')
    assert other.rules["value"] == '"1" | "2"'
    assert json_grammar.override({"value": LETTER}).rules["value"] == "part"
    dated = json_grammar.extend("value ::= date\ndate ::= [0-9]{4}")
    assert dated.rules["value"].endswith(" | date")
    assert json_grammar.diff(dated) == "\n".join(
        [
            "--- before",
            "+++ after",
            f"-value ::= {json_grammar.rules['value']}",
            f"+value ::= {dated.rules['value']}",
            "+date ::= [0-9]{4}",
        ]
    )
    assert dated.diff(dated) == ""
    with pytest.raises(GrammarError, match="no rule 'valeu' to override"):
        json_grammar.override(valeu="x")
    with pytest.raises(GrammarError, match="column 5: no rule is named 'foo'"):
        json_grammar.override(value='"a" foo')
    with pytest.raises(GrammarError, match="expected the end"):
        json_grammar.override(value='"a" ) x ::= "b"')
    with pytest.raises(GrammarError, match="left recursion"):
        json_grammar.override(value='value "a"')
    with pytest.raises(GrammarError, match="json schema, which is not written as GBNF"):
        JSON.extend('root ::= "x"')


def test_it_may_be_extended_very_often():
    grammar = LETTER
    for _ in range(1200):
        grammar = grammar.extend('root ::= "c"')
    assert len(pickle.loads(pickle.dumps(grammar)).rules["root"]) == 7200 + 9


def test_what_is_no_gbnf_says_so():
    assert not JSON.is_gbnf
    assert (LETTER + JSON).rules["part-2"].startswith("json_schema(")
    with pytest.raises(GrammarError, match="rule 'root' is json schema"):
        JSON.to_gbnf()


def test_a_file_is_read(tmp_path):
    path = tmp_path / "a.gbnf"
    path.write_bytes('\ufeffroot ::= "é"\n'.encode())
    assert Grammar.file(path) == Grammar.choice(["é"])
    path.write_bytes(b'root ::= "\xe9"')
    with pytest.raises(GrammarError, match="no UTF-8: its byte 10 is 0xe9"):
        Grammar.file(path)
    path.write_bytes(b" " * 5_000_000)
    with pytest.raises(GrammarError, match="characters"):
        Grammar.file(path)
    with pytest.raises(FileNotFoundError):
        Grammar.file(tmp_path / "none")


@pytest.mark.parametrize("texts", [[], ["a\0"], ["\ud800"]])
def test_a_choice_of_what_cannot_be_written_is_refused(texts):
    with pytest.raises(ValueError, match=r"choice|NUL|surrogate"):
        Grammar.choice(texts)


def test_a_choice_of_texts_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(options, "LONGEST_LIST", 1000)
    with pytest.raises(ValueError, match="more than 1000 texts"):
        Grammar.choice(str(n) for n in itertools.count())


@pytest.mark.parametrize("texts", ["ab", 5, [5], None])
def test_a_choice_is_of_a_list_of_texts(texts):
    with pytest.raises(TypeError):
        Grammar.choice(texts)


def test_a_choice_is_of_whatever_holds_texts_and_stays_as_it_was():
    table = pd.DataFrame({"city": ["Oslo", "Rom", "Oslo"], "size": pd.Categorical(["a", "b", "a"])})
    same = Grammar.choice(["Oslo", "Rom"])
    for texts in (
        table["city"],
        table["city"].astype("string"),
        pd.Index(["Oslo", "Rom"]),
        np.array(["Oslo", "Rom"]),
        np.array(["Oslo", "Rom"], object),
        {"Oslo": 1, "Rom": 2},
        (city for city in ("Oslo", "Rom")),
    ):
        grammar = Grammar.choice(texts)
        assert grammar == same and repr(grammar) == repr(same)
    assert Grammar.choice(table["size"]) == LETTER
    grammar = Grammar.choice(table["city"])
    table.loc[0, "city"] = "Wien"
    assert grammar == same and Grammar.choice(table["city"]) != same


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, 5, ["a"]], ids=str)
def test_what_a_column_has_besides_texts_is_refused_with_the_way_out(missing):
    column = pd.Series(["a", missing], dtype=object)
    with pytest.raises(TypeError, match=r"no text. Of a table's column, .dropna\(\)"):
        Grammar.choice(column)
    with pytest.raises(TypeError, match=r"\.dropna\(\)"):
        LETTER.override(root=column)


def test_a_rule_is_overridden_by_a_list_of_texts_as_by_a_choice_of_them():
    order = Grammar.gbnf('root ::= n " x " what\nn ::= [0-9]\nwhat ::= "?"')
    column = pd.Series(["tea", 'a "b"', "tea"])
    changed = order.override(what=column, n=["1", "2"])
    by_hand = order.override(what='"tea" | "a \\"b\\""', n='"1" | "2"')
    assert changed == by_hand and changed.to_gbnf() == by_hand.to_gbnf()
    assert order.override({"what": ["x"]}) == order.override(what='"x"')
    with pytest.raises(ValueError, match="a choice is of 1 to"):
        order.override(what=[])
    with pytest.raises(TypeError, match="the right side of 'what'=5: it must be a list of texts"):
        order.override(what=5)


def test_what_is_no_grammar_is_not_added():
    for wrong in (5, None, b"x", ["a"]):
        with pytest.raises(TypeError):
            LETTER + wrong
        with pytest.raises(TypeError):
            wrong | LETTER
        with pytest.raises(TypeError):
            LETTER.many(separator=wrong)
        with pytest.raises(TypeError):
            LETTER.diff(wrong)


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"rules": ["root"], "gbnf": 'root ::= "a"', "parts": []},
        {"rules": ["x"], "gbnf": 'root ::= "a"', "parts": {}},
        {"rules": ["root"], "gbnf": "", "parts": {}},
        {"rules": ["root"], "gbnf": "", "parts": {"root": {"regex": "("}}},
        {"rules": ["root"], "gbnf": "", "parts": {"root": {"json_schema": "["}}},
        {"rules": ["root"], "gbnf": "", "parts": {"root": {"python": "1"}}},
        {"rules": [["root"]], "gbnf": 'root ::= "a"', "parts": {}},
        {"rules": ["root"], "gbnf": 5, "parts": {}},
    ],
)
def test_a_dict_that_is_none_is_refused(data):
    with pytest.raises((ValueError, TypeError)):
        Grammar.from_dict(data)


# What llguidance reads.


@pytest.mark.parametrize("text", ["[a-z", "(?=a)b", r"\bfoo", r"(a)\1", "(" * 5000, "a{2,1}"])
def test_a_regular_expression_that_cannot_be_read_is_refused(text):
    with pytest.raises(GrammarError, match="no regular expression"):
        Grammar.regex(text)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("a\\", 2, "nothing is after this backslash"),
        ("a\\\\\\", 4, "nothing is after this backslash"),
        ("(?x)a # b\nc", 1, "not for several lines here"),
        ("\\\\(?ix-s:a\n)", 3, "not for several lines here"),
    ],
)
def test_what_llguidance_would_lose_of_a_regular_expression_is_refused(text, column, said):
    with pytest.raises(GrammarError, match=f"line 1, column {column}: .*{said}"):
        Grammar.regex(text)


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("a(b", 1, 2, "unclosed group"),
        ("*a", 1, 1, "repetition operator missing expression"),
        ("é日[z-a]", 1, 4, "invalid character class range"),
        ("a/\\/b/\t(", 1, 8, "unclosed group"),  # llguidance shows a slash and a tab as two
        ("ab\nc\\\n\\\\\n[x", 4, 1, "unclosed character class"),
        ("(?P<a>x)(?P<a>y)", 1, 13, "duplicate capture group name"),
        ("x" * 600 + ")", 1, 601, "unopened group"),
    ],
)
def test_what_is_no_regular_expression_is_refused_with_a_place(text, line, column, said):
    with pytest.raises(GrammarError, match=f"^line {line}, column {column}: .*{said}") as caught:
        Grammar.regex(text)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_the_place_in_a_regular_expression_has_a_caret():
    with pytest.raises(GrammarError) as caught:
        Grammar.regex("year: ([0-9]{4}")
    assert str(caught.value) == (
        "line 1, column 7: no regular expression: unclosed group.\n  year: ([0-9]{4}\n        ^"
    )


def test_what_it_would_not_lose_is_none_of_that():
    assert Grammar.regex("a\\\\").examples(2) == ["a\\"]
    assert Grammar.regex("(?x)a b").examples(2) == ["ab"]
    assert set(Grammar.regex("\\(?x:\n").examples(9)) == {"x:\n", "(x:\n"}


@pytest.mark.parametrize("make", [Grammar.regex, Grammar.lark])
def test_nul_and_halves_of_characters_are_refused(make):
    for sign in "\0\ud800\udfff":
        with pytest.raises(GrammarError, match="line 1, column 2"):
            make(f"a{sign}")
    with pytest.raises(GrammarError, match="may have 300000"):
        make("a" * 300_001)
    with pytest.raises(TypeError):
        make(5)


def test_lark_is_refused_with_a_place():
    with pytest.raises(GrammarError, match="unknown name") as caught:
        Grammar.lark('x: "a"\nstart: foo')
    assert (caught.value.line, caught.value.column) == (2, 8)
    assert str(caught.value).endswith("\n  start: foo\n         ^")
    for text in ("", 'x: "a"', "start: " + "(" * 10_000, "start: @foo", 'A: A "b"\nstart: A'):
        with pytest.raises(GrammarError):
            Grammar.lark(text)


def test_long_lines_of_rules_and_references_do_not_end_the_process():
    lines = [f'r{n}: r{n + 1} "b"' for n in range(12_000)]
    Grammar.lark("\n".join(["start: r0", *lines, 'r12000: "a"']))
    refs = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(6000)}
    Grammar.json_schema({"$ref": "#/$defs/d0", "$defs": {**refs, "d6000": {"type": "string"}}})


def test_expressions_that_would_take_for_ever_are_read_at_once():
    for text in ("(a{1000}){1000}", "((a*)*)*b", "(a{0,100}b{0,100}){0,100}", "(x+x+)+y"):
        began = time.monotonic()
        Grammar.regex(text)
        assert time.monotonic() - began < 5  # they take hundredths of a second


def test_a_large_grammar_that_was_made_can_be_written_and_read_back():
    large = Grammar.choice([f"{n} " + "x" * 60 for n in range(20_000)])
    assert Grammar.from_dict(large.to_dict()) == large
    assert len(large.to_gbnf()) > 1_200_000


def test_doubling_a_grammar_ends_in_an_error_and_not_with_the_memory(monkeypatch):
    monkeypatch.setattr("mullama_lab.engine.grammar.grammar.MOST_NODES", 1000)
    long = Grammar.gbnf('root ::= "a" [b] "c" [d]')
    with pytest.raises(GrammarError, match="at most 1000 texts"):
        for _ in range(20):
            long = long + long


def test_a_schema_that_is_too_deep_in_a_dict_is_refused():
    with pytest.raises(ValueError, match="too deep"):
        Grammar.from_dict(
            {"rules": ["root"], "gbnf": "", "parts": {"root": {"json_schema": "[" * 100_000}}}
        )


def test_a_grammar_is_put_together_of_others_many_times_in_short_time():
    made = again = Grammar.choice(["a"])
    began = time.process_time()
    for _ in range(600):
        made = (made + "b").optional()
        again = (again | "b").many(0, 2, separator=",")
    assert time.process_time() - began < 15, "each step went through all that there was"
    assert again.rules["root"] == '(part-1199 ("," part-1199)?)?' and len(again.rules) == 1200
    assert list(made.rules) == ["root", *(f"part-{n}" for n in range(1199, 1, -1)), "part"]
    assert made.rules["root"] == "part-1199?" and made.rules["part"] == '"a" "b"'
    stored = Grammar.from_dict(made.to_dict())
    assert made == stored and hash(made) == hash(stored)
    assert made.coverage(["", "b", "a" + 600 * "b", "a"]).refused == (3,)


def test_what_may_begin_with_itself_is_found_where_grammars_are_put_together():
    with pytest.raises(GrammarError, match="left recursion"):
        Grammar.gbnf('root ::= "a"?').many().many().override(root='root "x" | "y"')
    for bounded in (LETTER.many().many(0, 2), LETTER.optional().many(1, 3).many(0, 2)):
        assert Grammar.gbnf(bounded.to_gbnf()).rules == bounded.rules
    looped = Grammar.gbnf('root ::= "(" root ")" | "a"')
    assert (looped + looped).rules["root"] == "part part-2"
    twice = looped + "." + (looped | "b")
    assert not twice.coverage(["((a)).b", "a.(a)"]).refused

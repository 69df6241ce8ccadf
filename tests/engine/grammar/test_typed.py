"""A grammar that is typed in an editor is the one that Python makes, and is written again."""

from __future__ import annotations

import re

import pytest

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.typed import read_grammar, write_grammar
from mullama_lab.errors import GrammarError
from tests.engine.grammar.conftest import FILES

JSON = '{"type": "object",\n "properties": {"a": {"type": "integer"}}}'

SAME = [
    ('"yes" | "no"', Grammar.gbnf('root ::= "yes" | "no"')),
    ('"yes"\n| "no" # or', Grammar.gbnf('root ::= "yes" | "no"')),
    ("root ::= x\nx ::= [a-z]+", Grammar.gbnf("root ::= x\nx ::= [a-z]+")),
    (' {"type": "integer"}\n', Grammar.json_schema({"type": "integer"})),
    (JSON, Grammar.json_schema({"type": "object", "properties": {"a": {"type": "integer"}}})),
    ("/[0-9]+/", Grammar.regex("[0-9]+")),
    ("/a/b/", Grammar.regex("a/b")),
]


@pytest.mark.parametrize("text, grammar", SAME)
def test_what_is_typed_is_what_python_makes(text, grammar):
    assert read_grammar(text) == grammar
    assert read_grammar(write_grammar(grammar)) == grammar


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_grammar_of_llama_cpp_is_written_and_read_again(path):
    grammar = Grammar.file(path)
    assert read_grammar(write_grammar(grammar)) == grammar


def test_what_has_no_such_text_is_not_written():
    assert write_grammar(Grammar.lark("start: /a+/")) is None
    assert write_grammar(Grammar.regex("a") + "b") is None


@pytest.mark.parametrize(
    "text, said",
    [
        ('"yes', "line 1, column"),
        ('"a" | x', "line 1, column 7"),
        ('{"type": "object",\n "x" 3}', "line 2, column 6"),
        ('{"tipe": "object"}', "'tipe' at #"),
        ('{"fruit": "", "n": 2}', '"fruit": {"type": "string"}, "n": {"type": "integer"}'),
        ("apple, pear", 'line 1, column 1: put words in quotes: "apple" | "pear"\n'),
        ("apple\npear\n", '"apple" | "pear"\n'),
        ("'red apple' | 'pear'", '"red apple" | "pear"\n'),
        ('"a", "b", "c", "d"', '"a" | "b" | "c" | …'),
        ("apple", 'quotes: "apple"\n'),
        ("[a-z]+ | pear", "no rule is named"),
        ("/(/", "regular expression"),
        ("root ::= [a", "line 1"),
        ("\0", "line 1"),
        ("\ud800", "line 1"),
        ("/\ud800/", "half of a character"),
        ('{"const": "\ud800"}', "half of a character"),
    ],
)
def test_an_error_says_where(text, said):
    with pytest.raises(GrammarError, match=re.escape(said)):
        read_grammar(text)
